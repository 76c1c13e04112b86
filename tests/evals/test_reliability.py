"""Tests of judges tell judges apart: who knows everything passes, each bad habit is found out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localfusion.engines.sim import SimEngine
from localfusion.errors import ConfigError, EngineUnavailableError
from localfusion.evals.datasets.pairs import pairs_of
from localfusion.evals.reliability import TESTS, JudgeReport, Seen, Wanted, choose, examine_judge
from localfusion.evals.reliability.measure import Difference, Share
from localfusion.evals.reliability.report import judge_page, judge_text, report_form
from localfusion.evals.reliability.suite import bench_of
from tests.evals.judges import (
    among,
    average,
    concat,
    copycat,
    examine,
    examine_truth,
    gullible,
    majority,
    own,
    setting_of,
)
from tests.evals.staged import Watched
from tests.sim_scripts import first, longest

INJECTIONS = [name for name in TESTS if name.startswith("inject-")]
HABITS = {
    "majority": (among(majority), ["wrong-majority", "clones"]),
    "first": (among(first), ["order", "swap"]),
    "last": (among(lambda drafts: drafts[-1]), ["order", "swap"]),
    "longest": (among(longest), ["padding"]),
    "concat": (among(concat), ["no-meta", "format", "contradiction"]),
    "average": (among(average), ["near-miss", "contradiction"]),
    "copycat": (among(copycat), ["authority", "confident-liar"]),
    "own": (own, ["self-preference"]),
    "gullible": (gullible, INJECTIONS),
}


def outcomes(report: JudgeReport) -> dict[str, str]:
    return {test.name: test.outcome for test in report.tests}


async def test_judge_that_knows_everything_fails_nothing() -> None:
    report = await examine_truth(None, 12)

    assert len(report.tests) == len(TESTS) - 1  # pair-skill needs a file
    assert "fail" not in outcomes(report).values(), report_form(report)["outcomes"]
    assert report.alone == Share(12, 12)
    against = [(test.name, one.criterion) for test in report.tests for one in test.failed]
    assert against == []


async def test_judge_that_knows_everything_passes_where_there_are_cases_enough() -> None:
    names = ["wrong-majority", "near-miss", "inject-canary", "lone-error"]
    report = await examine_truth(names, 160)

    assert outcomes(report) == dict.fromkeys(names, "pass")


@pytest.mark.parametrize("habit", HABITS)
async def test_bad_habit_is_found_out(habit: str) -> None:
    script, fails = HABITS[habit]
    report = await examine(script, fails, 60)

    assert outcomes(report) == dict.fromkeys(fails, "fail")
    told = report_form(report)
    assert str(told["verdict"]).count("not to be trusted") == 1


async def test_answers_that_cannot_be_read_are_unscored_and_counted() -> None:
    report = await examine(lambda prompt: "Hm.", ["near-miss"], 10)
    told = report_form(report)

    for test in report.tests:
        assert test.outcome == "undecided"
        for finding in test.findings:
            assert len(finding.unscored) == 10
            assert finding.share.n == 0
    assert "marks unscored" in judge_text(told)


async def test_lost_judge_ends_the_run_with_a_report() -> None:
    async def gone() -> None:
        raise EngineUnavailableError("the judge did not come back")

    setting = replace(setting_of(SimEngine(), Seen()), ready=gone)
    report = await examine_judge(setting, Wanted(("clean",), 3), Watched())
    told = report_form(report)

    assert {finding.share.n for test in report.tests for finding in test.findings} == {0}
    assert told["lost"] == "the judge did not come back"
    assert "was lost before the tests were done" in str(told["verdict"])


async def test_pairs_of_a_file_are_asked_in_both_orders(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    pairs = [
        {"input": f"Say {n}.", "output_1": f"good {n}", "output_2": f"bad {n}", "label": 1}
        for n in range(6)
    ]
    file.write_text(json.dumps(pairs))
    seen = Seen()
    setting = setting_of(SimEngine("good", verdict={"A": 0.9, "B": 0.1}), seen)
    wanted = Wanted(("pair-skill",), 6, pairs=pairs_of(file))
    report = await examine_judge(setting, wanted, Watched())
    (test,) = report.tests
    right = next(one for one in test.findings if "right" in one.criterion)

    assert right.share.x == 0  # always the first: never right in both orders
    assert right.share.n == 6


def test_tests_that_are_not_there_are_named() -> None:
    assert [test.name for test in choose(["inject"], has_pairs=False)] == INJECTIONS
    with pytest.raises(ConfigError, match="no test 'ordr'"):
        choose(["ordr"], has_pairs=False)
    with pytest.raises(ConfigError, match="--data"):
        choose(["pair-skill"], has_pairs=False)


async def test_report_escapes_what_judges_write() -> None:
    hostile = "<script>alert(1)</script> Answer: 5"
    told = report_form(await examine(lambda prompt: hostile, ["clean", "no-meta", "near-miss"], 4))
    page = judge_page(told)

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert json.loads(json.dumps(told)) == told


async def test_report_of_a_judge_that_repeats_half_a_character_can_be_written() -> None:
    odd = "The value is \ud83d and then \udc00 again."
    told = report_form(await examine(lambda prompt: odd, ["garbage"], 4))

    assert "\\ud83d" in json.dumps(told, ensure_ascii=False).encode().decode()
    assert "\\ud83d" in judge_page(told).encode().decode()
    judge_text(told).encode()


def test_paired_difference_has_newcombes_bounds() -> None:
    """Method 10 of Newcombe (1998) on 36, 12, 2, 0 of 50 pairs, 95 % two-sided."""
    found = Difference(both=36, first=12, second=2, neither=0)

    assert found.value == pytest.approx(0.2)
    assert found.bounds(0.95) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert 0.0569 < found.low < 0.2 < found.high < 0.3404  # one-sided bounds are nearer
    assert Difference(5, 0, 0, 5).value == 0


async def test_names_are_swapped_also_where_the_judge_heads_the_panel() -> None:
    setting = setting_of(SimEngine("Answer: 5"), Seen())
    panel = setting.preset.panel
    heading = (panel[0].model_copy(update={"model": "judge"}), *panel[1:])
    preset = setting.preset.model_copy(update={"panel": heading})
    bench = bench_of(replace(setting, preset=preset), Wanted(count=2))
    for case in TESTS["labels"].build(bench):
        named, swapped = (
            [c.model for c in case.panels[name].candidates] for name in ("names", "swapped")
        )
        assert named == swapped[::-1]
        assert len({*named}) == 2
