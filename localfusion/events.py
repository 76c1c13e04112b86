"""Everything that happens in a run, as data. HTTP, command line and traces only read these.

Order: RunStarted first; exactly one of RunCompleted and RunFailed, last; one PanelCompleted for
each PanelAdded, cut stragglers included; AnswerStarted before the first AnswerDelta; the joined
AnswerDelta texts are the answer. Observers also get records, RunAborted instead of an end where
nobody waits for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localfusion.errors import FusionError
from localfusion.functions import ToolCallDelta
from localfusion.judging import Analysis, Verdict
from localfusion.types import (
    Answer,
    Candidate,
    Check,
    Prompt,
    Request,
    SamplingParams,
    Stage,
    Status,
    TokenLogprob,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Attributes common to all: the run, and seconds since its RunStarted (set by ``Run.emit``)."""

    run_id: str = ""
    at: float = field(default=0.0)

    def stamp(self, run_id: str, at: float) -> None:
        """Say whose it is and when it happened; for ``Run.emit`` alone, before anybody has it."""
        # In place: for a token, a copy would cost more than all the rest of its way.
        object.__setattr__(self, "run_id", run_id)
        object.__setattr__(self, "at", at)


class Record(Event):
    """An event for observers alone, which no client gets: it repeats what went in."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequested(Record):
    """What was asked, behind RunStarted.

    Attributes:
        request: With a seed.
        settings: The preset's, with the request's changes.
    """

    request: Request
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Record):
    """An engine is asked: with exactly this."""

    stage: Stage
    model: str
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAborted(Record):
    """Nobody waits for the run any more, and nothing of it follows.

    Attributes:
        reason: ``cancelled``; ``broken_off``: its reader failed, or we did.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """Who is asked; ``replay_of``: nobody, the run with this id has its panel's answers."""

    preset: str
    policy: str
    members: tuple[str, ...]
    judge: str | None
    replay_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChosen(Event):
    """The policy ``auto`` has found the kind of the request; ``reason`` names the rules."""

    policy: str
    task: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelAdded(Event):
    index: int
    model: str
    sampling: SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelDelta(Event):
    index: int
    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelCompleted(Event):
    candidate: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillCompleted(Event):
    """The judge has read ahead, or could not: ``skipped`` then says why, and nothing is lost.

    Attributes:
        drafts: Whole drafts in what it read.
        tokens: Of the prompt so far; ``cached_tokens`` of them it had read before.
    """

    drafts: int
    tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateChecked(Event):
    index: int
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCompleted(Event):
    """``verdict`` is None when the judge gave none that is usable; then ``error`` and ``code``."""

    judge: str
    verdict: Verdict | None
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisStarted(Event):
    judge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisCompleted(Event):
    """``analysis`` is None when the judge gave none that is usable; then ``error`` and ``code``."""

    analysis: Analysis | None
    error: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisStarted(Event):
    """The judge begins to read for its answer; again after a failure, maybe as another model.

    ``code`` is that failure's.
    """

    judge: str
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStarted(Event):
    """The panel has settled; known before the first word: who writes, how whole the panel was.

    ``error`` is the judge's failure in words where a candidate answers in its place.
    """

    model: str
    status: Status
    reason: str | None
    lost: tuple[Candidate, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDelta(Event):
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    error: FusionError
