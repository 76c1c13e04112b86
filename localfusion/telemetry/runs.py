"""From the events of all runs to their metrics: an observer of Fusion."""

from collections.abc import Iterable
from dataclasses import dataclass

from localfusion.errors import JudgeError
from localfusion.events import (
    AnalysisCompleted,
    AnswerDelta,
    AnswerStarted,
    Event,
    PanelCompleted,
    PanelDelta,
    PrefillCompleted,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunStarted,
    SynthesisStarted,
    VerdictCompleted,
)
from localfusion.telemetry.labels import UNKNOWN, Labels, reason
from localfusion.telemetry.metrics import Metrics
from localfusion.types import Answer, Candidate

STATUSES = ("full", "degraded", "single", "panel_only", "failed", "interrupted")
USABLE = "usable"
READ = "read"

ENDS = (RunCompleted, RunFailed, RunAborted)
TOKENS = (AnswerDelta, PanelDelta)
"""Events that come with every token, and tell neither metrics nor spans anything."""


@dataclass(slots=True)
class _Going:
    """A run that goes; both are labels already."""

    preset: str
    judge: str


class RunMetrics:
    """Counts what happens in runs; replays of recorded panels are no traffic and count nowhere.

    Args:
        metrics: Where to.
        labels: Names that may become labels; replaced when models.yaml is read again.
    """

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        self.labels = labels
        self._metrics = metrics
        self._going: dict[str, _Going] = {}

    def expect(self, presets: Iterable[str]) -> None:
        """Begin the series of presets at zero, so that the first run of each kind is a change."""
        for preset in presets:
            for status in STATUSES:
                self._metrics.runs.labels(preset, status)

    def __call__(self, event: Event) -> None:
        """Take an event of any run; of a token it notices no more than that it is one."""
        if type(event) in TOKENS:
            return
        if isinstance(event, RunStarted):
            self._begin(event)
        elif (run := self._going.get(event.run_id)) is None:
            return
        elif isinstance(event, ENDS):
            del self._going[event.run_id]
            self._end(event, run)
        else:
            self._take(event, run)

    def _begin(self, event: RunStarted) -> None:
        if event.replay_of is None:
            judge = UNKNOWN if event.judge is None else self.labels.model(event.judge)
            self._going[event.run_id] = _Going(self.labels.preset(event.preset), judge)

    def _take(self, event: Event, run: _Going) -> None:
        match event:
            case PanelCompleted(candidate=candidate):
                self._count(candidate)
            case PrefillCompleted(skipped=skipped):
                self._metrics.prefills.labels(READ if skipped is None else reason(skipped)).inc()
            case VerdictCompleted() | AnalysisCompleted():
                self._blame(run, event.code)
            case SynthesisStarted():
                self._blame(run, event.code)
                run.judge = self.labels.model(event.judge)
            case AnswerStarted():
                self._metrics.first_token_seconds.labels(run.preset).observe(event.at)
                self._blame(run, event.reason if event.error is not None else None)

    def _count(self, candidate: Candidate) -> None:
        model, lost = self.labels.model(candidate.model), candidate.failure_reason
        self._metrics.candidates.labels(model, USABLE if lost is None else reason(lost)).inc()
        if lost == "member_timeout":
            self._metrics.straggler_cuts.labels(model).inc()

    def _blame(self, run: _Going, code: str | None) -> None:
        if code is not None:
            self._metrics.judge_failures.labels(run.judge, reason(code)).inc()

    def _end(self, event: RunCompleted | RunFailed | RunAborted, run: _Going) -> None:
        status: str = "interrupted"
        match event:
            case RunCompleted(answer=answer):
                status = answer.status
                self._account(answer, run.preset)
            case RunFailed(error=error):
                status = "failed"
                self._blame(run, error.code if isinstance(error, JudgeError) else None)
        self._metrics.runs.labels(run.preset, status).inc()

    def _account(self, answer: Answer, preset: str) -> None:
        metrics = self._metrics
        metrics.run_seconds.labels(preset).observe(answer.seconds)
        waits = [step.seconds for step in answer.critical_path if step.stage == "panel"]
        if waits:
            metrics.quorum_wait_seconds.labels(preset).observe(sum(waits))
        if answer.exit == "verdict":
            metrics.verdict_exits.labels(preset).inc()
        for stage, timing in answer.stages.items():
            metrics.stage_seconds.labels(stage).observe(timing.seconds)
            metrics.tokens.labels(stage, "prompt").inc(timing.usage.prompt_tokens)
            metrics.tokens.labels(stage, "completion").inc(timing.usage.completion_tokens)
            metrics.cached_tokens.labels(stage).inc(timing.usage.cached_tokens)
        for engine, seconds in answer.cost.engine_seconds.items():
            metrics.engine_seconds.labels(self.labels.model(engine)).inc(seconds)
        if answer.judging is not None and answer.judging.agreement is not None:
            judge = self.labels.model(answer.judging.model)
            metrics.judge_agreement.labels(judge).observe(answer.judging.agreement)
