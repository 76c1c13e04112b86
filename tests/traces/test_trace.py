"""A trace folds a run's events, and its JSON form is all of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import EngineError, JudgeError, QuorumError
from localfusion.events import (
    AnalysisCompleted,
    AnswerDelta,
    AnswerStarted,
    CallStarted,
    CandidateChecked,
    Event,
    PanelAdded,
    PanelCompleted,
    PanelDelta,
    PolicyChosen,
    Record,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunStarted,
    VerdictCompleted,
)
from localfusion.functions import Function, ToolCall, ToolCallDelta, Tools
from localfusion.judging import Analysis, Contradiction, Judging, Stance, Verdict
from localfusion.traces.form import encode, from_json, line, to_json
from localfusion.traces.trace import Trace
from localfusion.types import (
    Answer,
    Candidate,
    Check,
    Message,
    Origin,
    Prompt,
    Request,
    SamplingParams,
    StageTiming,
    Step,
    TokenLogprob,
    Usage,
)
from tests.traces.conftest import VERSIONS, asked, events_of_run, fusion

texts = st.text(max_size=20)
names = st.sampled_from(["a", "b", "qwen3-4b"])
counts = st.integers(0, 10_000)
times = st.floats(0, 1e6)
samplings = st.builds(
    SamplingParams,
    temperature=st.none() | st.floats(0, 2),
    stop=st.tuples(texts),
    seed=st.none() | st.integers(0, 2**63 - 1),
    logit_bias=st.none() | st.dictionaries(counts, st.floats(-100, 100), max_size=2),
)
calls = st.builds(ToolCall, texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=st.none() | texts,
)
schemas = st.none() | st.dictionaries(texts, texts | counts | st.none(), max_size=2)
tools = st.none() | st.builds(
    Tools, st.tuples(st.builds(Function, texts, texts, schemas)), only=st.none() | texts
)
prompts = st.builds(
    Prompt, st.lists(messages, max_size=3).map(tuple), samplings, schema=schemas, tools=tools
)
usages = st.builds(Usage, counts, counts, counts, counts, counts)
logprobs = st.builds(TokenLogprob, texts, st.floats(-100, 0))
checks = st.builds(
    Check, st.just("maths"), st.sampled_from(["passed", "error"]), texts, seconds=times
)
candidates = st.builds(
    Candidate,
    index=st.integers(0, 7),
    model=names,
    sampling=samplings,
    text=texts,
    reasoning=texts,
    usage=usages,
    seconds=times,
    failure_reason=st.none() | st.just("member_timeout"),
    error=st.none() | texts,
    checks=st.lists(checks, max_size=1).map(tuple),
)
analyses = st.builds(
    Analysis,
    consensus=st.tuples(texts),
    contradictions=st.tuples(
        st.builds(
            Contradiction,
            topic=texts,
            stances=st.tuples(st.builds(Stance, model=names, stance=texts)),
        )
    ),
    partial_coverage=st.just(()),
    unique_insights=st.just(()),
    blind_spots=st.tuples(texts),
)
verdicts = st.builds(
    Verdict, st.dictionaries(st.integers(0, 7), st.floats(0, 1), min_size=1), st.floats(0, 1)
)
answers = st.builds(
    Answer,
    run_id=st.just("0" * 32),
    preset=names,
    policy=names,
    model=names,
    text=texts,
    reasoning=texts,
    finish_reason=st.sampled_from(["stop", "length"]),
    status=st.sampled_from(["full", "degraded", "single", "panel_only"]),
    reason=st.none() | st.just("member_failed"),
    candidates=st.lists(candidates, max_size=2).map(tuple),
    analysis=st.none() | analyses,
    seconds=times,
    stages=st.dictionaries(st.just("panel"), st.builds(StageTiming, times, usages), max_size=1),
    judging=st.none() | st.builds(Judging, names, st.booleans(), verdict=st.none() | verdicts),
    critical_path=st.tuples(st.builds(Step, st.just("panel"), times)),
    tool_calls=st.lists(calls, max_size=1).map(tuple),
    logprobs=st.lists(logprobs, max_size=2).map(tuple),
)
errors = st.builds(EngineError, texts) | st.builds(JudgeError, texts, code=st.just("judge_late"))
stamped = {"run_id": st.just("0" * 32), "at": times}
started = st.builds(
    RunStarted, **stamped, preset=names, policy=names, members=st.tuples(names), judge=names
)
requested = st.builds(
    RunRequested,
    **stamped,
    request=st.builds(
        Request,
        names,
        st.lists(messages, max_size=3).map(tuple),
        samplings,
        schema=schemas,
        tools=tools,
        changes=st.dictionaries(st.just("judge"), names, max_size=1),
        origin=st.builds(Origin, st.none() | texts, names, st.tuples(texts)),
    ),
    settings=st.dictionaries(st.just("judge"), names, max_size=1),
)
between = st.one_of(
    st.builds(CallStarted, **stamped, stage=st.just("panel"), model=names, prompt=prompts),
    st.builds(PolicyChosen, **stamped, policy=names, task=names, reason=names),
    st.builds(PanelAdded, **stamped, index=st.integers(0, 7), model=names, sampling=samplings),
    st.builds(PanelDelta, **stamped, index=st.integers(0, 7), text=texts, reasoning=texts),
    st.builds(PanelCompleted, **stamped, candidate=candidates),
    st.builds(CandidateChecked, **stamped, index=st.integers(0, 7), check=checks),
    st.builds(VerdictCompleted, **stamped, judge=names, verdict=st.none() | verdicts),
    st.builds(AnalysisCompleted, **stamped, analysis=st.none() | analyses, error=st.none() | texts),
    st.builds(
        AnswerStarted,
        **stamped,
        model=names,
        status=st.just("degraded"),
        reason=st.none(),
        lost=st.lists(candidates, max_size=1).map(tuple),
    ),
    st.builds(
        AnswerDelta,
        **stamped,
        text=texts,
        tool_calls=st.tuples(st.builds(ToolCallDelta, counts, texts, texts, texts)),
        logprobs=st.tuples(logprobs),
    ),
)
ends = st.one_of(
    st.builds(RunCompleted, **stamped, answer=answers),
    st.builds(RunFailed, **stamped, error=errors),
    st.builds(RunAborted, **stamped, reason=st.just("cancelled")),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Event]:
    """Draw a run's events; it may end anywhere."""
    events = [draw(started), draw(requested), *draw(st.lists(between, max_size=6)), draw(ends)]
    return events[: draw(st.integers(1, len(events)))]


