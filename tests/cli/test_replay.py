"""``localfusion replay`` and ``explain`` with a judge of their own, and with a running server's."""

import json
from typing import Any

from tests.cli.conftest import Place
from tests.cli.test_engines import ask, served
from tests.cli.test_traces import HOSTILE, listed, own


def test_recorded_panel_is_judged_once_more_by_an_engine_of_its_own(place: Place) -> None:
    own(place, f"What do pens cost? {HOSTILE}")
    (trace,) = listed(place)
    words = place.root / "words.txt"
    words.write_text("Say it in one word.")
    options = ("--judge", "a", "--prompt", str(words), "--drop", "b#2", "--order", "reversed")
    shown = place.run("replay", trace["id"], *options)
    newest, _ = listed(place)
    table = place.run("traces", "list")
    prompts = place.run("traces", "show", newest["id"], "--prompts")

    assert shown.returncode == 0, shown.stderr
    assert "a: ready" in shown.stderr
    assert "b: ready" not in shown.stderr
    for part in (f"replay of {trace['id']}", "nobody of the panel was asked", "now: degraded"):
        assert part in shown.stdout
    assert "drop 2" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert newest["replay_of"] == trace["id"]
    assert "demo, replay" in table.stdout
    assert "Say it in one word." in prompts.stdout
    assert "=== panel" not in prompts.stdout
    assert place.left_behind() == []


def test_trace_is_explained_with_and_without_an_engine(place: Place) -> None:
    own(place, "What do pens cost?")
    (trace,) = listed(place)
    plain = place.run("explain", trace["id"], "--no-replays")
    whole = place.run("explain", trace["id"], "--expect", "nothing like it", "--json")
    told: Any = json.loads(whole.stdout)

    assert plain.returncode == 0, plain.stderr
    assert plain.stderr == ""  # no engine was started
    assert plain.stdout.startswith("panel: ")
    assert "judge: ready" in whole.stderr
    assert (told["verdict"], told["is_right"]) == ("panel", False)
    assert len(told["replays"]) == 5
    assert len(listed(place)) == 6


def test_running_server_replays_and_explains(place: Place) -> None:
    words = place.root / "words.txt"
    words.write_text("Say it in one word.")
    with served(place):
        ask(place)
        (trace,) = listed(place)
        replayed = place.run("replay", trace["id"], "--drop", "a", "--json")
        explained = place.run("explain", trace["id"], "--json")
        refused = place.run("replay", trace["id"], "--prompt", str(words))
        unknown = place.run("replay", trace["id"], "--judge", "nobody")

    told = json.loads(replayed.stdout)
    assert (told["replay_of"], told["changes"]) == (trace["id"], {"drop": [0]})
    assert json.loads(explained.stdout)["id"] == trace["id"]
    assert (refused.returncode, "--own-engines" in refused.stderr) == (2, True)
    assert (unknown.returncode, "judge: there is no model" in unknown.stderr) == (1, True)


def test_odd_replays_are_refused_with_the_remedy(place: Place) -> None:
    own(place, "What do pens cost?")
    (trace,) = listed(place)
    for arguments, remedy in (
        (("replay", "0" * 32), "localfusion traces list shows them"),
        (("replay", trace["id"], "--order", "random2"), "did you mean 'random'?"),
        (("replay", trace["id"], "--drop", "c"), "it has 0: a, 1: b, 2: b#2"),
        (("replay", trace["id"], "--policy", "layered"), "or ask anew"),
        (("replay", trace["id"], "--judge", "judgee"), "name another with --judge"),
        (("replay", trace["id"], "--prompt", "nowhere"), "name a file with text"),
        (("replay", trace["id"], "--port", str(place.port)), "leave out --port"),
        (("explain", trace["id"], "--expect", ""), "send the right answer"),
    ):
        done = place.run(*arguments)
        assert (done.returncode, remedy in done.stderr) == (2, True), done.stderr
