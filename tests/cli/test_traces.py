"""``localfusion traces`` of a running server, and of the file where none runs."""

import json
from typing import Any

from tests.cli.conftest import Place
from tests.cli.test_engines import ask, get, served

HOSTILE = "\x1b]0;owned\x07 \x1b[31mred"


def listed(place: Place, *options: str) -> list[dict[str, Any]]:
    done = place.run("traces", "list", "--json", *options)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["data"]
    return found


def own(place: Place, prompt: str) -> None:
    done = place.run("ask", prompt, "--own-engines")
    assert done.returncode == 0, done.stderr


def test_traces_are_read_from_the_file_where_no_server_runs(place: Place) -> None:
    own(place, f"What do pens cost? {HOSTILE}")
    (trace,) = listed(place)
    shown = place.run("traces", "show", trace["id"], "--prompts")
    table = place.run("traces", "list")
    unknown = place.run("traces", "show", "0" * 32)
    none = place.run("traces", "list", "--search", "caps", "--json")
    wrong = place.run("traces", "list", "--status", "fulll")

    assert trace["status"] == "full"
    for part in ("What do pens cost?", "candidate 0", "answer by judge", "waited for", "=== panel"):
        assert part in shown.stdout
    for done in (shown, table):
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
    assert trace["id"] in table.stdout
    assert (unknown.returncode, "there is no trace" in unknown.stderr) == (2, True)
    assert json.loads(none.stdout)["data"] == []
    assert (wrong.returncode, "did you mean 'full'?" in wrong.stderr) == (2, True)


def test_traces_go_elsewhere_and_are_purged(place: Place) -> None:
    own(place, "What do pens cost?")
    (trace,) = listed(place)
    exported = place.run("traces", "export")
    both = place.run("traces", "purge", "--all", trace["id"])
    purged = place.run("traces", "purge", trace["id"])
    gone = listed(place)
    taken = place.run("traces", "import", "-", stdin=exported.stdout * 2)
    (back,) = listed(place)
    again = place.run("traces", "export", trace["id"])
    old = place.run("traces", "purge", "--older-than", "1")
    everything = place.run("traces", "purge", "--all")
    broken = place.run("traces", "import", "-", stdin="{}")
    sound = place.run("traces", "recover")

    assert both.returncode == 2
    assert purged.stdout == "1 deleted\n"
    assert gone == []
    assert taken.stdout == "1 taken in, 1 were here already\n"
    assert back == trace
    assert again.stdout == exported.stdout
    assert (old.stdout, everything.stdout) == ("0 deleted\n", "1 deleted\n")
    assert (broken.returncode, "line 1 is no trace" in broken.stderr) == (2, True)
    assert "sound" in sound.stdout
    assert place.left_behind() == []


def test_running_server_is_asked(place: Place) -> None:
    with served(place):
        ask(place)
        ask(place)
        first, second = listed(place)
        shown = place.run("traces", "show", first["id"], "--json")
        exported = place.run("traces", "export")
        deleted = place.run("traces", "purge", second["id"])
        unknown = place.run("traces", "purge", second["id"])
        left = listed(place)
        refused = place.run("traces", "import", "-", stdin=exported.stdout)
        every = place.run("traces", "purge", "--all")
        over_http = get(place, "/v1/traces")

    versions = json.loads(shown.stdout)["versions"]
    assert set(versions["engines"]) == {"a", "b", "judge"}
    assert all(len(engine["weights"]) == 64 for engine in versions["engines"].values())
    assert len(versions["prompts"]) == len(versions["config"]) == 64
    assert [json.loads(text)["id"] for text in exported.stdout.splitlines()] == [
        second["id"],
        first["id"],
    ]
    assert deleted.stdout == "1 deleted\n"
    assert unknown.returncode == 1
    assert [trace["id"] for trace in left] == [first["id"]]
    assert (refused.returncode, "another localfusion process" in refused.stderr) == (2, True)
    assert every.stdout == "1 deleted\n"
    assert over_http["data"] == []


def test_server_that_was_named_and_is_not_there_is_told(place: Place) -> None:
    done = place.run("traces", "list", "--port", str(place.port))

    assert (done.returncode, "no localfusion server" in done.stderr) == (2, True)
