"""How many runs go at once, in all and for each key. The others wait: first come, first served."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from localfusion.config import Limits
from localfusion.errors import OverloadedError
from localfusion.pace import Pace
from localfusion.server.envelope import RateLimitedError, draining
from localfusion.server.idempotency import KeptReplies
from localfusion.traces import Traces


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request in line; its turn is set when it has a place, or an error where it gets none."""

    caller: str
    turn: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Runs:
    """The runs that go now and those that wait; waits for their end or aborts them.

    A key at its own limit does not hold up those behind it.

    Args:
        limits: How many.
        waited: Told the seconds that each waited for its place.
        traces: Keep answers with idempotency keys across a restart.

    Attributes:
        aborted: Set when every run has to end now.
        replays: Answers for requests that are sent again with the same idempotency key.
    """

    def __init__(
        self,
        limits: Limits,
        waited: Callable[[float], None] = lambda _: None,
        traces: Traces | None = None,
    ) -> None:
        self.aborted = asyncio.Event()
        self.kept_replies = KeptReplies(traces)
        self._limits = limits
        self._waited = waited
        self._running: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._pace = Pace()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def admit(self, caller: str, *, is_draining: bool) -> AsyncIterator[None]:
        """Wait for a place and keep it for the length of the block.

        Args:
            caller: Name of the key; empty: nobody's share counts.
            is_draining: The server stops.

        Raises:
            OverloadedError: the server stops, is full, or the wait was too long.
            RateLimitedError: it is this key that has too many.
        """
        if is_draining:
            raise draining()
        clock = asyncio.get_running_loop().time
        came = clock()
        await self._enter(caller)
        began = clock()
        self._waited(began - came)
        try:
            yield
        finally:
            self._pace.note(clock() - began)
            self._leave(caller)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    def turn_away(self) -> None:
        """Refuse all who wait: the server stops."""
        for waiter in tuple(self._waiting):
            if not waiter.turn.done():
                waiter.turn.set_exception(draining())
                self._waiting.remove(waiter)

    async def wait_idle(self) -> None:
        """Return when no run goes."""
        await self._idle.wait()

    async def _enter(self, caller: str) -> None:
        waiter = _Waiter(caller)
        self._waiting.append(waiter)
        self._let_in()
        if waiter.turn.done():
            return
        if refusal := self._refusal(waiter):
            self._waiting.remove(waiter)
            raise refusal
        try:
            async with asyncio.timeout(self._limits.queue_wait):
                await waiter.turn
        except TimeoutError:
            if waiter.turn.cancelled():
                raise self._give_up(waiter) from None
            await waiter.turn  # it came in the very moment in which the wait ended
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.turn.done() and not waiter.turn.cancelled() and not waiter.turn.exception():
                self._leave(caller)
            raise

    def _let_in(self) -> None:
        """Give free places to those who have waited longest and whose key has room."""
        for waiter in tuple(self._waiting):
            if self._running.total() >= self._limits.runs:
                return
            # One that has just left is still there until its own task goes on.
            if self._has_room(waiter.caller) and not waiter.turn.done():
                self._waiting.remove(waiter)
                self._running[waiter.caller] += 1
                self._idle.clear()
                waiter.turn.set_result(None)

    def _leave(self, caller: str) -> None:
        self._running[caller] -= 1
        if not self._running[caller]:
            del self._running[caller]
        if not self._running:
            self._idle.set()
        self._let_in()

    def _has_room(self, caller: str) -> bool:
        return not caller or self._running[caller] < self._limits.key_runs

    def _refusal(self, waiter: _Waiter) -> OverloadedError | None:
        """Return why one who has just come to the end of the line may not wait there."""
        own = [other for other in self._waiting if other.caller == waiter.caller]
        if waiter.caller and len(own) > self._limits.key_queued:
            return self._too_many(waiter)
        if len(self._waiting) > self._limits.queued:
            return self._full(waiter)
        return None

    def _give_up(self, waiter: _Waiter) -> OverloadedError:
        refusal = self._full(waiter) if self._has_room(waiter.caller) else self._too_many(waiter)
        self._waiting.remove(waiter)
        return refusal

    def _full(self, waiter: _Waiter) -> OverloadedError:
        wait = self._pace.wait(self._limits.runs, self._waiting.index(waiter) + 1)
        return OverloadedError(
            f"{self._limits.runs} runs are going, as many as limits.runs allows, and others wait; "
            f"ask again in {wait:.0f} s",
            code="queue_full",
            retry_after=wait,
        )

    def _too_many(self, waiter: _Waiter) -> OverloadedError:
        own = [other for other in self._waiting if other.caller == waiter.caller]
        wait = self._pace.wait(self._limits.key_runs, own.index(waiter) + 1)
        return RateLimitedError(
            f"{self._limits.key_runs} runs of this key are going and {len(own) - 1} of it wait; "
            f"ask again in {wait:.0f} s",
            retry_after=wait,
        )
