"""A trace: one run's events, with what was asked, of whom, and with which versions. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from localfusion.errors import FusionError
from localfusion.events import (
    CallStarted,
    Event,
    PanelCompleted,
    PolicyChosen,
    Record,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunStarted,
)
from localfusion.types import Answer, Message, Origin, Prompt, Request, Stage

Content = Literal["none", "hash", "full"]
"""What of texts is kept: nothing, digests by which equal ones are recognised, all of it."""
TraceStatus = Literal[
    "running", "full", "degraded", "single", "panel_only", "failed", "interrupted"
]
"""``interrupted``: nobody waited for the run's end, or the process ended before it."""

QUESTION_CHARACTERS = 200
PROCESS_ENDED = "process_ended"
"""Reason of a run that was still running when its process ended."""


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What served a model.

    Attributes:
        version: Of the serving software.
        weights: Digest of the model's manifest, None where the weights are not ours.
    """

    version: str
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class Versions:
    """What a run depended on besides its request.

    Attributes:
        localfusion: Our version.
        engines: By model.
        prompts: Digest of the templates.
        config: Digest of models.yaml as it was understood.
    """

    localfusion: str = ""
    engines: Mapping[str, EngineVersion] = field(default_factory=dict)
    prompts: str = ""
    config: str = ""


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """What an engine was asked.

    Attributes:
        at: Seconds since the run's start.
        digest: SHA-256 of the messages, None where no content is kept.
    """

    stage: Stage
    model: str
    at: float
    digest: str | None
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a list shows of a trace.

    Attributes:
        created: Seconds since 1970.
        key: Name of the key that the request came with; empty: none.
        model: Who wrote the answer, None before.
        reason: Why the status is not ``full``: a code.
        question: Beginning of the last user turn, None where no content is kept.
        seconds: Of the run, 0 until it has ended.
        replay_of: Trace whose panel was judged once more; None: the panel was asked.
    """

    id: str
    created: float
    request_id: str | None = None
    key: str = ""
    preset: str = ""
    policy: str = ""
    members: tuple[str, ...] = ()
    judge: str | None = None
    model: str | None = None
    status: TraceStatus = "running"
    reason: str | None = None
    question: str | None = None
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    replay_of: str | None = None

    def after(self, event: Event) -> "Summary":
        """Return what is known once an event has happened."""
        match event:
            case RunStarted():
                return replace(
                    self,
                    preset=event.preset,
                    policy=event.policy,
                    members=event.members,
                    judge=event.judge,
                    replay_of=event.replay_of,
                )
            case RunRequested(request=request):
                return replace(
                    self,
                    request_id=request.origin.request_id,
                    key=request.origin.key,
                    question=last_question(request)[:QUESTION_CHARACTERS],
                )
            case PolicyChosen(policy=policy):
                return replace(self, policy=policy)
            case PanelCompleted(candidate=candidate):
                usage = candidate.usage
                return replace(
                    self,
                    prompt_tokens=self.prompt_tokens + usage.prompt_tokens,
                    completion_tokens=self.completion_tokens + usage.completion_tokens,
                )
            case _:
                return self._ended(event)

    def _ended(self, event: Event) -> "Summary":
        match event:
            case RunCompleted(answer=answer):
                usage = answer.usage
                return replace(
                    self,
                    policy=answer.policy,
                    model=answer.model,
                    status=answer.status,
                    reason=answer.reason,
                    seconds=answer.seconds,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                )
            case RunFailed(error=error):
                return replace(self, status="failed", reason=error.code, seconds=event.at)
            case RunAborted(reason=reason):
                return replace(self, status="interrupted", reason=reason, seconds=event.at)
            case _:
                return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was known when the run began.

    Attributes:
        request: With a seed; where it came from is in the summary.
        settings: The preset's, with the request's changes.
    """

    request: Request
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Versions = Versions()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run as it can be looked at, kept, sent elsewhere and repeated.

    Attributes:
        head: None where the run ended before its request was noted.
        events: In their order, without records.
        prompts: Of every call to an engine, in the order in which they began.
        content: What of the texts has been kept.
    """

    summary: Summary
    head: Head | None = None
    events: tuple[Event, ...] = ()
    prompts: tuple[RenderedPrompt, ...] = ()
    content: Content = "full"

    @property
    def answer(self) -> Answer | None:
        last = self.events[-1] if self.events else None
        return last.answer if isinstance(last, RunCompleted) else None

    @property
    def error(self) -> FusionError | None:
        last = self.events[-1] if self.events else None
        return last.error if isinstance(last, RunFailed) else None

    @classmethod
    def from_events(
        cls, events: Sequence[Event], *, created: float, versions: Versions | None = None
    ) -> "Trace":
        """Fold a run's events and records; they may end anywhere.

        Args:
            events: The first is RunStarted.
            created: Seconds since 1970.
            versions: What the run depended on.
        """
        first = Summary(id=events[0].run_id, created=created)
        asked = next((event for event in events if isinstance(event, RunRequested)), None)
        return cls(
            summary=reduce(Summary.after, events, first),
            head=None if asked is None else head_of(asked, versions or Versions()),
            events=tuple(event for event in events if not isinstance(event, Record)),
            prompts=tuple(rendered(e) for e in events if isinstance(e, CallStarted)),
        )


def head_of(event: RunRequested, versions: Versions) -> Head:
    """Return what was known when a run began."""
    return Head(
        request=replace(event.request, origin=Origin(), recorded=None),
        settings=event.settings,
        versions=versions,
        ignored=event.request.origin.ignored,
    )


def last_question(request: Request) -> str:
    """Return the last user turn, or the text to go on with."""
    turns = (m.content for m in reversed(request.messages) if m.role == "user")
    return next(turns, request.raw or "")


def rendered(event: CallStarted) -> RenderedPrompt:
    """Return what a call was made with, and its digest."""
    prompt = event.prompt
    return RenderedPrompt(event.stage, event.model, event.at, digest_of(prompt), prompt)


def digest_of(prompt: Prompt) -> str:
    """Return the SHA-256 of what is read; the same messages have the same one for every model."""
    digest = hashlib.sha256((prompt.raw or "").encode("utf-8", "replace"))
    for message in prompt.messages:
        digest.update(message_digest(message))
    return digest.hexdigest()


def message_digest(message: Message) -> bytes:
    """Return the SHA-256 of one turn."""
    calls = [[call.id, call.name, call.arguments] for call in message.tool_calls]
    told = [message.role, message.content, message.tool_call_id, calls]
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
