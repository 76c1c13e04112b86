"""The data that passes between the parts: prompts, deltas, candidates, answers. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Status = Literal["full", "degraded", "single", "panel_only"]
Stage = Literal["panel", "prefill", "verdict", "analysis", "synthesis"]
Exit = Literal["consensus", "verdict", "gate", "deadline"]
Effort = Literal["none", "minimal", "low", "medium", "high"]
CheckOutcome = Literal["passed", "failed", "error", "unavailable"]

NOT_NEEDED: Literal["not_needed"] = "not_needed"
"""failure_reason of a candidate that was cut because it could not change the answer any more."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation, text only."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """OpenAI's sampling fields; None leaves the engine's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call to an engine; whatever can change its output is a field.

    Attributes:
        schema: JSON schema that the decoder must obey, or None.
        priority: Lower runs first: judge -10, panel 0, prefill 10.
        top_logprobs: How many of the likeliest tokens to tell for each place, 0 to 20.
        effort: How long a reasoning model may think; ``none``: not at all. None: its own default.
            Models that do not reason take no notice.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    schema: Mapping[str, object] | None = None
    priority: int = 0
    top_logprobs: int = 0
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls; ``cached_tokens`` of the prompt were read from a cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.calls + other.calls,
        )

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an engine's stream; the last one alone carries finish_reason and usage.

    Attributes:
        top_logprobs: For each token of this piece, where the prompt asked for them: the likeliest
            tokens and the natural logarithm of their probability, before any schema.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    top_logprobs: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        model: A preset (``demo``, ``localfusion/demo``) or a model's own name.
        sampling: Reaches the call that writes the answer, never the panel.
        changes: Fields of the preset that this request has otherwise, such as ``policy``.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """What came of running a candidate's answer: only ``failed`` counts against it.

    Attributes:
        kind: ``tests``: code against tests; ``maths``: its arithmetic, done again.
        outcome: ``error``: the check itself broke; ``unavailable``: this machine cannot run it, or
            there is nothing to check.
        detail: In words: which test failed how.
        seconds: That the check took.
    """

    kind: Literal["tests", "maths"]
    outcome: CheckOutcome
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One panel answer, usable or not.

    Attributes:
        index: Its place in the panel as the preset lists it, samples counted one by one.
        finish_reason: ``error`` when the engine failed, ``cancelled`` when a straggler was cut;
            then ``text`` is what had arrived.
        seconds: From the start of its call to its end.
        first_token_seconds: From the start of its call to its first text, or None.
        failure_reason: A code such as ``member_timeout`` where the candidate was lost, else None.
        error: The failure in words, else None.
        is_partial: Lost, but long enough that the judge reads what there is as an unfinished draft.
        is_rescued: Its first call ended in reasoning without an answer; a second gave the text.
        checks: What came of running the answer, where a policy does that.
    """

    index: int
    model: str
    sampling: SamplingParams
    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | Literal["error", "cancelled"] = "stop"
    usage: Usage = Usage()
    seconds: float = 0.0
    first_token_seconds: float | None = None
    failure_reason: str | None = None
    error: str | None = None
    is_partial: bool = False
    is_rescued: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def is_usable(self) -> bool:
        return self.failure_reason is None

    @property
    def is_lost(self) -> bool:
        """Wanted, and not had: one that was cut because it could change nothing is not lost."""
        return self.failure_reason not in (None, NOT_NEEDED)

    @property
    def is_draft(self) -> bool:
        """Whether the judge reads it."""
        return self.is_usable or self.is_partial


class _Part(BaseModel):
    # extra="forbid" puts additionalProperties: false into the schema that the decoder obeys.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stance(_Part):
    model: str
    stance: str


class Contradiction(_Part):
    topic: str
    stances: tuple[Stance, ...]


class PartialCoverage(_Part):
    models: tuple[str, ...]
    point: str


class UniqueInsight(_Part):
    model: str
    insight: str


