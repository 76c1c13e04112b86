"""The policy fuse through its public door: what is asked, what comes back, what fails how."""

import asyncio
from contextlib import aclosing

import pytest

from localfusion.config import Member, Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.errors import (
    ConfigError,
    ContextLengthError,
    JudgeError,
    ModelNotFoundError,
    QuorumError,
    RequestError,
)
from localfusion.events import AnswerDelta, AnswerStarted, PanelDelta, RunFailed
from localfusion.fusion import Fusion
from localfusion.types import Message, Prompt, Request, SamplingParams
from tests.fusion.conftest import ANALYSIS, REQUEST, FusionFactory, events_of, judge_says

pytestmark = pytest.mark.virtual_time


async def test_judge_writes_the_answer_from_all_candidates(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says("It is 8 euros."))

    answer = await fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge).complete(REQUEST)

    assert (answer.text, answer.model, answer.status) == ("It is 8 euros.", "judge", "full")
    assert [c.text for c in answer.candidates] == ["8", "9"]
    assert answer.analysis is not None
    assert answer.analysis.unique_insights[0].model == "b"
    assert set(answer.stages) == {"panel", "analysis", "synthesis"}


async def test_members_answer_concurrently(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("x", delay=7), b=SimEngine("y", delay=5), c=SimEngine("z", delay=6))

    answer = await panel.complete(REQUEST)

    assert answer.stages["panel"].seconds == 7


async def test_whole_conversation_reaches_every_member_and_the_judge(fusion: FusionFactory) -> None:
    talk = (
        Message("system", "Answer in French."),
        Message("user", "Hello"),
        Message("assistant", "Bonjour"),
        Message("user", "How much?"),
    )
    a, judge = SimEngine("x"), SimEngine(judge_says())

    await fusion(a=a, b=SimEngine("y"), judge=judge).complete(Request("demo", talk))

    assert a.calls[0].messages == talk
    assert all(call.messages[:3] == talk[:3] for call in judge.calls)
    assert all(call.messages[3].content.startswith("How much?") for call in judge.calls)


async def test_judge_never_sees_names_of_models(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says())

    await fusion(alpha=SimEngine("x"), beta=SimEngine("y"), judge=judge).complete(REQUEST)

    seen = "".join(m.content for call in judge.calls for m in call.messages)
    assert "alpha" not in seen
    assert "beta" not in seen


async def test_analysis_and_synthesis_share_their_prefix(fusion: FusionFactory) -> None:
    profile = SimProfile(block_size=16)
    judge = SimEngine(judge_says(), profile=profile)
    long = "word " * 200

    answer = await fusion(a=SimEngine(long), b=SimEngine(long), judge=judge).complete(REQUEST)

    usage = answer.stages["synthesis"].usage
    assert usage.cached_tokens > 0.7 * usage.prompt_tokens


async def test_answer_that_ends_at_its_limit_tells_what_was_cached(fusion: FusionFactory) -> None:
    long = "word " * 200
    judge = SimEngine(judge_says(long), profile=SimProfile(block_size=16))
    sampling = SamplingParams(max_tokens=5)

    answer = await fusion(a=SimEngine(long), b=SimEngine(long), judge=judge).complete(
        Request("demo", REQUEST.messages, sampling)
    )

    usage = answer.stages["synthesis"].usage
    assert (answer.finish_reason, usage.completion_tokens) == ("length", 5)
    assert usage.cached_tokens > 0.7 * usage.prompt_tokens


async def test_client_sampling_reaches_the_answer_but_not_the_panel(fusion: FusionFactory) -> None:
    a, judge = SimEngine("x"), SimEngine(judge_says())
    sampling = SamplingParams(temperature=0.9, max_tokens=5, stop=("END",))

    await fusion(a=a, b=SimEngine("y"), judge=judge).complete(
        Request("demo", REQUEST.messages, sampling)
    )

    analysis, synthesis = judge.calls
    assert (synthesis.sampling.temperature, synthesis.sampling.max_tokens) == (0.9, 5)
    assert synthesis.sampling.stop[0] == "END"
    assert analysis.sampling.temperature == 0
    assert a.calls[0].sampling.temperature == 0.7
    assert a.calls[0].sampling.stop == ()