@given(runs())
def test_json_form_is_all_of_it(events: list[Event]) -> None:
    trace = Trace.from_events(events, created=1e9, versions=VERSIONS)

    told = to_json(trace)
    back = from_json(json.loads(line(told)))

    assert to_json(back) == told
    assert back.summary == trace.summary
    assert back.head == trace.head
    assert back.prompts == trace.prompts
    kept = [event for event in trace.events if not isinstance(event, RunFailed)]
    assert [event for event in back.events if not isinstance(event, RunFailed)] == kept


async def test_run_is_folded_into_what_a_list_shows() -> None:
    trace = Trace.from_events(await events_of_run(), created=5.0, versions=VERSIONS)

    summary, answer = trace.summary, trace.answer
    assert answer is not None
    assert (summary.id, summary.created, summary.request_id) == (answer.run_id, 5.0, "req_1")
    assert (summary.preset, summary.policy, summary.members) == ("duo", "fuse", ("a", "b"))
    assert (summary.judge, summary.model, summary.status) == ("j", "j", "full")
    assert summary.question == "What do pens cost?"
    assert summary.prompt_tokens == answer.usage.prompt_tokens
    assert trace.head is not None
    assert (trace.head.ignored, trace.head.versions) == (("colour",), VERSIONS)
    assert trace.head.request.sampling.seed == answer.seed
    assert not any(isinstance(event, Record) for event in trace.events)


async def test_every_call_is_there_with_its_stage_and_prompt() -> None:
    engines = {name: SimEngine("8.", name=name) for name in "abj"}

    trace = Trace.from_events(await events_of_run(**engines), created=0)

    made = [prompt for engine in engines.values() for prompt in engine.calls]
    assert sorted(map(repr, made)) == sorted(repr(p.prompt) for p in trace.prompts)
    stages = {prompt.stage for prompt in trace.prompts}
    assert {"panel", "synthesis"} <= stages <= {"panel", "prefill", "synthesis"}
    panel = [prompt for prompt in trace.prompts if prompt.stage == "panel"]
    assert len({prompt.digest for prompt in panel}) == 1


async def test_failed_run_says_what_it_failed_at() -> None:
    events: list[Event] = []
    broken = SimEngine(failure=SimFailure("refuse"))

    with pytest.raises(QuorumError):
        await fusion(events.append, a=broken, b=broken).complete(asked())

    trace = Trace.from_events(events, created=0)
    assert (trace.summary.status, trace.summary.reason) == ("failed", "all_panels_failed")
    told = encode(trace.events[-1])["error"]
    assert isinstance(told, dict)
    assert told["error_type"] == "QuorumError"
    assert isinstance(from_json(to_json(trace)).error, QuorumError)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"object": "trace"},
        {"object": "trace", "content": "full", "events": [1], "prompts": []},
        {"object": "trace", "content": "full", "events": [], "prompts": [{}], "id": "x"},
        {"object": "trace", "content": "all", "events": [], "prompts": []},
        {"object": "trace", "content": "full", "events": [], "prompts": [], "id": "../x"},
    ],
)
def test_what_is_no_trace_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"trace|event|validation error"):
        from_json(told)
