"""The data that passes between the parts: prompts, deltas, candidates, answers. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from localfusion.functions import ToolCall, ToolCallDelta, Tools
from localfusion.judging import Analysis, Judging, TruncatedDraft

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Status = Literal["full", "degraded", "single", "panel_only"]
Stage = Literal["panel", "prefill", "verdict", "analysis", "synthesis"]
Exit = Literal["consensus", "verdict", "gate", "deadline"]
Effort = Literal["none", "minimal", "low", "medium", "high"]
Watches = Literal["panel", "answer", "nothing"]
CheckOutcome = Literal["passed", "failed", "error", "unavailable"]

NOT_NEEDED: Literal["not_needed"] = "not_needed"
"""failure_reason of a candidate that was cut because it could not change the answer any more."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation, text only.

    Attributes:
        tool_calls: Of an assistant's turn, whose content may then be empty.
        tool_call_id: Of a tool's turn: the call that its content answers.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability, before any schema.

    Attributes:
        top: The likeliest tokens in its place, without ``top`` of their own.
    """

    token: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()

    @property
    def alternatives(self) -> Mapping[str, float]:
        """What could have stood here, the token that does included, by its logarithm.

        Of tokens with the same text the likeliest counts: the one that stands here is told twice.
        """
        found: dict[str, float] = {}
        for place in (self, *self.top):
            found[place.token] = max(place.logprob, found.get(place.token, place.logprob))
        return found


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """OpenAI's sampling fields; None leaves the engine's default.

    Attributes:
        logit_bias: Added to the logits of tokens, by their number in the model's tokenizer.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call to an engine; whatever can change its output is a field.

    Attributes:
        schema: JSON schema that the decoder must obey, or None.
        priority: Lower runs first: judge -10, panel 0, prefill 10.
        logprobs: Tell each token's probability, and those of so many likeliest, 0 to 20; None: no.
        tools: That the model may call.
        effort: How long a reasoning model may think; ``none``: not at all. None: its own default.
            Models that do not reason take no notice.
        raw: Text to go on with as it is, in place of messages: no chat template is applied.
        interval: Tokens of a piece of the stream behind the first, where nobody watches each one:
            every piece costs time that the engine could compute in.
    """

    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    schema: Mapping[str, object] | None = None
    priority: int = 0
    logprobs: int | None = None
    effort: Effort | None = None
    tools: Tools | None = None
    raw: str | None = None
    interval: int = 1


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
        logprobs: Of each token of this piece, where the prompt asked for them.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from; nothing but its trace depends on it.

    Attributes:
        request_id: The client's own or the server's, None where no server was asked.
        key: Name of the key that it came with; empty: none.
        ignored: Fields that it had and that nobody documents.
    """

    request_id: str | None = None
    key: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        model: A preset (``demo``, ``localfusion/demo``) or a model's own name.
        sampling: Reaches the call that writes the answer, never the panel; so do the next four.
        schema: JSON schema that the answer must obey.
        tools: Functions of the client that the answer may call.
        effort: How long the writing model may think.
        logprobs: As in ``Prompt``; of single models alone.
        changes: Fields of the preset that this request has otherwise, such as ``policy``.
        watches: Whose words are read as they come; those of others come in larger pieces.
        alone: The judge answers alone, for this reason.
        may_fuse: The judge decides whether the panel is asked, as it decides on calls of functions.
        raw: As in ``Prompt``; of single models alone.
        instruction: What the judge is told at the end, in place of our words; of replays alone.
        recorded: A panel that has answered before; nobody of it is asked again.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    schema: Mapping[str, object] | None = None
    tools: Tools | None = None
    effort: Effort | None = None
    logprobs: int | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    watches: Watches = "panel"
    alone: str | None = None
    may_fuse: bool = False
    raw: str | None = None
    origin: Origin = Origin()
    instruction: str | None = None
    recorded: "Recorded | None" = None


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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A panel that has answered before, in place of one that is asked.

    Attributes:
        trace: Id of the run in which it did.
        settings: The preset's, as the run that reads the panel again is to have them.
        candidates: In the order in which they come; their indices count from 0 without gaps.
    """

    trace: str
    settings: Mapping[str, object]
    candidates: tuple[Candidate, ...]


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
        tool_calls: Functions that the client is to call, instead of or beside the text.
        logprobs: Of the text's tokens, where they were asked for.
        trace_id: Of its trace, which is on disk then; None: that is not certain.
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
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    trace_id: str | None = None

    @property
    def lost(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.is_lost)

    @property
    def usage(self) -> Usage:
        return sum((stage.usage for stage in self.stages.values()), Usage())