async def test_judge_that_copies_a_draft_ends_before_its_mark(fusion: FusionFactory) -> None:
    def copy(prompt: Prompt) -> str:
        return prompt.messages[-1].content.partition("] draft A\n\n")[2]

    answer = await fusion(
        a=SimEngine("It is 8."), b=SimEngine("9"), judge=SimEngine(copy)
    ).complete(REQUEST)

    assert (answer.text.strip(), answer.model) == ("9", "judge")


async def test_samples_of_a_member_have_consecutive_seeds_and_share_its_prompt_cache(
    fusion: FusionFactory,
) -> None:
    engine = SimEngine("x", profile=SimProfile(block_size=4))
    request = Request("demo", (Message("user", "word " * 200),))

    answer = await fusion(a=engine, panel=[Member(model="a", n=3)]).complete(request)

    seeds = [call.sampling.seed for call in engine.calls]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]  # type: ignore[operator]  # ints
    assert all(c.usage.cached_tokens >= 196 for c in answer.candidates[1:])


async def test_same_seed_gives_the_same_events(fusion: FusionFactory) -> None:
    profile = SimProfile(inter_token=0.05, jitter=0.3)

    def build() -> Fusion:
        engines = {n: SimEngine("one two three", profile=profile) for n in "ab"}
        return fusion(**engines, judge=SimEngine(judge_says(), profile=profile))

    request = Request("demo", REQUEST.messages, SamplingParams(seed=7))
    first, second = [await events_of(build(), request) for _ in range(2)]

    assert [(type(e), round(e.at, 6)) for e in first] == [(type(e), round(e.at, 6)) for e in second]


async def test_failed_member_is_a_candidate_and_the_answer_says_so(fusion: FusionFactory) -> None:
    broken = SimEngine(failure=SimFailure("die", at_token=2))

    panel = fusion(a=SimEngine("8"), b=broken, c=SimEngine("8"))
    events = await events_of(panel)

    started = next(e for e in events if isinstance(e, AnswerStarted))
    assert (started.status, started.reason) == ("degraded", "engine_died")
    assert [c.model for c in started.lost] == ["b"]
    assert started.lost[0].error


async def test_answer_cut_at_its_token_limit_degrades(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("one two three four"), b=SimEngine("x"), panel_max_tokens=2)

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "member_length")
    assert answer.candidates[0].is_usable


async def test_straggler_is_aborted_after_grace(fusion: FusionFactory) -> None:
    slow = SimEngine("z", delay=1000)
    a, b = SimEngine("x", delay=1), SimEngine("y", delay=2)

    answer = await fusion(a=a, b=b, c=slow, quorum=2, grace=5).complete(REQUEST)

    assert (answer.status, answer.reason) == ("degraded", "member_timeout")
    assert slow.aborts == 1
    assert asyncio.get_running_loop().time() == 2 + 5


async def test_straggler_keeps_the_text_it_had(fusion: FusionFactory) -> None:
    slow = SimEngine("one two three four five six", profile=SimProfile(inter_token=2))
    panel = fusion(a=SimEngine("x"), b=SimEngine("y"), c=slow, quorum=2, grace=5)

    answer = await panel.complete(REQUEST)

    assert answer.candidates[2].finish_reason == "cancelled"
    assert answer.candidates[2].text == "one two three"


async def test_panel_is_cut_so_that_the_judge_has_time(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("x"), b=SimEngine("y", delay=1000), deadline=100)

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("single", "one_survivor")
    assert asyncio.get_running_loop().time() == 75


async def test_one_survivor_answers_alone(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says())
    panel = fusion(a=SimEngine("8"), b=SimEngine(failure=SimFailure("refuse")), judge=judge)

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model, answer.status) == ("8", "a", "single")
    assert answer.reason == "one_survivor"
    assert judge.calls == []


async def test_empty_answer_is_a_lost_candidate(fusion: FusionFactory) -> None:
    answer = await fusion(a=SimEngine(""), b=SimEngine("x"), c=SimEngine("y")).complete(REQUEST)

    assert answer.candidates[0].failure_reason == "member_empty"
    assert answer.status == "degraded"


