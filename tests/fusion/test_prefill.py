"""The judge reads ahead while the panel works, and nothing but time depends on it."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.events import PanelCompleted, PrefillCompleted
from localfusion.fusion import Fusion
from localfusion.fusion.judge.drafts import Order
from localfusion.fusion.judge.prefill import PRIORITY
from localfusion.types import Candidate, Prompt, SamplingParams
from tests.fusion.conftest import REQUEST, FusionFactory, events_of

pytestmark = pytest.mark.virtual_time

SLOW = SimProfile(prefill_per_token=0.003, inter_token=0.05, block_size=16)
SEEDED = replace(REQUEST, sampling=SamplingParams(seed=3))
WRITE_ONLY = {"analysis": "none"}
LONG = "one two three four five six seven eight nine ten " * 30


def judge() -> SimEngine:
    return SimEngine("It is 8 euros.", profile=SLOW)


def member(delay: float = 0.0) -> SimEngine:
    return SimEngine(LONG, delay=delay, profile=SimProfile(inter_token=0.05))


async def first_token(panel: Fusion) -> tuple[float, float]:
    """Return the wait for the judge's first token, and the cached share of its prompt."""
    answer = await panel.complete(REQUEST)
    stage = answer.stages["synthesis"]
    assert stage.first_token_seconds is not None
    return stage.first_token_seconds, stage.usage.cached_tokens / stage.usage.prompt_tokens


@pytest.mark.parametrize("order", ["arrival", "fixed"])
async def test_only_the_tail_is_left_at_the_panels_end(fusion: FusionFactory, order: str) -> None:
    async def run(*, prefill: bool) -> tuple[float, float]:
        engines = {"a": member(), "b": member(delay=5), "c": member(delay=10)}
        settings = {"options": WRITE_ONLY, "order": order, "prefill": prefill}
        return await first_token(fusion(**engines, judge=judge(), **settings))

    cold, _ = await run(prefill=False)
    warm, cached = await run(prefill=True)

    assert warm < 0.25 * cold
    assert cached > 0.9


async def test_prefill_changes_nothing_but_time(fusion: FusionFactory) -> None:
    async def prompts(*, prefill: bool) -> list[Prompt]:
        engine = judge()
        await fusion(a=member(), b=member(5), judge=engine, prefill=prefill).complete(SEEDED)
        return [call for call in engine.calls if call.priority != PRIORITY]

    assert await prompts(prefill=True) == await prompts(prefill=False)


async def test_prefill_is_the_least_urgent_and_asks_for_one_token(fusion: FusionFactory) -> None:
    engine = judge()

    await fusion(a=member(), b=member(5), judge=engine, prefill=True).complete(REQUEST)

    ahead = [call for call in engine.calls if call.priority == PRIORITY]
    assert ahead
    assert all(call.sampling.max_tokens == 1 for call in ahead)
    sizes = [len(call.messages[-1].content) for call in ahead]
    assert sizes == sorted(sizes)


async def test_failed_prefill_changes_no_answer(fusion: FusionFactory) -> None:
    def fail(prompt: Prompt) -> SimFailure | None:
        return SimFailure("refuse") if prompt.priority == PRIORITY else None

    engine = SimEngine("It is 8 euros.", failure=fail)
    panel = fusion(a=member(), b=member(5), judge=engine, prefill=True, options=WRITE_ONLY)

    events = await events_of(panel)

    skipped = [e.skipped for e in events if isinstance(e, PrefillCompleted)]
    assert skipped == ["engine_unavailable"]
    answer = await panel.complete(REQUEST)
    assert (answer.status, answer.text) == ("full", "It is 8 euros.")


async def test_prefill_in_flight_ends_when_the_judge_begins(fusion: FusionFactory) -> None:
    engine = SimEngine("8", profile=SimProfile(prefill_per_token=10, block_size=16))
    panel = fusion(a=SimEngine("x"), b=SimEngine("y"), judge=engine, prefill=True, deadline=3600)

    answer = await panel.complete(REQUEST)

    assert engine.aborts == 1
    assert answer.stages["prefill"].usage.calls == 1


async def test_full_cache_is_left_to_those_who_need_it(fusion: FusionFactory) -> None:
    # The whole cache is as large as one request: the prefill of the first draft fills it.
    tight = SimProfile(block_size=16, num_blocks=64, inter_token=0.01)
    engine = SimEngine("8 " * 200, profile=tight, max_model_len=1024)

    async def skipped(panel: Fusion) -> list[str | None]:
        events = await events_of(panel)
        return [e.skipped for e in events if isinstance(e, PrefillCompleted)]

    busy = SimEngine("word " * 900, profile=tight, max_model_len=1024)
    panel = fusion(
        a=busy, b=SimEngine(LONG, profile=SimProfile(inter_token=0.001)), c=SimEngine("x", delay=8),
        judge=engine, prefill=True, options=WRITE_ONLY,
    )  # fmt: skip
    assert "window" in await skipped(panel)


async def test_engine_without_a_prefix_cache_is_not_asked(fusion: FusionFactory) -> None:
    engine = SimEngine("8", profile=SimProfile(caches_prefixes=False))

    await fusion(a=member(), b=member(5), judge=engine, prefill=True).complete(REQUEST)

    assert all(call.priority != PRIORITY for call in engine.calls)


@pytest.mark.parametrize(("device", "reads"), [("gpu", True), ("cpu", False)])
async def test_cores_that_write_drafts_read_none_meanwhile(
    fusion: FusionFactory, device: Literal["gpu", "cpu"], reads: bool
) -> None:
    engine = SimEngine(LONG, profile=replace(SLOW, device=device))
    panel = [{"model": "judge", "n": 3}]  # all end in the same step

    events = await events_of(fusion(judge=engine, panel=panel, prefill=True, options=WRITE_ONLY))

    assert any(isinstance(event, PrefillCompleted) for event in events) is reads


async def test_cores_that_have_written_their_draft_read_while_others_write(
    fusion: FusionFactory,
) -> None:
    engine = SimEngine(LONG, profile=replace(SLOW, device="cpu"))
    slower = SimEngine(LONG, profile=replace(SLOW, inter_token=5 * SLOW.inter_token))

    events = await events_of(
        fusion(
            judge=engine, b=slower, panel=["judge", "b"], prefill=True, grace=3600,
            options=WRITE_ONLY,
        )
    )  # fmt: skip

    ends = [e for e in events if isinstance(e, PanelCompleted | PrefillCompleted)]
    assert isinstance(ends[0], PanelCompleted)
    assert isinstance(ends[1], PrefillCompleted)
    assert ends[1].skipped is None


def candidate(index: int, *, lost: bool = False) -> Candidate:
    reason = "member_timeout" if lost else None
    return Candidate(index, "m", SamplingParams(), "x", failure_reason=reason)


@given(st.permutations(range(5)), st.sampled_from(["arrival", "fixed", "random"]), st.data())
def test_places_once_given_stay(ends: list[int], order: str, data: st.DataObject) -> None:
    lost = data.draw(st.sets(st.sampled_from(range(5))))
    places = Order(order, range(5), seed=3)
    before: list[int] = []

    for index in ends:
        places.settle(candidate(index, lost=index in lost))
        now = [c.index for c in places.placed]
        assert now[: len(before)] == before
        before = now

    assert sorted(before) == sorted(set(range(5)) - lost)
    assert places.next_open is None
    if order == "fixed":
        assert before == sorted(before)
    if order == "arrival":
        assert before == [index for index in ends if index not in lost]
