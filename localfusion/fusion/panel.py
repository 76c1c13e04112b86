"""The panel: one prompt to all members at once; quorum, grace, deadline say who is waited for."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from localfusion.errors import FusionError, QuorumError
from localfusion.events import Event, PanelAdded, PanelCompleted, PanelDelta
from localfusion.fusion.ledger import Ledger
from localfusion.fusion.prompts import rescue
from localfusion.types import NOT_NEEDED, Candidate, Delta, Prompt, Usage

GRACE_SHARE = 0.25
LEAST_GRACE, MOST_GRACE = 1.0, 15.0
"""Adaptive grace: a quarter of the time that the quorum took, within these seconds."""
LEAST_SHARED = 128
"""Tokens of a prompt from which on its second call waits for the first one to have read it."""
LEAST_PARTIAL = 64
"""Tokens from which on the unfinished text of a straggler is worth reading."""

Emit = Callable[[Event], Awaitable[None]]
Stream = Callable[[str, Prompt], AsyncGenerator[Delta, None]]
Settled = Callable[[Sequence[Candidate]], bool]
Late = Literal["member_timeout", "not_needed"]


def never(_: Sequence[Candidate]) -> bool:
    """Wait for everyone."""
    return False


@dataclass(frozen=True, slots=True)
class Enough:
    """When the panel has been waited for long enough; times are seconds.

    Attributes:
        quorum: Usable candidates that start the grace clock.
        grace: That stragglers then have.
        limit: Since the panel began, after which everyone is cut.
        keeps_partial: Whether a cut straggler's text may be a draft.
        settled: Given the usable candidates so far, whether the others can change nothing more.
    """

    quorum: int
    grace: float | Literal["adaptive"]
    limit: float
    keeps_partial: bool = True
    settled: Settled = never

    def grace_after(self, seconds: float) -> float:
        if self.grace == "adaptive":
            return min(MOST_GRACE, max(LEAST_GRACE, GRACE_SHARE * seconds))
        return self.grace


@dataclass(frozen=True, slots=True)
class Call:
    """One candidate to be: which model answers which prompt.

    Attributes:
        prompt_tokens: 0 where they are not known; for the usage of a call that is cut before it
            tells, and to know whether to share them.
    """

    index: int
    model: str
    prompt: Prompt
    prompt_tokens: int = 0


@dataclass(slots=True)
class Panel:
    """The candidates, in the order of the calls, and what was waited for.

    Attributes:
        quorum_at: Seconds until there were enough, and by whom; None if there never were.
        last: Who was waited for last.
        settled: Somebody was cut because nothing could change any more.
    """

    candidates: tuple[Candidate, ...] = ()
    seconds: float = 0.0
    quorum_at: float | None = None
    quorum_by: int | None = None
    last: int | None = None
    settled: bool = False

    def account(self, ledger: Ledger) -> None:
        """Note what it took, and who was waited for."""
        usage = sum((candidate.usage for candidate in self.candidates), Usage())
        ledger.stage("panel", self.seconds, usage)
        enough = self.seconds if self.quorum_at is None else self.quorum_at
        ledger.wait("panel", enough, self.last if self.quorum_by is None else self.quorum_by)
        ledger.wait("grace", self.seconds - enough, self.last)


async def ask_panel(calls: Sequence[Call], enough: Enough, stream: Stream, emit: Emit) -> Panel:
    """Ask everyone concurrently.

    A failed call is a candidate with an error, a cut one is ``cancelled`` and keeps its text. The
    second and later calls of an engine start with the first one's first token: by then a long
    prompt is in its cache, and is not computed again. Short ones are read at once by all.
    """
    asking = _Asking(enough, stream, emit)
    begun: dict[str, asyncio.Event] = {}
    async with asyncio.TaskGroup() as group:
        tasks = []
        for call in calls:
            is_short = 0 < call.prompt_tokens < LEAST_SHARED
            if call.model in begun and not is_short:
                tasks.append(group.create_task(asking.collect(call, after=begun[call.model])))
            else:
                first = begun.setdefault(call.model, asyncio.Event())
                tasks.append(group.create_task(asking.collect(call, begun=first)))
    asking.panel.candidates = tuple(task.result() for task in tasks)
    asking.panel.seconds = asking.seconds
    return asking.panel


def nobody(candidates: Sequence[Candidate]) -> QuorumError:
    """Return the error of a panel that gave nothing, with each member's reason."""
    reasons = "; ".join(f"{c.model}: {c.error}" for c in candidates)
    has_timeout = any(c.failure_reason == "member_timeout" for c in candidates)
    code = "quorum_not_met" if has_timeout else "all_panels_failed"
    return QuorumError(f"no member of the panel answered: {reasons}", code=code)


