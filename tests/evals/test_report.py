"""The report: a plain verdict, what it counts, and a page that model text cannot break."""

from dataclasses import replace
from typing import Any

import pytest

from localfusion.errors import EvaluationError
from localfusion.evals.report import (
    compare,
    compare_text,
    html_page,
    make_report,
    terminal_text,
)
from localfusion.evals.results import MEMBER, Live, Results
from localfusion.evals.samples import Score
from localfusion.types import Usage
from tests.evals.made_up import HOSTILE, results


def verdict(found: Results) -> dict[str, Any]:
    told = make_report(found)["verdict"]
    assert isinstance(told, dict)
    return told


def test_verdict_is_plain_and_has_its_interval() -> None:
    gain = verdict(results(fuse=0.9))
    loss = verdict(results(600, fuse=0.3))
    open_ = verdict(results(60, fuse=0.52))

    assert gain["kind"] == "pays"
    assert gain["sentence"].startswith("On these 200 tasks the panel beats its best member (+4")
    assert loss["kind"] == "does not pay"
    assert loss["sentence"].startswith(
        "On these 600 tasks the panel does not beat its best member (−2"
    )
    assert "95 % CI −" in loss["sentence"]
    assert loss["sentence"].endswith("; vote would.")
    assert open_["kind"] == "undecided"
    assert "it is undecided whether the panel beats its best member" in open_["sentence"]
    assert "tasks would decide" in open_["sentence"]
    assert open_["sentence"].endswith("underpowered.")
    assert open_["needed"] > 60


def test_no_gain_is_claimed_whose_interval_holds_zero() -> None:
    for seed in range(30):
        told = verdict(results(100, fuse=0.55, seed=seed))
        low, _ = told["interval"]
        assert (told["kind"] == "pays") == (low > 0)


def test_small_gain_is_called_small() -> None:
    told = verdict(results(3000, fuse=0.9, members=(0.5,), margin=0.5))

    assert told["kind"] == "pays"
    assert "by less than 50.0 points" in told["sentence"]


def test_failed_answers_count_and_unscored_ones_are_listed() -> None:
    found = results(50)
    outcomes = list(found.outcomes)
    places = [place for place, outcome in enumerate(outcomes) if outcome.arm == "fuse"]
    for place in places[:5]:
        outcomes[place] = replace(
            outcomes[place], score=Score(0.0, detail="dead"), status="failed", reason="engine_died"
        )
    for place in places[5:8]:
        outcomes[place] = replace(outcomes[place], score=Score(None, detail="unscored: lost"))
    outcomes[places[8]] = replace(outcomes[places[8]], finish_reason="length")
    told: Any = make_report(replace(found, outcomes=tuple(outcomes), problems=("an engine died",)))
    arm = next(one for one in told["arms"] if one["name"] == "fuse")

    assert (arm["failed"], arm["unscored"], arm["n"], arm["cut"]) == (5, 3, 47, 1)
    assert arm["not_extracted"] == 5
    assert {"arm": "fuse", "reason": "engine_died", "count": 5} in told["failures"]
    assert [one["sample"] for one in told["unscored"]] == ["s5", "s6", "s7"]
    assert next(one["n"] for one in told["comparisons"] if one["is_primary"]) == 47
    for view in (terminal_text(told), html_page(told)):
        assert "an engine died" in view
        assert "engine_died" in view


def test_partial_scores_widen_what_they_touch() -> None:
    found = results(120)
    wide = tuple(
        replace(o, score=Score(0.2, high=0.8, extracted="x")) if o.arm == "fuse" else o
        for o in found.outcomes
    )
    told: Any = make_report(replace(found, outcomes=wide))
    low, high = told["verdict"]["interval"]

    assert high - low > 0.6
    assert told["verdict"]["kind"] == "undecided"


def test_report_of_an_unfinished_evaluation_says_so() -> None:
    found = results(10)
    members = tuple(o for o in found.outcomes if o.arm.startswith(MEMBER))
    told: Any = make_report(replace(found, outcomes=members))

    assert told["verdict"]["kind"] == "unfinished"
    assert "fuse has not answered yet" in terminal_text(told)
    assert "fuse has not answered yet" in html_page(told)


