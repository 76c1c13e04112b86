"""The panel: grace that grows with the wait, partial texts, rescues, members and their ways."""

import asyncio

import pytest

from localfusion.config import Member
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.errors import QuorumError
from localfusion.fusion.prompts import PERTURBATIONS
from localfusion.types import Prompt
from tests.fusion.conftest import REQUEST, FusionFactory, judge_says

pytestmark = pytest.mark.virtual_time

WORDS = "one two three four five six seven eight " * 40


@pytest.mark.parametrize(
    ("quorum_at", "grace"), [(1, 1), (40, 10), (80, 15)], ids=["least", "a quarter", "most"]
)
async def test_adaptive_grace_is_a_quarter_of_the_wait_within_bounds(
    fusion: FusionFactory, quorum_at: float, grace: float
) -> None:
    a, b = SimEngine("x"), SimEngine("y", delay=quorum_at)
    slow = SimEngine("z", delay=1000)

    answer = await fusion(a=a, b=b, c=slow, deadline=3600).complete(REQUEST)

    assert [c.model for c in answer.lost] == ["c"]
    assert asyncio.get_running_loop().time() == pytest.approx(quorum_at + grace)


async def test_long_unfinished_text_of_a_straggler_is_a_draft(fusion: FusionFactory) -> None:
    slow = SimEngine(WORDS, profile=SimProfile(inter_token=0.1))
    judge = SimEngine(judge_says())
    panel = fusion(a=SimEngine("x"), b=SimEngine("y"), c=slow, judge=judge, grace=10)

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "member_timeout")
    assert answer.candidates[2].is_partial
    assert "] end; unfinished: C\n" in judge.calls[-1].messages[-1].content
    assert slow.aborts == 1


@pytest.mark.parametrize("settings", [{"grace": 2}, {"grace": 10, "partial": "drop"}])
async def test_short_or_unwanted_unfinished_text_is_no_draft(
    fusion: FusionFactory, settings: dict[str, object]
) -> None:
    slow = SimEngine(WORDS, profile=SimProfile(inter_token=0.1))
    judge = SimEngine(judge_says())
    panel = fusion(a=SimEngine("x"), b=SimEngine("y"), c=slow, judge=judge, **settings)

    answer = await panel.complete(REQUEST)

    assert not answer.candidates[2].is_partial
    assert "draft C" not in judge.calls[-1].messages[-1].content
    assert answer.candidates[2].text


async def test_cut_call_is_counted_in_the_usage(fusion: FusionFactory) -> None:
    slow = SimEngine(WORDS, profile=SimProfile(inter_token=0.1))
    panel = fusion(a=SimEngine("x"), b=SimEngine("y"), c=slow, grace=10)

    usage = (await panel.complete(REQUEST)).candidates[2].usage

    assert usage.completion_tokens == pytest.approx(100, abs=2)
    assert usage.prompt_tokens > 0


async def test_member_that_only_thinks_is_asked_again_without_thinking(
    fusion: FusionFactory,
) -> None:
    def say(prompt: Prompt) -> str:
        return "It is 8." if prompt.effort == "none" else ""

    thinker = SimEngine(say, reasoning="3 pens for 2 euros, so 12 for 8. ")

    answer = await fusion(a=thinker, b=SimEngine("9")).complete(REQUEST)

    candidate = answer.candidates[0]
    assert (candidate.text, candidate.is_rescued) == ("It is 8.", True)
    assert candidate.reasoning.startswith("3 pens")
    assert candidate.usage.calls == 2
    assert "3 pens for 2 euros" in thinker.calls[1].messages[-1].content
    assert answer.status == "full"


async def test_thoughts_cut_at_the_token_limit_are_rescued_too(fusion: FusionFactory) -> None:
    def say(prompt: Prompt) -> str:
        return "8" if prompt.effort == "none" else "never reached"

    thinker = SimEngine(say, reasoning="hm " * 100)

    answer = await fusion(a=thinker, b=SimEngine("9"), panel_max_tokens=50).complete(REQUEST)

    assert (answer.candidates[0].text, answer.candidates[0].finish_reason) == ("8", "stop")


async def test_thoughts_without_an_answer_reach_the_judge_and_are_marked(
    fusion: FusionFactory,
) -> None:
    judge = SimEngine(judge_says())
    panel = fusion(
        a=SimEngine("", reasoning="It must be 8. "), b=SimEngine("9"), c=SimEngine("9"), judge=judge
    )

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "member_empty")
    assert "It must be 8." in judge.calls[-1].messages[-1].content
    assert [c.index for c in answer.lost] == [0]


async def test_reasoning_reaches_the_judge_unless_dropped(fusion: FusionFactory) -> None:
    for traces, seen in (("keep", True), ("drop", False)):
        judge = SimEngine(judge_says())
        thinker = SimEngine("8", reasoning="because 12 / 3 * 2")
        await fusion(a=thinker, b=SimEngine("9"), judge=judge, traces=traces).complete(REQUEST)
        assert ("because 12 / 3 * 2" in judge.calls[-1].messages[-1].content) is seen


async def test_perturbed_member_is_asked_the_same_with_a_sentence_more(
    fusion: FusionFactory,
) -> None:
    engine = SimEngine("x")
    panel = [Member(model="a"), Member(model="a", perturb="second_method", effort="low")]

    await fusion(a=engine, panel=panel).complete(REQUEST)

    plain, other = engine.calls
    assert plain.messages == REQUEST.messages
    said = other.messages[-1].content
    assert said == f"{REQUEST.messages[-1].content}\n\n{PERTURBATIONS['second_method']}"
    assert (plain.effort, other.effort) == (None, "low")


async def test_later_calls_of_an_engine_wait_for_its_first_token(fusion: FusionFactory) -> None:
    engine = SimEngine("x y z", delay=3, profile=SimProfile(block_size=4))

    answer = await fusion(
        a=engine, policy="self_fusion", judge=SimEngine(judge_says()), panel=["a"]
    ).complete(REQUEST)

    assert len(answer.candidates) == 4  # of the judge's own model


async def test_nobody_in_time_is_another_error_than_everybody_failed(
    fusion: FusionFactory,
) -> None:
    slow = {name: SimEngine("x", delay=1000) for name in "ab"}
    with pytest.raises(QuorumError) as late:
        await fusion(**slow, deadline=10).complete(REQUEST)
    broken = {name: SimEngine(failure=SimFailure("refuse")) for name in "ab"}
    with pytest.raises(QuorumError) as failed:
        await fusion(**broken).complete(REQUEST)

    assert (late.value.code, failed.value.code) == ("quorum_not_met", "all_panels_failed")
