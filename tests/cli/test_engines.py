"""The engines of a running server: seen, killed, loaded, unloaded, reloaded. Real children."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.conftest import Place
from tests.weights.places import write_model


@contextmanager
def served(place: Place) -> Iterator[subprocess.Popen[str]]:
    """Run ``serve`` until every engine is ready; at the end a SIGTERM must leave nothing."""
    server = place.start("serve")
    try:
        wait_for(lambda: is_ready(place) or server.poll() is not None)
        assert server.poll() is None, server.communicate()[1]
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert place.left_behind() == []


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)  # noqa: TID251  another process has no event for us
    raise AssertionError("in vain")


def get(place: Place, path: str) -> Any:  # noqa: ANN401  JSON
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}{path}", timeout=30) as response:
        return json.load(response)


def is_ready(place: Place) -> bool:
    try:
        return bool(get(place, "/ready")["status"] == "ready")
    except (urllib.error.URLError, ConnectionError):
        return False


def engines(place: Place) -> dict[str, dict[str, Any]]:
    done = place.run("ps", "--json")
    assert done.returncode == 0, done.stderr
    return {entry["engine"]: entry for entry in json.loads(done.stdout)["data"]}


def ask(place: Place) -> dict[str, Any]:
    done = place.run("ask", "x", "--json", "--port", str(place.port))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_ps_shows_state_share_and_use_of_every_engine(place: Place) -> None:
    with served(place):
        ask(place)
        found = engines(place)
        shown = place.run("ps").stdout

    assert set(found) == {"a", "b", "judge"}
    assert {entry["phase"] for entry in found.values()} == {"ready"}
    assert all(entry["memory_bytes"]["actual"] > 1 << 20 for entry in found.values())
    assert all(entry["memory_bytes"]["planned"] > 1 << 20 for entry in found.values())
    assert found["b"]["roles"] == ["member"]
    assert found["a"]["tokens_per_second"] == 0
    assert all(name in shown for name in ("a", "b", "judge", "ready", "cores", "GiB"))


def test_a_killed_engine_is_back_and_says_how_often_it_was_started(place: Place) -> None:
    with served(place):
        before = engines(place)["b"]
        os.killpg(before["pid"], signal.SIGKILL)
        wait_for(lambda: engines(place)["b"]["restarts"] == 1)
        wait_for(lambda: engines(place)["b"]["phase"] == "ready")

        assert engines(place)["b"]["pid"] != before["pid"]
        assert ask(place)["status"] == "full"


def test_an_unloaded_engine_is_gone_until_it_is_loaded(place: Place) -> None:
    with served(place):
        unloaded = place.run("unload", "a")
        answer = ask(place)
        gone = engines(place)["a"]
        loaded = place.run("load", "a")
        back = ask(place)

    assert (unloaded.returncode, unloaded.stdout) == (0, "a: stopped\n")
    assert gone["pid"] is None
    assert [c["failure_reason"] for c in answer["candidates"] if c["model"] == "a"] != [None]
    assert loaded.stdout == "a: ready\n"
    assert back["status"] == "full"


def test_a_model_of_no_preset_can_be_loaded_and_asked_by_its_name(place: Place) -> None:
    place.models.append("extra")
    place.write()
    with served(place):
        loaded = place.run("load", "extra")
        body = json.dumps({"model": "extra", "messages": [{"role": "user", "content": "x"}]})
        request = urllib.request.Request(
            f"http://127.0.0.1:{place.port}/v1/chat/completions",
            body.encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        place.run("unload", "extra")
        left = engines(place)

    assert loaded.stdout == "extra: ready\n"
    assert answer["model"] == "extra"
    assert "extra" not in left


def test_unknown_engines_are_refused_with_the_known_names(place: Place) -> None:
    with served(place):
        done = place.run("load", "juge")

    assert done.returncode == 1
    assert "judge" in done.stderr


def test_reload_swaps_only_what_changed(place: Place) -> None:
    place.models.append("c")
    with served(place) as server:
        before = engines(place)
        panel = ["a", {"model": "c", "n": 2}]
        changed = {"panel": panel, "judge": "judge", "grace": "3s"}
        place.write(presets={"demo": {**changed, "options": {"analysis": "separate"}}})
        done = place.run("reload")
        after = engines(place)
        answer = ask(place)
        place.write(presets={"demo": {"panel": ["a"], "judge": "judge"}})
        server.send_signal(signal.SIGHUP)
        wait_for(lambda: set(engines(place)) == {"a", "judge"})

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "engine b: removed" in lines
    assert "engine c: added" in lines
    assert "preset demo: panel, grace changed" in lines
    assert {name: after[name]["pid"] for name in ("a", "judge")} == {
        name: before[name]["pid"] for name in ("a", "judge")
    }
    assert [c["model"] for c in answer["candidates"]] == ["a", "c", "c"]
    assert answer["status"] == "full"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("presets: [", "no valid YAML"),
        ("models: {}", "models"),
    ],
)
def test_an_invalid_file_changes_nothing(place: Place, text: str, words: str) -> None:
    with served(place):
        before = engines(place)
        good = place.file.read_text()
        place.file.write_text(text)
        request = urllib.request.Request(f"http://127.0.0.1:{place.port}/v1/reload", method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        refused = json.load(caught.value)["error"]["message"]
        place.file.write_text(good)
        again = place.run("reload").stdout
        after = engines(place)

    assert words in refused
    assert again == "nothing has changed\n"
    assert {n: e["pid"] for n, e in after.items()} == {n: e["pid"] for n, e in before.items()}


def test_a_missing_model_is_replaced_by_its_fallback_and_everybody_says_so(place: Place) -> None:
    models = {m: {"source": {"path": f"w/{m}"}} for m in place.models}
    lost = {"source": {"hub": "maker/lost"}, "fallback": "a"}
    place.write(
        models={**models, "lost": lost},
        presets={"demo": {"panel": ["lost", "b"], "judge": "judge"}},
    )
    with served(place):
        answer = ask(place)
        shown = place.run("ps").stdout

    assert [c["model"] for c in answer["candidates"]] == ["a", "b"]
    assert (answer["status"], answer["reason"]) == ("degraded", "model_replaced")
    assert "lost is gone (its weights are missing); a stands in" in shown


def test_ps_without_a_server_says_how_to_start_one(place: Place) -> None:
    done = place.run("ps")

    assert done.returncode == 2
    assert "localfusion serve" in done.stderr


def test_an_engine_that_cannot_start_does_not_keep_the_others_from_serving(place: Place) -> None:
    place.models.append("c")
    write_model(place.root / "w" / "c")
    place.write(
        '$(case "$*" in *"served-model-name b "*) echo "--no-such-flag-at-all x; exit 3";; esac)',
    )
    server = place.start("serve")
    try:
        wait_for(lambda: _phase(place, "a") == _phase(place, "judge") == "ready")
        assert ask(place)["status"] in ("degraded", "single", "full")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def _phase(place: Place, name: str) -> str | None:
    try:
        rows = get(place, "/v1/engines")["data"]
    except (urllib.error.URLError, ConnectionError):
        return None
    phases: dict[str, str] = {row["engine"]: row["phase"] for row in rows}
    return phases[name]


def test_weights_that_changed_while_serving_are_not_loaded_again(place: Place) -> None:
    with served(place):
        assert place.run("unload", "a").returncode == 0
        (place.root / "w" / "a" / "tokenizer.json").write_text("{ }")

        loaded = place.run("load", "a")

        assert loaded.returncode != 0
        assert "tokenizer.json has 3 bytes, the manifest says 2" in loaded.stderr