def test_page_stands_alone_and_model_text_stays_text() -> None:
    told: Any = make_report(results(60, text=HOSTILE, seed=3))
    page = html_page(told)
    linked = html_page(told, lambda trace: f"http://127.0.0.1:8000/#/traces/{trace}")

    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace('http-equiv="', "")
    assert "localfusion traces show trace-s" in page
    assert 'href="http://127.0.0.1:8000/#/traces/trace-s' in linked
    assert page.count("<svg") >= 2
    assert "prefers-color-scheme: dark" in page


def test_costs_come_from_live_samples_alone() -> None:
    found = results(40)
    live = tuple(
        Live(
            arm,
            f"s{n}",
            seconds,
            0.1,
            (("panel", seconds / 2), ("synthesis", seconds / 2)),
            {"a": seconds},
            Usage(),
            "full",
            money=0.01,
            currency="EUR",
        )
        for arm, seconds in (("fuse", 4.0), (f"{MEMBER}a", 1.0), ("vote", 2.0))
        for n in range(3)
    )
    told: Any = make_report(replace(found, live=live))
    arms = {arm["name"]: arm for arm in told["arms"]}

    assert arms["fuse"]["live"]["p50"] == 4.0
    assert arms["fuse"]["live"]["path"] == {"panel": 2.0, "synthesis": 2.0}
    assert arms["fuse"]["live"]["money"] == pytest.approx(0.01)
    assert arms["judge"]["live"] is None
    assert told["frontier"] == [f"{MEMBER}a", "vote"]  # fuse costs more and is no better
    page = html_page(told)
    assert "quality against cost" in page
    assert "not measured" in page  # joules


def test_two_evaluations_of_the_same_samples_compare() -> None:
    first, second = make_report(results(fuse=0.3)), make_report(results(fuse=0.6, judge="k"))
    told: Any = compare(first, second)
    fuse = next(row for row in told["arms"] if row["arm"] == "fuse")

    assert fuse["difference"] == pytest.approx(0.3)
    assert fuse["interval"][0] > 0
    assert told["changed"] == ["judge"]
    assert "+30.0" in compare_text(told)
    for other in (results(100), results(scoring={"number": "2"})):
        with pytest.raises(EvaluationError, match="do not compare"):
            compare(first, make_report(other))


def test_corruption_is_an_example_with_its_trace() -> None:
    found = results(80, members=(1.0, 1.0), fuse=0.9)
    told: Any = make_report(found)

    assert told["flips"]["corrupted"] == 8
    assert len([e for e in told["flips"]["examples"] if e["trace"]]) == 8
    assert told["transitions"][-1]["name"] == "all members right"


def test_all_unscored_answers_are_counted_where_not_all_are_listed() -> None:
    found = results(120)
    lost = tuple(
        replace(o, score=Score(None, detail="lost")) if o.arm == "judge" else o
        for o in found.outcomes
    )
    told: Any = make_report(replace(found, outcomes=lost))

    assert told["unscored_count"] == 120
    assert "unscored: 120, of which the report lists 50" in terminal_text(told)


def test_arms_that_answered_from_other_panels_are_refused() -> None:
    found = results(20)
    panels = {"fuse": "one", "vote": "two"}
    mixed = tuple(replace(o, panel=panels.get(o.arm, "")) for o in found.outcomes)

    with pytest.raises(EvaluationError, match="did not answer from the same panel"):
        make_report(replace(found, outcomes=mixed))


def test_comparison_of_partial_scores_holds_at_both_ends() -> None:
    def partial(low: float, high: float) -> dict[str, object]:
        found = results(60)
        wide = tuple(
            replace(o, score=Score(low, high=high, extracted="x")) if o.arm == "fuse" else o
            for o in found.outcomes
        )
        return make_report(replace(found, outcomes=wide))

    told: Any = compare(partial(0.2, 0.8), partial(0.4, 0.8))
    low, high = next(row["interval"] for row in told["arms"] if row["arm"] == "fuse")

    assert low <= -0.4
    assert high >= 0.6
