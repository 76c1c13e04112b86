"""What an answer tells of itself: the critical path, costs, cut drafts, the seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.config import Preset, Rates
from localfusion.engines.base import EngineFacts
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.fusion import Fusion
from localfusion.fusion.judge.drafts import Draft
from localfusion.fusion.judge.fit import Measured, fit
from localfusion.fusion.ledger import Ledger
from localfusion.types import Message, Prompt, Request, SamplingParams, Usage
from tests.fusion.conftest import REQUEST, FusionFactory, judge_says

pytestmark = pytest.mark.virtual_time

SLOW = SimProfile(prefill_overhead=1, inter_token=0.5)


async def test_critical_path_names_what_was_waited_for_and_sums_up(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says("It is 8."), profile=SLOW)
    panel = fusion(
        a=SimEngine("x", delay=2), b=SimEngine("y", delay=8), c=SimEngine("z", delay=9), judge=judge
    )

    answer = await panel.complete(REQUEST)

    path = {step.stage: step for step in answer.critical_path}
    assert list(path) == ["panel", "grace", "analysis", "judge_prefill", "synthesis", "overhead"]
    assert (path["panel"].seconds, path["panel"].index) == (8, 1)
    assert (path["grace"].seconds, path["grace"].index) == (1, 2)
    assert path["overhead"].seconds == pytest.approx(0)
    assert sum(step.seconds for step in answer.critical_path) == pytest.approx(answer.seconds)


async def test_engine_seconds_count_overlapping_calls_once(fusion: FusionFactory) -> None:
    engine = SimEngine("one two", profile=SimProfile(inter_token=1, devices=2, device="gpu"))
    panel = fusion(a=engine, panel=[{"model": "a", "n": 2}], judge=SimEngine(judge_says()))

    cost = (await panel.complete(REQUEST)).cost

    # Two calls of a second each; the second one starts with the first one's first token.
    assert cost.engine_seconds["a"] == pytest.approx(2)
    assert cost.device_seconds["gpu"] == pytest.approx(4)
    assert (cost.joules, cost.money) == (None, None)


FACTS = {
    "a": EngineFacts(4096, devices=2, device="gpu"),
    "b": EngineFacts(4096, devices=4, device="cpu"),
}


def test_money_is_told_only_where_everything_is_priced() -> None:
    ledger = Ledger()
    ledger.call("a", 0, 1800)
    ledger.call("b", 0, 3600)

    priced = ledger.cost(FACTS, Rates(currency="EUR", gpu_hour=2, cpu_hour=0.1, kwh=0.3), 3.6e6)
    partly = ledger.cost(FACTS, Rates(gpu_hour=2), None)

    assert priced.money == pytest.approx(2 + 0.4 + 0.3)
    assert priced.currency == "EUR"
    assert partly.money is None


times = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted), max_size=10)


@given(times)
def test_engine_never_works_longer_than_from_first_to_last(calls: list[list[float]]) -> None:
    ledger = Ledger()
    for began, ended in calls:
        ledger.call("a", began, ended)

    worked = ledger.cost(FACTS, None, None).engine_seconds.get("a", 0.0)

    assert worked <= sum(end - begin for begin, end in calls) + 1e-9
    if calls:
        assert worked <= max(c[1] for c in calls) - min(c[0] for c in calls) + 1e-9
        assert worked >= max(end - begin for begin, end in calls) - 1e-9


@given(st.floats(0, 50), st.lists(st.floats(0, 10), max_size=5))
def test_critical_path_is_never_longer_than_the_run(rest: float, waits: list[float]) -> None:
    ledger = Ledger()
    for seconds in waits:
        ledger.wait("panel", seconds)

    total = sum(waits) + rest
    assert sum(step.seconds for step in ledger.critical_path(total)) == pytest.approx(total)


async def test_energy_is_the_difference_of_the_counter() -> None:
    readings = iter([100.0, 142.0])
    preset = Preset.model_validate({"policy": "single", "panel": ["a"]})
    single = Fusion(
        {"a": SimEngine("x")}, {"p": preset}, default_preset="p", joules=lambda: next(readings)
    )

    assert (await single.complete(Request("p", REQUEST.messages))).cost.joules == 42


async def test_seed_is_told_and_repeats_the_answer(fusion: FusionFactory) -> None:
    def build() -> tuple[SimEngine, Fusion]:
        engine = SimEngine("x")
        return engine, fusion(a=engine, b=SimEngine("y"))

    first_engine, first = build()
    seed = (await first.complete(REQUEST)).seed
    second_engine, second = build()
    request = Request("demo", REQUEST.messages, SamplingParams(seed=seed))

    assert (await second.complete(request)).seed == seed
    assert first_engine.calls == second_engine.calls


async def test_drafts_that_do_not_fit_are_cut_and_told(fusion: FusionFactory) -> None:
    long, short = "word " * 600, "word " * 60
    judge = SimEngine(judge_says(), max_model_len=1024)
    panel = fusion(
        a=SimEngine(long), b=SimEngine(short), judge=judge,
        panel_max_tokens=2000, answer_max_tokens=64, options={"analysis": "none"},
    )  # fmt: skip

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "drafts_truncated")
    assert {cut.index for cut in answer.truncated} == {0, 1}
    assert all(cut.kept_tokens < cut.of for cut in answer.truncated)
    read = judge.calls[-1].messages[-1].content
    assert "tokens left out" in read
    assert len(answer.candidates[0].text) > 2000


async def test_reasoning_goes_before_any_answer_is_cut(fusion: FusionFactory) -> None:
    thinker = SimEngine("It is 8.", reasoning="hm, " * 500)
    judge = SimEngine(judge_says(), max_model_len=1024)
    panel = fusion(
        a=thinker, b=SimEngine("9"), judge=judge,
        panel_max_tokens=3000, answer_max_tokens=64, options={"analysis": "none"},
    )  # fmt: skip

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.truncated) == ("full", ())
    assert "It is 8." in judge.calls[-1].messages[-1].content


measured = st.builds(
    lambda index, text, trace: Measured(
        Draft(index, "t" * text * 4, "r" * trace * 4), text, trace
    ),
    st.integers(0, 7),
    st.integers(1, 3000),
    st.integers(0, 3000),
)  # fmt: skip


@given(st.lists(measured, min_size=1, max_size=8), st.integers(0, 20_000))
def test_what_is_kept_fits_and_keeps_both_ends(drafts: list[Measured], room: int) -> None:
    kept, cut = fit(drafts, room)

    if not kept:
        assert room < sum(m.text for m in drafts)
        return
    tokens = sum((len(d.text) + len(d.trace)) / 4 for d in kept)
    assert tokens <= room + 1
    assert len(kept) == len(drafts)
    if any(d.trace for d in kept):
        assert not cut
    for draft, whole in zip(kept, drafts, strict=True):
        if draft.text != whole.draft.text:
            assert "left out" in draft.text


def test_answers_are_cut_in_proportion() -> None:
    drafts = [Measured(Draft(i, "x" * n * 4), n, 0) for i, n in enumerate((1000, 3000))]

    _, cut = fit(drafts, 2000)

    assert cut[1].kept_tokens / cut[0].kept_tokens == pytest.approx(3, rel=0.01)


async def test_fallback_judge_writes_when_the_judge_fails(fusion: FusionFactory) -> None:
    judge = SimEngine(failure=SimFailure("error_event"))
    b = SimEngine(lambda prompt: "Written by b." if prompt.priority < 0 else "9")
    panel = fusion(
        a=SimEngine("8"), b=b, judge=judge, fallback_judge="b", options={"analysis": "none"}
    )

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model, answer.status) == ("Written by b.", "b", "full")
    assert answer.judging is not None
    assert (answer.judging.model, answer.judging.attempts) == ("b", 2)


async def test_judge_is_tried_again_once(fusion: FusionFactory) -> None:
    asked: list[Prompt] = []

    def fail_once(prompt: Prompt) -> SimFailure | None:
        asked.append(prompt)
        return SimFailure("error_event") if len(asked) == 1 else None

    judge = SimEngine("Written.", failure=fail_once)
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, options={"analysis": "none"})

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.status) == ("Written.", "full")
    assert answer.usage.calls == 4


async def test_judge_without_time_leaves_the_first_finished_answer(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says(), delay=20)
    panel = fusion(
        a=SimEngine("8"), b=SimEngine("9"), judge=judge, deadline=100, options={"analysis": "none"}
    )
    for _ in range(4):
        assert (await panel.complete(REQUEST)).status == "full"
    hurried = Request("demo", REQUEST.messages, changes={"deadline": 10.0})

    answer = await panel.complete(hurried)

    assert (answer.text, answer.status) == ("8", "panel_only")
    assert (answer.exit, answer.reason) == ("deadline", "deadline_exceeded")
    assert len(judge.calls) == 4


def test_all_stages_sum_to_the_usage() -> None:
    ledger = Ledger()
    ledger.stage("synthesis", 1, Usage(10, 5, calls=1))
    ledger.stage("panel", 2, Usage(20, 5, calls=2))
    ledger.stage("panel", 3, Usage(1, 1, calls=1))

    assert list(ledger.in_order()) == ["panel", "synthesis"]
    assert ledger.stages["panel"].usage == Usage(21, 6, calls=3)


async def test_conversation_is_never_cut(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says(), max_model_len=512)
    question = "word " * 300
    panel = fusion(
        a=SimEngine("x " * 100), b=SimEngine("y " * 100), judge=judge, analysis_max_tokens=64
    )

    await panel.complete(Request("demo", (Message("user", question),)))

    assert all(question.strip() in call.messages[-1].content for call in judge.calls)
