"""The data that passes between the parts: prompts, deltas, candidates, answers. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Status = Literal["full", "degraded", "single", "panel_only"]
Stage = Literal["panel", "analysis", "synthesis"]


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
        priority: Lower runs first: judge -10, panel 0.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    schema: Mapping[str, object] | None = None
    priority: int = 0


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
    """A piece of an engine's stream; the last one alone carries finish_reason and usage."""

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        model: A preset (``demo``, ``localfusion/demo``) or a model's own name.
        sampling: Reaches the call that writes the answer, never the panel.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()


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

    @property
    def is_usable(self) -> bool:
        return self.failure_reason is None


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
class StageTiming:
    """What one stage of a run took: wall seconds and the tokens of all its calls."""

    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets, and how it came to be.

    Attributes:
        model: The model that wrote the text, never a preset's name.
        reason: Why status is not ``full``: a code such as ``member_failed``, else None.
        analysis: None where the policy makes none or it failed.
        stages: In the order in which they ran; their usage sums to ``usage``.
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

    @property
    def lost(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if not candidate.is_usable)

    @property
    def usage(self) -> Usage:
        return sum((stage.usage for stage in self.stages.values()), Usage())
