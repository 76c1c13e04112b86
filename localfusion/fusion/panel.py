"""The panel: one prompt to all members at once; quorum, grace, deadline say who is waited for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from localfusion.engines.base import Engine
from localfusion.errors import FusionError
from localfusion.events import Event, PanelAdded, PanelCompleted, PanelDelta
from localfusion.types import Candidate, Delta, Prompt

Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Enough:
    """When the panel has been waited for long enough.

    Attributes:
        quorum: Usable candidates that start the grace clock.
        grace: Seconds that stragglers then have.
        deadline: Time of the loop's clock at which everyone is cut.
    """

    quorum: int
    grace: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Call:
    """One candidate to be: which engine answers which prompt, as which sample of its member."""

    index: int
    model: str
    engine: Engine
    prompt: Prompt
    sample: int = 0


async def ask_panel(calls: Sequence[Call], enough: Enough, emit: Emit) -> tuple[Candidate, ...]:
    """Ask everyone concurrently and return one candidate per call, in the order of the calls.

    A failed call is a candidate with an error, a cut one is ``cancelled`` and keeps its text. The
    second and later samples of a member start with the first one's first token: by then the prompt
    is in that engine's cache, and is not computed again.
    """
    panel = _Panel(enough, emit)
    async with asyncio.TaskGroup() as group:
        first: asyncio.Event | None = None
        tasks = []
        for call in calls:
            if call.sample == 0 or first is None:
                first = asyncio.Event()
                tasks.append(group.create_task(panel.collect(call, begun=first)))
            else:
                tasks.append(group.create_task(panel.collect(call, after=first)))
    return tuple(task.result() for task in tasks)


class _Panel:
    def __init__(self, enough: Enough, emit: Emit) -> None:
        self._enough = enough
        self._emit = emit
        self._usable = 0
        self._timers: list[asyncio.Timeout] = []

    async def collect(
        self,
        call: Call,
        *,
        begun: asyncio.Event | None = None,
        after: asyncio.Event | None = None,
    ) -> Candidate:
        await self._emit(
            PanelAdded(index=call.index, model=call.model, sampling=call.prompt.sampling)
        )
        draft = _Draft(call)
        try:
            async with asyncio.timeout_at(self._enough.deadline) as timer:
                self._timers.append(timer)
                if after is not None:
                    await after.wait()
                await self._read(draft, begun)
        except TimeoutError:
            candidate = draft.lost("member_timeout", "cut as a straggler", "cancelled")
        except FusionError as error:
            candidate = draft.lost(error.code, str(error), "error")
        else:
            candidate = draft.finished()
        finally:
            self._timers.remove(timer)
            if begun is not None:
                begun.set()  # also after a failure: the other samples must not wait for ever
        self._count(candidate)
        await self._emit(PanelCompleted(candidate=candidate))
        return candidate

    async def _read(self, draft: "_Draft", begun: asyncio.Event | None) -> None:
        draft.start()
        async with aclosing(draft.call.engine.generate(draft.call.prompt)) as deltas:
            async for delta in deltas:
                draft.add(delta)
                if begun is not None:
                    begun.set()
                if delta.text or delta.reasoning:
                    await self._emit(
                        PanelDelta(
                            index=draft.call.index, text=delta.text, reasoning=delta.reasoning
                        )
                    )

    def _count(self, candidate: Candidate) -> None:
        self._usable += candidate.is_usable
        if self._usable == self._enough.quorum and candidate.is_usable:
            cut = asyncio.get_running_loop().time() + self._enough.grace
            for timer in self._timers:
                timer.reschedule(min(cut, self._enough.deadline))


class _Draft:
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

    def start(self) -> None:
        self._began = self._clock()

    def add(self, delta: Delta) -> None:
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        changes: dict[str, object] = {}
        if delta.text and self._candidate.first_token_seconds is None:
            changes["first_token_seconds"] = self._clock() - self._began
        if delta.finish_reason is not None:
            changes["finish_reason"] = delta.finish_reason
        if delta.usage is not None:
            changes["usage"] = delta.usage
        if changes:
            self._candidate = replace(self._candidate, **changes)  # type: ignore[arg-type]  # checked above

    def finished(self) -> Candidate:
        candidate = self._close()
        if candidate.text.strip():
            return candidate
        return replace(
            candidate, failure_reason="member_empty", error=f"{candidate.model} answered nothing"
        )

    def lost(self, reason: str, error: str, finish_reason: str) -> Candidate:
        return replace(
            self._close(),
            failure_reason=reason,
            error=error,
            finish_reason=finish_reason,  # type: ignore[arg-type]  # the two literals of collect()
        )

    def _close(self) -> Candidate:
        return replace(
            self._candidate,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            seconds=self._clock() - self._began,
        )