@dataclass(slots=True)
class _Asking:
    enough: Enough
    stream: Stream
    emit: Emit
    panel: Panel = field(default_factory=Panel)
    _usable: list[Candidate] = field(default_factory=list)
    _timers: list[asyncio.Timeout] = field(default_factory=list)
    _late: Late = "member_timeout"
    _clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    _began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    async def collect(
        self,
        call: Call,
        *,
        begun: asyncio.Event | None = None,
        after: asyncio.Event | None = None,
    ) -> Candidate:
        await self.emit(
            PanelAdded(index=call.index, model=call.model, sampling=call.prompt.sampling)
        )
        draft = _Growing(call)
        try:
            async with asyncio.timeout_at(self._began + self.enough.limit) as timer:
                self._timers.append(timer)
                if after is not None:
                    await after.wait()
                await self._read(draft, call.prompt, begun)
                if draft.needs_rescue:
                    draft.retry()
                    await self._read(draft, _without_thinking(call.prompt, draft.reasoning), None)
        except TimeoutError:
            candidate = draft.cut(self._late, keeps_partial=self.enough.keeps_partial)
        except FusionError as error:
            candidate = draft.failed(error, keeps_partial=self.enough.keeps_partial)
        else:
            candidate = draft.finished(keeps_partial=self.enough.keeps_partial)
        finally:
            self._timers.remove(timer)
            if begun is not None:
                begun.set()  # also after a failure: the other samples must not wait for ever
        self._count(candidate)
        await self.emit(PanelCompleted(candidate=candidate))
        return candidate

    async def _read(self, draft: "_Growing", prompt: Prompt, begun: asyncio.Event | None) -> None:
        draft.start()
        async with aclosing(self.stream(draft.call.model, prompt)) as deltas:
            async for delta in deltas:
                draft.add(delta)
                if begun is not None:
                    begun.set()
                if delta.text or delta.reasoning:
                    await self.emit(
                        PanelDelta(
                            index=draft.call.index, text=delta.text, reasoning=delta.reasoning
                        )
                    )

    def _count(self, candidate: Candidate) -> None:
        self.panel.last = candidate.index
        if not candidate.is_usable:
            return
        self._usable.append(candidate)
        if self.enough.settled(self._usable):
            self._late = NOT_NEEDED
            self.panel.settled = bool(self._timers)
            self._cut_at(self._clock())
        elif len(self._usable) == self.enough.quorum:
            self.panel.quorum_at, self.panel.quorum_by = self.seconds, candidate.index
            self._cut_at(self._clock() + self.enough.grace_after(self.seconds))

    def _cut_at(self, when: float) -> None:
        for timer in self._timers:
            timer.reschedule(min(when, self._began + self.enough.limit))


def _without_thinking(prompt: Prompt, reasoning: str) -> Prompt:
    return replace(prompt, messages=rescue(prompt.messages, reasoning), effort="none")


class _Growing:
    """A candidate while it grows."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._candidate = Candidate(
            index=call.index, model=call.model, sampling=call.prompt.sampling
        )
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tokens = 0
        self._usage = Usage()
        self._told: Usage | None = None
        self._has_begun = False

    def start(self) -> None:
        if not self._has_begun:  # a rescue goes on with the same candidate
            self._has_begun, self._began = True, self._clock()

    def add(self, delta: Delta) -> None:
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        if delta.text or delta.reasoning:
            # The first piece is one token, for it comes at once.
            self._tokens += self.call.prompt.interval if self._tokens else 1
        self._told = delta.usage or self._told
        changes: dict[str, object] = {}
        if delta.text and self._candidate.first_token_seconds is None:
            changes["first_token_seconds"] = self._clock() - self._began
        if delta.finish_reason is not None:
            changes["finish_reason"] = delta.finish_reason
        if changes:
            self._candidate = replace(self._candidate, **changes)  # type: ignore[arg-type]  # checked above

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    @property
    def needs_rescue(self) -> bool:
        """Whether it thought, and said nothing: the thoughts must not be lost."""
        return bool(self.reasoning.strip()) and not "".join(self._text).strip()

    def retry(self) -> None:
        """Begin the second call, which is to say what came of the first one's thoughts."""
        self._usage, self._told, self._tokens = self._spent(), None, 0
        self._text.clear()
        self._candidate = replace(self._candidate, is_rescued=True)

    def finished(self, *, keeps_partial: bool) -> Candidate:
        candidate = self._close()
        if candidate.text.strip():
            return candidate
        # Thoughts without an answer still are something to read for the judge.
        has_thoughts = bool(candidate.reasoning.strip())
        what = "only thought, also when asked again" if has_thoughts else "answered nothing"
        return replace(
            candidate,
            failure_reason="member_empty",
            error=f"{candidate.model} {what}",
            is_partial=keeps_partial and has_thoughts,
        )

    def cut(self, reason: Late, *, keeps_partial: bool) -> Candidate:
        candidate = self._close()
        tokens = self._tokens
        is_draft = keeps_partial and reason == "member_timeout" and tokens >= LEAST_PARTIAL
        what = "as a straggler" if reason == "member_timeout" else "for nothing more could change"
        return replace(
            candidate,
            failure_reason=reason,
            error=f"cut {what} at {candidate.seconds:.2f} s with {tokens} tokens",
            finish_reason="cancelled",
            is_partial=is_draft and bool(candidate.text.strip()),
        )

    def failed(self, error: FusionError, *, keeps_partial: bool) -> Candidate:
        candidate = self._close()
        return replace(
            candidate,
            failure_reason=error.code,
            error=str(error),
            finish_reason="error",
            is_partial=keeps_partial and candidate.is_rescued,
        )

    def _spent(self) -> Usage:
        if self._told is not None:
            return self._usage + self._told
        # An aborted call tells no usage: what it read is known, and each delta was about a token.
        read = self.call.prompt_tokens if self._has_begun else 0
        return self._usage + Usage(read, self._tokens, calls=int(self._has_begun))

    def _close(self) -> Candidate:
        return replace(
            self._candidate,
            text="".join(self._text),
            reasoning=self.reasoning,
            usage=self._spent(),
            seconds=self._clock() - self._began,
        )
