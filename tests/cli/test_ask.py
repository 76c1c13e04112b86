"""``localfusion ask`` with engines of its own: what it prints, what it leaves behind."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import Place


def test_answer_goes_to_stdout_and_everything_else_to_stderr(place: Place) -> None:
    place.write("--echo")

    done = place.run("ask", "What do 12 pens cost?", "--show-panel")

    assert done.returncode == 0, done.stderr
    assert (
        "Drafts of an answer" in done.stdout
    )  # the judge echoes its own prompt, up to the first mark
    for seen in ("a: ready", "judge: ready", "3/3", "judge compares the drafts", "answer of a"):
        assert seen in done.stderr
    assert "panel 0." in done.stderr.splitlines()[-1]
    assert place.left_behind() == []


def test_json_is_one_document(place: Place) -> None:
    done = place.run("ask", "-", "--json", stdin="How much?")

    answer = json.loads(done.stdout)
    assert answer["status"] == "full"
    assert [c["model"] for c in answer["candidates"]] == ["a", "b", "b"]
    assert set(answer["analysis"]) >= {"consensus", "blind_spots"}
    assert set(answer["stages"]) - {"prefill"} == {"panel", "analysis", "synthesis"}


def test_control_characters_of_a_model_never_reach_the_terminal(place: Place) -> None:
    place.write("--text '\x1b]0;owned\x07\x1b[31mred'")

    done = place.run("ask", "x", "--show-panel")

    assert "red" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr


def test_members_that_die_are_named_and_the_answer_comes_all_the_same(place: Place) -> None:
    place.write(
        '$(case "$*" in *"served-model-name b "*) echo "--failure error_event --at-token 2";; esac)'
    )

    done = place.run("ask", "x", "--json")

    answer = json.loads(done.stdout)
    assert (answer["status"], answer["model"]) == ("single", "a")
    assert "b lost" in done.stderr


@pytest.mark.parametrize("phase", ["launching", "loading", "panel:", "compares", "answer by"])
def test_interrupt_leaves_nothing_behind(place: Place, phase: str) -> None:
    place.write("--start-seconds 1 --profile cpu-0.5b --text 'one two three four five six seven'")
    process = place.start("ask", "x")
    assert process.stderr is not None
    for line in process.stderr:
        if phase in line:
            break

    process.send_signal(signal.SIGINT)
    error = _rest(process)

    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert place.left_behind() == []


def _rest(process: "subprocess.Popen[str]") -> str:
    timer = threading.Timer(60, process.kill)
    timer.start()
    error = process.communicate()[1]
    timer.cancel()
    return error


def test_killed_outright_its_engines_end_too(place: Place) -> None:
    place.write("--failure stall --at-token 1 --text 'one two three'")
    process = place.start("ask", "x")
    assert process.stderr is not None
    for line in process.stderr:
        if "panel:" in line:
            break

    process.kill()
    _rest(process)
    _wait_for(lambda: not any("sim_server" in left for left in place.left_behind()))

    place.write()
    assert place.run("ask", "x").returncode == 0  # and sweeps the run directory
    assert place.left_behind() == []


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never came true"
        threading.Event().wait(0.05)
