"""From a run's events to its spans, by OpenTelemetry's names; content is left out. Pure.

The run is ``invoke_workflow PRESET``; each call of a candidate and each stage of the judge is a
``chat MODEL`` below it. A stage that asked the judge more than once is one span.

Source of the names: OpenTelemetry's semantic conventions for generative AI, version 1.44, which are
still marked Development; a test compares them with the package of that version. Ours begin with
``localfusion.``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    AnswerStarted,
    Event,
    PanelAdded,
    PanelCompleted,
    PolicyChosen,
    PrefillCompleted,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunStarted,
    SynthesisStarted,
    VerdictCompleted,
)
from localfusion.types import Answer, Candidate, SamplingParams, Stage, Usage

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
OPERATION = "gen_ai.operation.name"
WORKFLOW = "invoke_workflow"
WORKFLOW_NAME = "gen_ai.workflow.name"
CHAT = "chat"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
TEMPERATURE = "gen_ai.request.temperature"
TOP_P = "gen_ai.request.top_p"
MAX_TOKENS = "gen_ai.request.max_tokens"
SEED = "gen_ai.request.seed"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
ERROR_TYPE = "error.type"

POLICY = "localfusion.policy"
STATUS = "localfusion.status"
REASON = "localfusion.reason"
STAGE = "localfusion.stage"
CANDIDATE = "localfusion.candidate.index"

Value = str | int | float | Sequence[str]
_Attributes = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    """What one run, call or stage was.

    Attributes:
        began: Seconds since the run began, as ``ended``.
        error: Code of its failure, None where there was none.
    """

    name: str
    began: float
    ended: float
    attributes: Mapping[str, Value]
    error: str | None = None


def spans_of(events: Sequence[Event]) -> tuple[Span, ...]:
    """Return the spans of a run, itself first.

    Args:
        events: Of one run, from RunStarted to its end; those of tokens may be left out.
    """
    started, end = events[0], events[-1]
    assert isinstance(started, RunStarted)
    answer = end.answer if isinstance(end, RunCompleted) else None
    error = _error(end)
    chosen = [event.policy for event in events if isinstance(event, PolicyChosen)]
    run: _Attributes = {
        OPERATION: WORKFLOW,
        WORKFLOW_NAME: started.preset,
        POLICY: chosen[-1] if chosen else started.policy,
    }
    if answer is not None:
        run |= {STATUS: answer.status, RESPONSE_MODEL: answer.model, **_usage(answer.usage)}
        run |= {} if answer.reason is None else {REASON: answer.reason}
    judge = _Judge(started.judge or "")
    if started.judge is None:  # one model alone, asked at once
        judge = _Judge(started.members[0], _open=("synthesis", 0.0))
    for event in events:
        judge.see(event)
    judge.end(end.at, error, answer)
    whole = Span(f"{WORKFLOW} {started.preset}", 0.0, end.at, run, error)
    return (whole, *_panel(events, error), *judge.spans)


def _error(end: Event) -> str | None:
    match end:
        case RunFailed(error=error):
            return error.code
        case RunAborted(reason=reason):
            return reason
    return None


def _panel(events: Sequence[Event], error: str | None) -> Iterator[Span]:
    """Yield a span for each candidate; one that the run's end cut has the run's error."""
    asked: dict[int, PanelAdded] = {}
    for event in events:
        if isinstance(event, PanelAdded):
            asked[event.index] = event
        elif isinstance(event, PanelCompleted):
            yield _candidate(event.candidate, asked.pop(event.candidate.index), event.at)
    for added in asked.values():
        attributes = _call(added.model, "panel", added.sampling) | {CANDIDATE: added.index}
        yield Span(_name(added.model), added.at, events[-1].at, attributes, error)


@dataclass(slots=True)
class _Judge:
    """What the judge, or a model alone, has done so far.

    Attributes:
        model: Who judges now.
        spans: In the order in which they ended.
    """

    model: str
    spans: list[Span] = field(default_factory=list)
    _open: tuple[Stage, float] | None = None
    _first: float | None = None
    _before: float = 0.0

    def see(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case PrefillCompleted():
                self._read_ahead(event)
                return
            case VerdictCompleted():
                self._open = ("verdict", self._before)
                self._shut(event.at, event.code)
            case AnalysisStarted():
                self._open = ("analysis", event.at)
            case AnalysisCompleted():
                self._shut(event.at, event.code)
            case SynthesisStarted():
                self._shut(event.at, event.code)
                self.model, self._open = event.judge, ("synthesis", event.at)
            case AnswerStarted():
                self._first = event.at
                if event.error is not None:  # a candidate's text stands in for the judge's
                    self._shut(event.at, event.reason)
        self._before = event.at

    def end(self, at: float, error: str | None, answer: Answer | None) -> None:
        """Close what goes on, and give each stage its tokens, on its last span."""
        stages = {} if answer is None else answer.stages
        has_written = any(span.attributes[STAGE] == "synthesis" for span in self.spans)
        if answer is not None and self._open is None and not has_written and "synthesis" in stages:
            self.model = answer.model  # it calls functions alone: no event says since when
            self._open = ("synthesis", at - stages["synthesis"].seconds)
        self._shut(at, error, answer)
        last = {span.attributes[STAGE]: place for place, span in enumerate(self.spans)}
        for stage, timing in stages.items():
            if stage in last and stage != "prefill":
                span = self.spans[last[stage]]
                attributes = {**span.attributes, **_usage(timing.usage)}
                self.spans[last[stage]] = replace(span, attributes=attributes)

    def _read_ahead(self, event: PrefillCompleted) -> None:
        if event.skipped is None:
            read = _usage(Usage(event.tokens, 0, event.cached_tokens))
            attributes = _call(self.model, "prefill") | read
            began = event.at - event.seconds
            self.spans.append(Span(_name(self.model), began, event.at, attributes))

    def _shut(self, at: float, error: str | None, answer: Answer | None = None) -> None:
        """End what it does now, if it does anything."""
        if self._open is None:
            return
        (stage, began), self._open = self._open, None
        attributes = _call(self.model, stage)
        if answer is not None:
            attributes[FINISH_REASONS] = (answer.finish_reason,)
        if stage == "synthesis" and self._first is not None:
            attributes[FIRST_CHUNK] = max(0.0, self._first - began)
        self.spans.append(Span(_name(self.model), began, at, attributes, error))


def _candidate(candidate: Candidate, asked: PanelAdded, at: float) -> Span:
    attributes = _call(candidate.model, "panel", asked.sampling) | {
        CANDIDATE: candidate.index,
        FINISH_REASONS: (candidate.finish_reason,),
        **_usage(candidate.usage),
    }
    if candidate.first_token_seconds is not None:
        attributes[FIRST_CHUNK] = candidate.first_token_seconds
    began = max(asked.at, at - candidate.seconds)
    return Span(_name(candidate.model), began, at, attributes, candidate.failure_reason)


def _name(model: str) -> str:
    return f"{CHAT} {model}"


def _call(model: str, stage: Stage, sampling: SamplingParams | None = None) -> _Attributes:
    found: _Attributes = {OPERATION: CHAT, PROVIDER: "localfusion", MODEL: model, STAGE: stage}
    if sampling is not None:
        told = {
            TEMPERATURE: sampling.temperature,
            TOP_P: sampling.top_p,
            MAX_TOKENS: sampling.max_tokens,
            SEED: sampling.seed,
        }
        found |= {name: value for name, value in told.items() if value is not None}
    return found


def _usage(usage: Usage) -> _Attributes:
    return {
        INPUT_TOKENS: usage.prompt_tokens,
        OUTPUT_TOKENS: usage.completion_tokens,
        CACHED_TOKENS: usage.cached_tokens,
    }
