"""``localfusion eval`` as users run it: simulated servers as children, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.conftest import Place

RUN = ("eval", "run", "small", "--preset", "demo", "--limit", "8", "--live", "1")


def folders(place: Place) -> list[Path]:
    return sorted((place.root / "c" / "evals").iterdir())


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_run_ends_with_a_verdict_a_report_and_a_line_in_the_list(place: Place) -> None:
    done = place.run(*RUN)
    (folder,) = folders(place)
    listed = place.run("eval", "list")
    again = place.run("eval", "report", folder.name, "--json")
    told = json.loads(again.stdout)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("On these 8 tasks it is undecided whether the panel beats")
    assert "This run can detect differences of" in done.stdout
    assert "members answer: 8/8" in done.stderr
    assert str(folder / "report.html") in done.stderr
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert told["calls"]["panel"] > 24  # and the draws of self_fusion
    assert folder.name in listed.stdout
    assert told["n"] == 8
    assert told["identity"]["engines"].keys() == {"a", "b", "judge"}
    assert {arm["name"] for arm in told["arms"]} >= {
        "member:a",
        "judge",
        "self_fusion",
        "self_vote",
        "vote",
        "select",
        "fuse",
        "fuse:none",
        "auto",
        "best",
        "placebo",
        "oracle",
    }
    traces = {row["trace"] for row in rows(folder, "outcomes.jsonl") if row["arm"] == "fuse"}
    shown = place.run("traces", "show", traces.pop())
    assert shown.returncode == 0, shown.stderr
    assert place.left_behind() == []


def test_killed_run_goes_on_where_it_stopped(place: Place) -> None:
    process = place.start(*RUN, "--arms", "vote")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("arms answer"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = folders(place)
    before = rows(folder, "recordings.jsonl")
    unfinished = place.run("eval", "list")
    looked = place.run("eval", "report")
    resumed = place.run(*RUN, "--arms", "vote", "--resume")
    finished = place.run(*RUN, "--arms", "vote", "--resume")

    assert len(before) == 24
    assert "unfinished; go on with --resume" in unfinished.stdout
    assert looked.returncode == 0, looked.stderr
    assert "unfinished: nothing is written" in looked.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert folders(place) == [folder]
    assert rows(folder, "recordings.jsonl") == before
    assert "calls: 24 of the panel" in resumed.stdout
    assert finished.returncode == 2
    assert "nothing to resume" in finished.stderr


def test_recordings_of_one_run_serve_another_judge(place: Place) -> None:
    first = place.run(*RUN, "--arms", "vote")
    (folder,) = folders(place)
    other = ("--arms", "fuse:none", "--recordings", folder.name)
    second = place.run(*RUN, *other)
    compared = place.run("eval", "compare", folder.name, folders(place)[-1].name)
    refused = place.run("eval", "run", "small", "--limit", "4", "--live", "0", *other)
    fitted = place.run("eval", "gate", folder.name)

    assert first.returncode == second.returncode == 0, second.stderr
    assert "calls: 0 of the panel" in second.stdout
    assert compared.returncode == 0, compared.stderr
    assert "nothing that is recorded" in compared.stdout
    assert refused.returncode == 2
    assert "panels differ from this plan's in data" in refused.stderr
    assert fitted.returncode == 0, fitted.stderr
    assert (folder / "gate.yaml").read_text().strip() == fitted.stdout.strip()


def test_missing_packages_are_named(place: Place) -> None:
    code = "import sys; sys.modules['scipy'] = None; from localfusion.cli import main; main()"
    refused = subprocess.run(
        [sys.executable, "-c", code, "eval", "run", "small"],
        env=place.env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 2
    assert "pip install 'localfusion[eval]'" in refused.stderr


def test_what_cannot_be_evaluated_is_refused_before_any_engine_starts(place: Place) -> None:
    broken = place.root / "broken.jsonl"
    broken.write_text('{"question": "2+2?"}\n')
    rubric = {"sections": [{"criteria": [{"id": "c", "weight": 1, "requirement": "It is so."}]}]}
    open_ = place.root / "open.jsonl"
    open_.write_text(json.dumps({"id": "1", "problem": "Why?", "answer": rubric}))
    for arguments, says in (
        (("open", "--data", str(open_)), "--scoring-model NAME"),
        (("open", "--data", str(open_), "--scoring-model", "x"), "no model 'x'"),
        (("smal",), "there is no suite 'smal'"),
        (("gsm8k",), "suite gsm8k reads a file of yours: --data FILE.jsonl"),
        (("gsm8k", "--data", str(broken)), f"{broken}:1: answer: missing"),
    ):
        refused = place.run("eval", "run", *arguments)
        assert refused.returncode == 2
        assert says in refused.stderr
        assert "ready" not in refused.stderr
    nothing = place.run("eval", "report", "nothing")
    assert nothing.returncode == 2
    assert "see localfusion eval list" in nothing.stderr
    wrong = place.run(*RUN, "--arms", "fuze")
    assert wrong.returncode == 2
    assert "--arms: there is no arm 'fuze'" in wrong.stderr
    assert "ready" not in wrong.stderr
    graded = place.run("eval", "suites")
    assert "draco" in graded.stdout


def test_judge_is_tested_and_its_report_written(place: Place) -> None:
    tests = "clean,inject-canary,judge-fault"
    done = place.run("eval", "judge", "--preset", "demo", "--limit", "3", "--tests", tests)
    (folder,) = folders(place)
    told = json.loads((folder / "judge.json").read_text())
    wrong = place.run("eval", "judge", "--tests", "ordr")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("judge as judge of demo, 3 cases a test: ")
    assert "calls of the judge, none of a member" in done.stdout
    assert [test["name"] for test in told["tests"]] == tests.split(",")
    assert (folder / "judge.html").read_text().startswith("<!doctype html>")
    assert wrong.returncode == 2
    assert "there is no test 'ordr'" in wrong.stderr
    assert "ready" not in wrong.stderr
    assert place.left_behind() == []