class Analysis(_Part):
    """The judge's reading of the drafts in five parts; ``model`` fields hold candidates' names.

    Source: the analysis object of OpenRouter's Fusion (its OpenAPI schema of 2026-08-22).
    """

    consensus: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    partial_coverage: tuple[PartialCoverage, ...]
    unique_insights: tuple[UniqueInsight, ...]
    blind_spots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's choice in one token, as probabilities; with those of "none alone" they sum to 1.

    Attributes:
        probabilities: Of each candidate that was put to the choice, by its index.
        synthesize: That no draft is good enough alone.
        agreement: Overlap of the verdicts in both orders, sum of min(p, q), 0 to 1; None where one
            order was asked for.
        margin: Between the best two.
    """

    probabilities: Mapping[int, float]
    synthesize: float
    agreement: float | None = None
    margin: float = 0.0

    @property
    def choice(self) -> int | None:
        """Index of the likeliest candidate; None where writing a new answer is likelier."""
        best = max(self.probabilities, key=lambda index: self.probabilities[index])
        return best if self.probabilities[best] > self.synthesize else None


@dataclass(frozen=True, slots=True)
class TruncatedDraft:
    """A draft that did not fit into the judge's window whole; tokens by the judge's tokenizer."""

    index: int
    kept_tokens: int
    of: int


@dataclass(frozen=True, slots=True)
class StageTiming:
    """What one stage of a run took: wall seconds and the tokens of all its calls.

    Attributes:
        first_token_seconds: From the stage's start to its first token, where it is one call.
    """

    seconds: float
    usage: Usage
    first_token_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the critical path: what the client waited for, and for how long.

    Attributes:
        stage: ``queue`` before the first call, ``panel`` up to the quorum, ``grace`` after it,
            ``check``, ``verdict``, ``analysis``, ``judge_prefill`` up to the writer's first token,
            ``synthesis`` after it, ``overhead`` for the rest.
        index: Of the candidate that was waited for.
    """

    stage: str
    seconds: float
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took from the machine; other runs may have shared it, so these are upper bounds.

    Attributes:
        engine_seconds: For each model, the time in which it worked for this run.
        device_seconds: The same times the devices of its engine, by kind: ``gpu``, ``cpu`` (cores),
            ``engine`` (elsewhere).
        joules: By the machine's energy counters while the run went, None where there are none.
        money: By the rates of models.yaml, None where one is missing.
        currency: Of ``money``.
    """

    engine_seconds: Mapping[str, float] = field(default_factory=dict)
    device_seconds: Mapping[str, float] = field(default_factory=dict)
    joules: float | None = None
    money: float | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Judging:
    """Who judged and wrote, and how far that is to be trusted.

    Attributes:
        in_panel: The judge also was a member: it graded its own drafts.
        attempts: Calls that were to write the answer; more than 1 after a failure.
        verdict: None where none was asked for or it was unusable.
        agreement: How much of the verdict survives a reversed order, 0 to 1, None if not asked.
    """

    model: str
    in_panel: bool
    attempts: int = 1
    verdict: Verdict | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets, and how it came to be.

    Attributes:
        model: The model that wrote the text, never a preset's name.
        reason: Why status is not ``full``: a code such as ``member_failed``, else None.
        exit: Why the run ended before its last stage, None where it did not.
        analysis: None where the policy makes none or it failed.
        judging: None where no judge was called.
        truncated: Drafts that the judge read in part only.
        stages: In the order in which they ran; their usage sums to ``usage``.
        critical_path: Its seconds sum to ``seconds``.
        seed: Of the request, or drawn; with it the run can be repeated.
    """

    run_id: str
    preset: str
    policy: str
    model: str
    text: str
    reasoning: str
    finish_reason: FinishReason
    status: Status
    reason: str | None
    candidates: tuple[Candidate, ...]
    analysis: Analysis | None
    seconds: float
    stages: Mapping[Stage, StageTiming] = field(default_factory=dict)
    exit: Exit | None = None
    judging: Judging | None = None
    truncated: tuple[TruncatedDraft, ...] = ()
    critical_path: tuple[Step, ...] = ()
    cost: Cost = field(default_factory=Cost)
    seed: int = 0

    @property
    def lost(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.is_lost)

    @property
    def usage(self) -> Usage:
        return sum((stage.usage for stage in self.stages.values()), Usage())
