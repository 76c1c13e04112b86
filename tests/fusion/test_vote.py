"""The policies that compare answers: vote, consensus, cascade, and auto, which chooses them."""

import asyncio

import pytest

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.errors import ConfigError
from localfusion.events import PolicyChosen
from localfusion.fusion import Fusion
from localfusion.types import Message, Prompt, Request
from tests.fusion.conftest import FusionFactory, events_of

pytestmark = pytest.mark.virtual_time

REQUEST = Request("demo", (Message("user", "How many euros do 12 pens cost?"),))


def says(answer: str, delay: float = 0.0) -> SimEngine:
    return SimEngine(f"Let me see.\nThe answer is {answer}.", delay=delay)


async def test_majority_is_given_word_for_word_without_the_judge(fusion: FusionFactory) -> None:
    judge = SimEngine("never asked")
    panel = fusion(a=says("9"), b=says("8"), c=says("8 euros"), judge=judge, policy="vote")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model) == ("Let me see.\nThe answer is 8.", "b")
    assert (answer.status, answer.reason) == ("full", None)
    assert judge.calls == []
    assert answer.judging is None


async def test_candidates_that_cannot_change_the_vote_are_cut(fusion: FusionFactory) -> None:
    slow = says("9", delay=1000)
    panel = fusion(a=says("8", 1), b=says("8", 2), c=slow, policy="vote")

    answer = await panel.complete(REQUEST)

    assert asyncio.get_running_loop().time() == 2
    assert (answer.status, answer.exit) == ("full", "consensus")
    assert answer.lost == ()
    assert answer.candidates[2].failure_reason == "not_needed"
    assert slow.aborts == 1


async def test_undecided_vote_waits_for_everyone(fusion: FusionFactory) -> None:
    panel = fusion(
        a=says("8", 1), b=says("9", 2), c=says("9", 3), quorum=3, policy="vote"
    )  # fmt: skip

    answer = await panel.complete(REQUEST)

    assert (answer.model, answer.exit) == ("b", None)
    assert asyncio.get_running_loop().time() == 3


async def test_tie_goes_to_the_judge(fusion: FusionFactory) -> None:
    judge = SimEngine("Written anew.", verdict={"B": 0.9, "A": 0.1})
    panel = fusion(a=says("8"), b=says("9"), judge=judge, policy="vote")

    answer = await panel.complete(REQUEST)

    assert (answer.model, answer.exit, answer.status) == ("b", "verdict", "full")


async def test_judge_of_a_tie_sees_each_answer_once(fusion: FusionFactory) -> None:
    judge = SimEngine("Written anew.", verdict={"S": 1.0})
    panel = fusion(a=says("8"), b=says("9"), c=says("8.0"), d=says("9"), judge=judge, policy="vote")

    answer = await panel.complete(REQUEST)

    assert answer.text == "Written anew."
    assert "draft B" in judge.calls[0].messages[-1].content
    assert "draft C" not in judge.calls[0].messages[-1].content


async def test_open_question_gives_the_text_in_the_middle(fusion: FusionFactory) -> None:
    panel = fusion(
        a=SimEngine("The sea is wide and blue."),
        b=SimEngine("The sea is wide and deep and blue."),
        c=SimEngine("Bananas."),
        policy="vote",
    )
    request = Request("demo", (Message("user", "Tell me about the sea."),))

    assert (await panel.complete(request)).model in ("a", "b")


async def test_configured_extraction_wins(fusion: FusionFactory) -> None:
    panel = fusion(
        a=SimEngine("code: xx-12"), b=SimEngine("code: zz-7"), c=SimEngine("so code: zz-7 it is"),
        policy="vote", extract={"kind": "regex", "pattern": "code: ([a-z]+-[0-9]+)"},
    )  # fmt: skip
    request = Request("demo", (Message("user", "Tell me about the sea."),))

    assert (await panel.complete(request)).model == "b"


def test_dangerous_pattern_is_refused_at_start() -> None:
    fields = {"panel": ["a"], "judge": "a", "extract": {"kind": "regex", "pattern": "(a+)+$"}}
    with pytest.raises(ConfigError, match=r"presets\.demo\.extract\.pattern"):
        Fusion({}, {"demo": Preset.model_validate(fields)}, default_preset="demo")


async def test_lost_member_degrades_a_vote(fusion: FusionFactory) -> None:
    broken = SimEngine(failure=SimFailure("refuse"))
    panel = fusion(a=says("8", 1), b=says("8", 2), c=broken, policy="vote")

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "engine_unavailable")


async def test_consensus_ends_as_soon_as_a_quorum_agrees(fusion: FusionFactory) -> None:
    judge, slow = SimEngine("Written."), says("8", delay=1000)
    panel = fusion(a=says("8", 1), b=says("8", 2), c=slow, judge=judge, policy="consensus")

    answer = await panel.complete(REQUEST)

    assert (answer.exit, answer.status, judge.calls) == ("consensus", "full", [])
    assert asyncio.get_running_loop().time() == 2


async def test_members_that_differ_are_fused(fusion: FusionFactory) -> None:
    judge = SimEngine("Written.")
    panel = fusion(a=says("8", 1), b=says("9", 2), c=says("8", 3), judge=judge, policy="consensus")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.exit) == ("Written.", None)