async def test_nobody_answers(fusion: FusionFactory) -> None:
    broken = {name: SimEngine(failure=SimFailure("refuse")) for name in ("a", "b")}

    with pytest.raises(QuorumError, match=r"a: .*; b: ") as caught:
        await fusion(**broken).complete(REQUEST)

    assert (caught.value.status, caught.value.code) == (503, "all_panels_failed")


@pytest.mark.parametrize("kind", ["refuse", "overloaded", "die", "error_event", "truncated"])
async def test_failing_judge_leaves_the_first_finished_candidate(
    fusion: FusionFactory, kind: str
) -> None:
    judge = SimEngine("word", failure=SimFailure(kind))  # type: ignore[arg-type]  # parametrized
    cut = SimEngine("much too long an answer")
    panel = fusion(a=cut, b=SimEngine("8"), judge=judge, panel_max_tokens=2)

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.model, answer.status) == ("8", "b", "panel_only")
    assert answer.reason == "judge_upstream_error"


async def test_judges_failure_is_told_in_words_before_the_first_one(fusion: FusionFactory) -> None:
    judge = SimEngine(failure=SimFailure("refuse"))

    events = await events_of(fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge))

    started = next(e for e in events if isinstance(e, AnswerStarted))
    assert started.error is not None
    assert "refuses connections" in started.error


async def test_empty_synthesis_leaves_a_candidate(fusion: FusionFactory) -> None:
    answer = await fusion(
        a=SimEngine("8"), b=SimEngine("9"), judge=SimEngine(judge_says(""))
    ).complete(REQUEST)

    assert (answer.text, answer.status) == ("8", "panel_only")
    assert answer.reason == "judge_empty_completion"


async def test_judge_that_dies_while_it_writes_ends_the_run(fusion: FusionFactory) -> None:
    def fail_late(prompt: Prompt) -> SimFailure | None:
        return None if prompt.schema is not None else SimFailure("die", at_token=2)

    judge = SimEngine(judge_says("one two three four"), failure=fail_late)
    events = await events_of(fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge))

    assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == "one two"
    assert isinstance(events[-1], RunFailed)
    assert isinstance(events[-1].error, JudgeError)


@pytest.mark.parametrize(
    ("analysis", "code"),
    [
        ({"consensus": []}, "judge_schema_mismatch"),
        (
            {**ANALYSIS, "unique_insights": [{"model": "Z", "insight": "i"}]},
            "judge_schema_mismatch",
        ),
    ],
)
async def test_broken_analysis_degrades_but_the_answer_is_written(
    fusion: FusionFactory, analysis: object, code: str
) -> None:
    judge = SimEngine(judge_says("It is 8.", analysis))

    answer = await fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge).complete(REQUEST)

    assert (answer.text, answer.analysis) == ("It is 8.", None)
    assert (answer.status, answer.reason) == ("degraded", code)


async def test_analysis_can_be_left_out(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says())
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, options={"analysis": "none"})

    answer = await panel.complete(REQUEST)

    assert len(judge.calls) == 1
    assert (answer.analysis, answer.status) == (None, "full")


async def test_deadline_while_the_judge_writes_ends_the_text(fusion: FusionFactory) -> None:
    def slow(prompt: Prompt) -> SimFailure | None:
        return None if prompt.schema is not None else SimFailure("drip", seconds=40)

    judge = SimEngine(judge_says("one two three four five"), failure=slow)
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, deadline=100)

    answer = await panel.complete(REQUEST)

    assert (answer.finish_reason, answer.reason) == ("length", "deadline_exceeded")
    assert answer.status == "degraded"
    assert answer.text
    assert "one two three four five".startswith(answer.text)


async def test_judge_that_never_says_a_word_leaves_a_candidate(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says(), failure=SimFailure("stall", at_token=0))
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, deadline=100)

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.reason) == ("8", "deadline_exceeded")
    assert asyncio.get_running_loop().time() == 100


