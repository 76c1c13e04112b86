"""The policy select: one token decides, the winner's text is given word for word."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import JudgeError
from localfusion.events import AnswerDelta, VerdictCompleted
from localfusion.fusion.judge.verdict import average, read_verdict
from localfusion.types import Prompt, Request, SamplingParams
from tests.fusion.conftest import REQUEST, FusionFactory, events_of

pytestmark = pytest.mark.virtual_time

SURE_OF_B = {"B": 0.9, "A": 0.05, "S": 0.05}


def judge(verdict: Mapping[str, float] = SURE_OF_B, **more: object) -> SimEngine:
    return SimEngine("Written anew.", verdict=verdict, **more)  # type: ignore[arg-type]  # its own keywords


async def test_clear_verdict_replays_the_winner_for_one_judge_token(fusion: FusionFactory) -> None:
    engine = judge()
    panel = fusion(a=SimEngine("8"), b=SimEngine("nine"), judge=engine, policy="select")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model) == ("nine", "b")
    assert (answer.status, answer.exit) == ("full", "verdict")
    assert answer.stages["verdict"].usage.completion_tokens == 1
    assert "synthesis" not in answer.stages
    assert answer.judging is not None
    assert answer.judging.verdict is not None
    assert answer.judging.verdict.probabilities[1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "verdict",
    [{"A": 0.4, "B": 0.3, "S": 0.3}, {"A": 0.1, "B": 0.1, "S": 0.8}, {"The": 0.9, "A": 0.1}],
    ids=["unsure", "none is good enough", "no letter"],
)
async def test_unclear_verdict_lets_the_judge_write(
    fusion: FusionFactory, verdict: dict[str, float]
) -> None:
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge(verdict), policy="select")

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model, answer.exit) == ("Written anew.", "judge", None)
    assert answer.status == "full"


async def test_verdict_and_synthesis_share_their_prefix(fusion: FusionFactory) -> None:
    engine = judge({"S": 1.0})
    long = "word " * 300
    panel = fusion(a=SimEngine(long), b=SimEngine(long), judge=engine, policy="select")

    answer = await panel.complete(REQUEST)

    usage = answer.stages["synthesis"].usage
    assert usage.cached_tokens > 0.8 * usage.prompt_tokens


async def test_verdict_asks_for_probabilities_and_forbids_thinking(fusion: FusionFactory) -> None:
    engine = judge()
    await fusion(a=SimEngine("8"), b=SimEngine("9"), judge=engine, policy="select").complete(
        REQUEST
    )

    asked = engine.calls[0]
    assert (asked.logprobs, asked.effort) == (20, "none")
    assert (asked.sampling.max_tokens, asked.sampling.temperature) == (1, 0)


async def test_position_bias_shows_as_disagreement(fusion: FusionFactory) -> None:
    first_always = judge({"A": 0.9, "B": 0.05, "S": 0.05})
    panel = fusion(
        a=SimEngine("8"), b=SimEngine("9"), judge=first_always,
        policy="select", options={"swap": True},
    )  # fmt: skip

    answer = await panel.complete(REQUEST)

    assert answer.judging is not None
    assert answer.judging.agreement == pytest.approx(0.05 + 0.05 + 0.05)
    assert (answer.text, answer.exit) == ("Written anew.", None)  # 0.475 each is no choice


async def test_fuse_tells_the_agreement_when_asked(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge(), agreement=True)

    answer = await panel.complete(REQUEST)

    assert answer.judging is not None
    assert answer.judging.agreement is not None
    assert answer.model == "judge"


@pytest.mark.parametrize(
    "sampling", [SamplingParams(max_tokens=1), SamplingParams(stop=("nine",))], ids=["long", "stop"]
)
async def test_text_that_the_request_forbids_is_not_replayed(
    fusion: FusionFactory, sampling: SamplingParams
) -> None:
    panel = fusion(a=SimEngine("8"), b=SimEngine("it is nine"), judge=judge(), policy="select")

    answer = await panel.complete(Request("demo", REQUEST.messages, sampling))

    assert answer.model == "judge"


async def test_cut_candidate_is_not_replayed(fusion: FusionFactory) -> None:
    b = SimEngine("one two three four")
    panel = fusion(a=SimEngine("8"), b=b, judge=judge(), policy="select", panel_max_tokens=2)

    assert (await panel.complete(REQUEST)).model == "judge"


async def test_judge_that_fails_its_verdict_still_may_write(fusion: FusionFactory) -> None:
    def fail(prompt: Prompt) -> SimFailure | None:
        return SimFailure("error_event") if prompt.logprobs else None

    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge(failure=fail), policy="select")

    events = await events_of(panel)

    verdict = next(e for e in events if isinstance(e, VerdictCompleted))
    assert verdict.verdict is None
    assert verdict.error
    assert next(e.text for e in events if isinstance(e, AnswerDelta)) == "Written"


logprobs = st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False), max_size=20)


@given(logprobs, st.integers(1, 8))
def test_any_logprobs_are_a_verdict_or_a_judge_error(found: dict[str, float], count: int) -> None:
    labels = {label: place for place, label in enumerate("ABCDEFGH"[:count])}
    try:
        verdict = read_verdict(found, labels)
    except JudgeError:
        return
    assert sum(verdict.probabilities.values()) + verdict.synthesize == pytest.approx(1)
    assert set(verdict.probabilities) == set(range(count))


weights = st.lists(st.floats(0.001, 1), min_size=3, max_size=3)


@given(weights, weights)
def test_agreement_is_one_for_equal_verdicts_and_falls_with_their_distance(
    first: list[float], second: list[float]
) -> None:
    one, two = (
        read_verdict(
            {k: math.log(w / sum(ws)) for k, w in zip("ABS", ws, strict=True)}, {"A": 0, "B": 1}
        )
        for ws in (first, second)
    )
    agreement = average(one, two).agreement
    assert agreement is not None
    assert 0 <= agreement <= 1
    assert average(one, one).agreement == pytest.approx(1)
    mean = average(one, two)
    assert sum(mean.probabilities.values()) + mean.synthesize == pytest.approx(1)


@pytest.mark.parametrize("token", ["A", " A", "**A", "(A)", "`A`", "A.", "\nA"])
def test_letter_counts_however_it_is_written(token: str) -> None:
    assert read_verdict({token: math.log(0.9)}, {"A": 7}).choice == 7