async def test_open_question_has_no_consensus(fusion: FusionFactory) -> None:
    same = {name: SimEngine("The sea is blue.") for name in "abc"}
    request = Request("demo", (Message("user", "Tell me about the sea."),))

    answer = await fusion(**same, judge=SimEngine("Written."), policy="consensus").complete(request)

    assert answer.text == "Written."


async def test_cascade_stops_at_a_pilot_that_agrees_with_itself(fusion: FusionFactory) -> None:
    dear, judge = says("8"), SimEngine("Written.")
    panel = fusion(a=says("8"), b=dear, judge=judge, policy="cascade")

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason, answer.exit) == ("single", "gate", "gate")
    assert len(answer.candidates) == 3
    assert dear.calls == judge.calls == []


async def test_cascade_asks_everyone_when_the_pilot_is_unsure(fusion: FusionFactory) -> None:
    unsure = SimEngine(["The answer is 8.", "The answer is 9.", "The answer is 7."])
    dear = says("8")
    panel = fusion(a=unsure, b=dear, judge=SimEngine("Written."), policy="cascade")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.status) == ("Written.", "full")
    assert [c.model for c in answer.candidates] == ["a", "a", "a", "b"]
    assert len(dear.calls) == 1


async def test_cascade_survives_the_loss_of_all_others(fusion: FusionFactory) -> None:
    unsure = SimEngine(["The answer is 8.", "The answer is 9.", "The answer is 7."])
    broken = SimEngine(failure=SimFailure("refuse"))
    panel = fusion(a=unsure, b=broken, judge=SimEngine("Written."), policy="cascade")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.status) == ("Written.", "degraded")


@pytest.mark.parametrize(
    ("question", "policy"),
    [
        ("How many pens are that?", "vote"),
        ("Tell me a story about the sea.", "fuse"),
        ("Which is largest?\nA) a mouse\nB) a horse\nC) a whale", "vote"),
    ],
)
async def test_auto_goes_by_the_question(fusion: FusionFactory, question: str, policy: str) -> None:
    panel = fusion(a=says("B"), b=says("B"), judge=SimEngine("Written."), policy="auto")

    events = await events_of(panel, Request("demo", (Message("user", question),)))

    chosen = next(e for e in events if isinstance(e, PolicyChosen))
    assert chosen.policy == policy
    assert chosen.reason
    assert events[-1].answer.policy == policy  # type: ignore[attr-defined]  # RunCompleted


async def test_threshold_of_auto_can_be_set(fusion: FusionFactory) -> None:
    options = {"max_numeric": 0}
    panel = fusion(
        a=says("8"), b=says("8"), judge=SimEngine("Written."), policy="auto", options=options
    )

    assert (await panel.complete(REQUEST)).policy == "fuse"


async def test_layers_show_everyone_all_drafts(fusion: FusionFactory) -> None:
    a, b = SimEngine(["first of a", "second of a"]), SimEngine(["first of b", "second of b"])
    judge = SimEngine("Written.")

    answer = await fusion(a=a, b=b, judge=judge, policy="layered").complete(REQUEST)

    assert [c.text for c in answer.candidates] == [
        "first of a", "first of b", "second of a", "second of b",
    ]  # fmt: skip
    assert "first of b" in a.calls[1].messages[-1].content
    read = judge.calls[-1].messages[-1].content
    assert "second of a" in read
    assert "first of a" not in read


async def test_layer_that_nobody_survives_leaves_the_one_before(fusion: FusionFactory) -> None:
    def once() -> SimEngine:
        asked: list[Prompt] = []

        def refuse(prompt: Prompt) -> SimFailure | None:
            asked.append(prompt)
            return SimFailure("refuse") if len(asked) > 1 else None

        return SimEngine("first", failure=refuse)

    answer = await fusion(
        a=once(), b=once(), judge=SimEngine("Written."), policy="layered"
    ).complete(REQUEST)

    assert (answer.text, answer.status) == ("Written.", "degraded")


async def test_self_fusion_asks_the_judges_model_and_reads_the_prompt_once(
    fusion: FusionFactory,
) -> None:
    judge = SimEngine(
        lambda p: "Written." if p.priority < 0 else "draft", profile=SimProfile(block_size=4)
    )
    unused = SimEngine("x")
    request = Request("demo", (Message("user", "word " * 200),))

    answer = await fusion(
        a=unused, judge=judge, policy="self_fusion", options={"n": 3, "perturbed": True}
    ).complete(request)

    assert unused.calls == []
    assert [c.model for c in answer.candidates] == ["judge"] * 3
    assert all(c.usage.cached_tokens >= 196 for c in answer.candidates[1:])
    prompts = {call.messages for call in judge.calls if call.priority == 0}
    assert len(prompts) == 3


async def test_request_may_name_another_policy(fusion: FusionFactory) -> None:
    panel = fusion(a=says("8"), b=says("8"), c=says("9"), judge=SimEngine("Written."))
    request = Request("demo", REQUEST.messages, changes={"policy": "vote", "deadline": 5.0})

    assert (await panel.complete(request)).policy == "vote"