async def test_deadline_before_the_first_word_leaves_a_candidate(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says(), delay=60)
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge, deadline=100)

    answer = await panel.complete(REQUEST)

    assert (answer.text, answer.status, answer.reason) == ("8", "panel_only", "deadline_exceeded")
    assert judge.aborts == 1


async def test_leaving_aborts_every_call(fusion: FusionFactory) -> None:
    engines = {n: SimEngine("one two", profile=SimProfile(inter_token=5)) for n in "ab"}
    panel = fusion(**engines)
    before = asyncio.all_tasks()

    async with aclosing(panel.stream(REQUEST)) as events:
        async for event in events:
            if isinstance(event, PanelDelta):
                break

    assert [engine.aborts for engine in engines.values()] == [1, 1]
    assert asyncio.all_tasks() == before


async def test_plain_model_answers_alone_with_the_clients_sampling(fusion: FusionFactory) -> None:
    a = SimEngine("8")
    sampling = SamplingParams(temperature=0.3, seed=5)

    answer = await fusion(a=a, b=SimEngine("9")).complete(Request("a", REQUEST.messages, sampling))

    assert (answer.text, answer.status, answer.reason) == ("8", "single", None)
    assert (a.calls[0].sampling.temperature, a.calls[0].sampling.seed) == (0.3, 5)


@pytest.mark.parametrize("name", ["demo", "localfusion/demo", "openrouter/fusion"])
async def test_preset_answers_under_all_its_names(fusion: FusionFactory, name: str) -> None:
    answer = await fusion(a=SimEngine("8"), b=SimEngine("9")).complete(
        Request(name, REQUEST.messages)
    )

    assert answer.preset == "demo"


async def test_unknown_model_is_refused_with_the_known_names(fusion: FusionFactory) -> None:
    with pytest.raises(ModelNotFoundError, match="demo"):
        await fusion(a=SimEngine(), b=SimEngine()).complete(Request("x\u202e", REQUEST.messages))


async def test_no_messages_is_refused(fusion: FusionFactory) -> None:
    with pytest.raises(RequestError, match="at least one"):
        await fusion(a=SimEngine()).complete(Request("demo", ()))


@pytest.mark.parametrize("small", ["a", "judge"])
async def test_conversation_too_long_for_one_model_is_refused_before_any_call(
    fusion: FusionFactory, small: str
) -> None:
    engines = {n: SimEngine(max_model_len=64 if n == small else 4096) for n in ("a", "b", "judge")}
    request = Request("demo", (Message("user", "word " * 80),))

    with pytest.raises(ContextLengthError, match=rf"for {small}, whose window holds 64"):
        await fusion(**engines).complete(request)

    assert not any(engine.calls for engine in engines.values())


async def test_drafts_too_long_for_the_judge_leave_a_candidate(fusion: FusionFactory) -> None:
    judge = SimEngine(judge_says(), max_model_len=300)
    panel = fusion(a=SimEngine("word " * 300), b=SimEngine("word " * 300), judge=judge)

    answer = await panel.complete(REQUEST)

    assert (answer.status, answer.reason) == ("panel_only", "context_length_exceeded")


async def test_answer_is_bounded_by_the_room_left_in_the_window(fusion: FusionFactory) -> None:
    engine = SimEngine("word " * 500, max_model_len=200)

    answer = await fusion(a=engine, b=SimEngine("y")).complete(Request("a", REQUEST.messages))

    assert answer.finish_reason == "length"
    assert answer.usage.total_tokens == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "fuze"}, "no policy 'fuze'; did you mean 'fuse'"),
        ({"options": {"analisis": "none"}}, "no such option; did you mean 'analysis'"),
        (
            {"options": {"analysis": "both"}},
            "'both': Input should be 'inline', 'separate' or 'none'",
        ),
    ],
)
def test_wrong_policy_or_option_is_refused_at_start(
    fields: dict[str, object], message: str
) -> None:
    preset = Preset.model_validate({"panel": ["a"], "judge": "a", **fields})

    with pytest.raises(ConfigError, match=message):
        Fusion({"a": SimEngine()}, {"demo": preset}, default_preset="demo")
