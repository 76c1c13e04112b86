"""Evaluations on simulated engines: recorded once, judged by every arm, resumed, re-judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import read_eval_log

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import ConfigError, EvaluationError
from localfusion.evals.arms import parse_arms
from localfusion.evals.draws import between
from localfusion.evals.evaluation import adopt
from localfusion.evals.gate import fit_gates, gate_text
from localfusion.evals.inspect_logs import write_logs
from localfusion.evals.report import html_page, make_report
from localfusion.evals.results import MEMBER, Outcome, Results
from localfusion.evals.samples import Score
from localfusion.evals.store import Store, find_folder, newest, read_results
from localfusion.types import Prompt
from tests.evals.staged import Staged, questions, says_right, sums
from tests.sim_scripts import longest, picks
from tests.virtual_time import run

pytestmark = pytest.mark.virtual_time


def scores(results: Results, arm: str) -> dict[str, float | None]:
    return {o.sample: o.score.value for o in results.outcomes if o.arm == arm}


async def test_members_answer_once_and_every_arm_reads_the_same_panels(tmp_path: Path) -> None:
    engines = sums(a=says_right(0, 1, 2, 3), b=says_right(0, 1, 4))
    results = await Staged(engines).run(tmp_path, ("judge", "vote", "fuse:none", "foreign"))

    assert results.panel_calls == 12
    assert scores(results, f"{MEMBER}a") == {f"q{n}": float(n < 4) for n in range(6)}
    assert scores(results, f"{MEMBER}b") == {f"q{n}": float(n in (0, 1, 4)) for n in range(6)}
    panels = {
        arm: {o.sample: o.panel for o in results.outcomes if o.arm == arm}
        for arm in ("fuse", "vote", "fuse:none")
    }
    assert panels["fuse"] == panels["vote"] == panels["fuse:none"]
    assert len(set(panels["fuse"].values())) == 6
    assert scores(results, "fuse") == scores(results, f"{MEMBER}a")  # the judge takes the first
    assert set(scores(results, "judge").values()) == {0.0}
    assert set(scores(results, "foreign").values()) == {0.0}
    assert all(o.panel == "" for o in results.outcomes if o.arm == "judge")


async def test_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class StoppedError(Exception):
        """The process dies here."""

    asked = 0

    async def dies() -> None:
        nonlocal asked
        asked += 1
        if asked > 10:
            raise StoppedError

    engines = sums(a=says_right(0), b=says_right(1))
    arms = ("vote", "judge")
    with pytest.raises(StoppedError):
        await Staged(engines, ready=dies).run(tmp_path, arms)
    torn = tmp_path / "outcomes.jsonl"
    before = read_results(tmp_path)
    with torn.open("ab") as stream:
        stream.write(b'{"arm": "fuse", "sam')
    again = Staged(engines)
    results = await again.run(tmp_path, arms)
    whole = await Staged(engines).run(tmp_path / "whole", arms)

    assert 0 < len(before.recordings) <= 12
    assert again.calls.panel == 12 - len(before.recordings)
    assert results.panel_calls == 12
    assert len(results.outcomes) == len(whole.outcomes)
    assert {(o.arm, o.sample, o.text) for o in results.outcomes} == {
        (o.arm, o.sample, o.text) for o in whole.outcomes
    }
    assert (await Staged(engines).run(tmp_path, arms)).panel_calls == 12  # nothing is left to do


async def test_another_judge_costs_no_panel_call(tmp_path: Path) -> None:
    engines = sums(a=says_right(0, 1), b=says_right(2))
    recorded = await Staged(engines).run(tmp_path / "first", ("vote",))
    other = Staged({**engines, "judge": SimEngine("The answer is 105.")})
    job = other.job(("vote", "fuse:none"))
    store = Store(tmp_path / "second")
    store.begin(job.plan, job.dataset)
    adopt(store, job.plan, recorded)
    results = await other.run(tmp_path / "second", ("vote", "fuse:none"))

    assert other.calls.panel == results.panel_calls == 0
    assert other.calls.judge > 0
    assert scores(results, "fuse")["q5"] == 1.0
    assert scores(results, f"{MEMBER}a") == scores(recorded, f"{MEMBER}a")
    smaller = Staged(engines, dataset=questions(3)).job(("vote",))
    with pytest.raises(EvaluationError, match="differ from this plan's in data"):
        adopt(Store(tmp_path / "third"), smaller.plan, recorded)


async def test_equal_tokens_are_drawn_from_the_member_that_is_best_elsewhere(
    tmp_path: Path,
) -> None:
    engines = sums(a=says_right(*range(6)), b=says_right(wrong="I say that it is 0, or about 0."))
    results = await Staged(engines).run(tmp_path, ("self_fusion", "self_vote"))
    drawn = [r for r in results.recordings if r.member.startswith("draws:")]

    assert {r.member for r in drawn} == {"draws:a"}
    assert scores(results, "self_fusion") == dict.fromkeys((f"q{n}" for n in range(6)), 1.0)
    assert set(scores(results, "self_vote").values()) == {1.0}
    assert sum(note.startswith("self_fusion, fold") for note in results.notes) == 2


def test_outcome_between_two_numbers_of_draws() -> None:
    low = Outcome("self_fusion@2", "q", 0, Score(0.0, extracted="x"))
    high = Outcome("self_fusion@3", "q", 0, Score(1.0))
    found = between("self_fusion", low, high, 0.25)

    assert (found.arm, found.score.value, found.score.extracted) == ("self_fusion", 0.25, "x")
    lost = replace(high, score=Score(None))
    assert between("self_fusion", low, lost, 0.25).score.value is None


async def test_lost_engine_is_asked_again_and_what_it_gave_at_last_counts(tmp_path: Path) -> None:
    deaths = iter([True, True, False, True])

    def dies(_: Prompt) -> SimFailure | None:
        return SimFailure("truncated") if next(deaths, False) else None

    engines = sums(a=says_right(0, 1), b=says_right(2))
    engines["a"] = SimEngine(says_right(0, 1), failure=dies)
    staged = Staged(engines)
    results = await staged.run(tmp_path, ("vote",))

    assert len(results.problems) == 1
    assert staged.progress.notes == list(results.problems)
    assert scores(results, f"{MEMBER}a") == {f"q{n}": float(n < 2) for n in range(6)}
    assert results.panel_calls > 12


async def test_engine_that_never_comes_back_leaves_samples_unscored(tmp_path: Path) -> None:
    engines = sums(a=says_right(0, 1), b=says_right(2))
    engines["a"] = SimEngine("x", failure=SimFailure("truncated"))
    results = await Staged(engines).run(tmp_path, ("vote",))
    report = make_report(results)

    assert set(scores(results, f"{MEMBER}a").values()) == {None}
    assert None not in scores(results, "vote").values()  # the product goes on without it
    told = {arm["name"]: arm for arm in report["arms"]}  # type: ignore[attr-defined]  # JSON
    assert told[f"{MEMBER}a"]["unscored"] == 6
    assert told[f"{MEMBER}a"]["score"] is None
    assert len(report["unscored"]) == 6  # type: ignore[arg-type]  # JSON


async def test_half_a_character_costs_no_run(tmp_path: Path) -> None:
    engines = sums(a=says_right(wrong="\ud800 The answer is 103."), b=says_right(2))
    results = await Staged(engines).run(tmp_path, ("vote",))

    assert scores(results, f"{MEMBER}a")["q3"] == 1.0
    assert html_page(make_report(read_results(tmp_path))).startswith("<!doctype html>")


async def test_subsets_and_live_samples_say_who_earns_a_place(tmp_path: Path) -> None:
    engines = sums(a=says_right(0, 1, 2), b=says_right(3), c=says_right(4))
    results = await Staged(engines).run(tmp_path, ("subsets", "self_fusion", "judge"), live=2)
    report: dict[str, Any] = make_report(results)

    assert [one["member"] for one in report["members"]["worth"]] == ["a", "b", "c"]
    assert sum(one["shapley"] for one in report["members"]["worth"]) == pytest.approx(0.5)
    assert report["members"]["worth"][0]["leave_one_out"] > 0
    assert {live.arm for live in results.live} == {
        *(f"{MEMBER}{name}" for name in "abc"),
        "fuse",
        "self_fusion",
        "judge",
    }
    assert results.panel_calls == 18 + len([r for r in results.recordings if "draws" in r.member])
    served = next(arm for arm in report["arms"] if arm["name"] == "fuse")
    assert served["live"]["joules"] == served["live"]["money"] == "not measured"


async def test_repeats_are_averaged_inside_a_sample(tmp_path: Path) -> None:
    engines = sums(a=says_right(0), b=says_right(1))
    preset = {"panel": [{"model": "a", "n": 2}, "b"]}
    results = await Staged(engines, preset=preset).run(tmp_path, ("vote",), repeats=2)
    report: dict[str, Any] = make_report(results)

    assert results.panel_calls == 6 * 3 * 2
    assert len([o for o in results.outcomes if o.arm == f"{MEMBER}a"]) == 6 * 4
    assert len([o for o in results.outcomes if o.arm == "fuse"]) == 6 * 2
    assert next(arm["n"] for arm in report["arms"] if arm["name"] == "fuse") == 6


async def test_gates_are_fitted_where_they_cost_nothing(tmp_path: Path) -> None:
    engines = sums(a=says_right(*range(260)), b=says_right(*range(260)))
    staged = Staged(engines, dataset=questions(260))
    results = await staged.run(tmp_path, ("vote", "cascade"))
    fits = {fit.option: fit for fit in fit_gates(results)}

    assert fits["gate"].is_proven
    assert fits["gate"].through == 1.0
    assert fits["gate"].saved > 0
    assert fits["max_final_answer"].harmful == 0.0
    assert "options: {gate: " in gate_text([*fits.values()])


async def test_gate_that_harms_is_not_kept(tmp_path: Path) -> None:
    engines = sums(a=says_right(wrong="The answer is 7."), b=says_right(*range(40)))
    engines["judge"] = SimEngine(picks(longest))
    staged = Staged(engines, dataset=questions(40))
    results = await staged.run(tmp_path, ("vote", "cascade"))
    fits = {fit.option: fit for fit in fit_gates(results)}

    assert fits["gate"].value > 1  # shut
    assert fits["gate"].through == 0.0


async def test_gate_needs_something_to_fit(tmp_path: Path) -> None:
    results = await Staged(sums(a=says_right(0), b=says_right(1))).run(tmp_path, ())

    with pytest.raises(EvaluationError, match="--arms vote,cascade,fuse"):
        fit_gates(results)


def test_logs_can_be_read_by_inspect(tmp_path: Path) -> None:
    staged = Staged(sums(a=says_right(0), b=says_right(1)))
    results = run(staged.run(tmp_path, ("vote",)))
    target = write_logs(results, tmp_path)

    assert target is not None
    log = read_eval_log(str(target / "vote.eval"))
    assert log.status == "success"
    assert log.samples is not None
    assert len(log.samples) == 6
    assert log.samples[0].scores is not None
    assert {sample.output.completion for sample in log.samples} == {
        o.text for o in results.outcomes if o.arm == "vote"
    }


async def test_folder_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    staged = Staged(sums(a=says_right(0), b=says_right(1)))
    folder = tmp_path / "run"
    await staged.run(folder, ("vote",))
    with pytest.raises(EvaluationError, match="arms differ"):
        await staged.run(folder, ("judge",))
    with pytest.raises(EvaluationError, match="nothing to resume"):
        newest(tmp_path, staged.job(("judge",)).plan)
    assert newest(tmp_path, staged.job(("vote",)).plan) == folder
    with (
        Store(folder).owned(),
        pytest.raises(EvaluationError, match="another process"),
        Store(folder).owned(),
    ):
        pass
    lines = (folder / "recordings.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "recordings.jsonl").write_bytes(b'{"key": 1}\n' + b"".join(lines[1:]))
    with pytest.raises(EvaluationError, match=r"recordings\.jsonl:1: "):
        read_results(folder)
    with pytest.raises(EvaluationError, match=r"no plan\.json"):
        read_results(tmp_path)
    with pytest.raises(EvaluationError, match="no evaluation 'nothing'"):
        find_folder(tmp_path, "nothing")


@pytest.mark.parametrize(
    ("arms", "preset", "says"),
    [
        (("fuze",), {}, "no arm 'fuze'"),
        (("fuse:nothing",), {}, "no arm 'fuse:nothing'"),
        ((), {"policy": "layered"}, "layered cannot be evaluated"),
        ((), {"policy": "single", "panel": ["a"]}, "no panel"),
        (("subsets",), {"panel": ["a"]}, "2 to 5"),
    ],
)
def test_arms_that_cannot_be(arms: tuple[str, ...], preset: dict[str, object], says: str) -> None:
    fields = {"panel": ["a", "b"], "judge": "judge", **preset}
    found = Preset.model_validate(fields)
    with pytest.raises(ConfigError, match=says):
        parse_arms(arms, found, [member.model for member in found.panel])
