"""One engine's life in the pool: started, put away, brought back; who leases it, how idle it is.

Restarts after a death are its supervisor's; the pool only keeps them apart on each device.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Literal, assert_never

from localfusion.engines.base import (
    EngineStatus,
    PhaseChange,
    PhaseListener,
    WatchedEngine,
    ignore_phase,
)
from localfusion.errors import STARTING, EngineError, EngineUnavailableError, OverloadedError
from localfusion.pace import Pace

UNLOADED = "engine_unloaded"
"""Code of calls to an engine that somebody unloaded by hand."""

Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]
Place = Literal["new", "up", "asleep", "down", "gone"]
"""``new``: to be started; ``up``: in its supervisor's hands; ``asleep``: without its devices until
its group's turn; ``down``: stopped until somebody wants it; ``gone``: stopped for ever."""

_log = logging.getLogger(__name__)


class KeptEngine:
    """An engine in the pool's hands.

    Args:
        locks: Of its devices, in the one order for all engines; held while it starts or wakes.
        spawn: Runs a background task for as long as the pool is open.
        limit: Calls at once, waiting ones included.
        keep_alive: Idle seconds after which it is stopped, None: never.

    Attributes:
        leases: Runs that may call it.
        is_unloaded: Somebody unloaded it by hand.
    """

    def __init__(
        self,
        name: str,
        engine: WatchedEngine,
        locks: Sequence[asyncio.Lock],
        spawn: Spawn,
        *,
        limit: int,
        keep_alive: float | None,
    ) -> None:
        self.name = name
        self.engine = engine
        self.place: Place = "new"
        self.is_unloaded = False
        self.leases = 0
        self.keep_alive = keep_alive
        self._limit = limit
        self._locks = locks
        self._spawn = spawn
        self._clock = asyncio.get_running_loop().time
        self._since = self._idle_since = self._clock()
        self._calls = 0
        self._pace = Pace()
        self._is_sleeping = False
        self._start: PhaseChange | None = None
        self._stir = asyncio.Event()
        self._is_free = asyncio.Event()
        self._is_free.set()
        self._life = asyncio.Lock()  # one change of place at a time
        self._keeper: asyncio.Task[None] | None = None
        self._return: asyncio.Task[None] | None = None
        self._idle_watch = spawn(self._unload_when_idle())

    # Leases.

    def check(self) -> None:
        """Refuse what waiting would not help.

        Raises:
            EngineUnavailableError: it starts for the first time, or is not to be used any more.
        """
        if self.place == "new":
            phase = f" ({self._start.phase})" if self._start else ""
            raise EngineUnavailableError(
                f"{self.name} is starting{phase}; ask again soon", code=STARTING
            )
        if self.place == "gone":
            raise EngineUnavailableError(f"{self.name} is stopped; ask again")

    def admit(self, calls: int) -> int:
        """Return how many calls a lease gets: what it asks for, or the whole engine.

        Raises:
            OverloadedError: others have too many.
        """
        calls = min(calls, self._limit)
        if self._calls + calls > self._limit:
            wait = self._pace.wait(self._limit)
            raise OverloadedError(
                f"{self.name} has {self._calls} calls, and max_calls allows {self._limit}; "
                f"ask again in {wait:.0f} s",
                retry_after=wait,
            )
        return calls

    def hold(self, calls: int) -> None:
        """Count a lease that was admitted."""
        self.leases += 1
        self._calls += calls
        self._is_free.clear()
        self._stir.set()

    def release(self, calls: int, seconds: float) -> None:
        """End a lease that took ``seconds``."""
        self.leases -= 1
        self._calls -= calls
        self._pace.note(seconds)
        if self.leases == 0:
            self._idle_since = self._clock()
            self._is_free.set()
        self._stir.set()

    # What is shown.

    @property
    def status(self) -> EngineStatus:
        """What its supervisor says, or why it has nothing to say."""
        status = self.engine.status
        if self._start is not None:
            return replace(status, phase=self._start.phase, detail=self._start.detail)
        seconds = self._clock() - self._since
        match self.place:
            case "up":
                return status
            case "new":
                return replace(status, phase="waiting", seconds=seconds)
            case "asleep":
                detail = "another group has the hardware"
                return replace(status, phase="asleep", seconds=seconds, detail=detail)
            case "down" if not self.is_unloaded:
                detail = "idle; the next request starts it"
                return replace(status, phase="asleep", seconds=seconds, detail=detail)
            case "down" | "gone":
                detail = f"unloaded; localfusion load {self.name} starts it"
                return replace(status, phase="stopped", seconds=seconds, detail=detail)
            case _:
                assert_never(self.place)

    @property
    def unload_seconds(self) -> float | None:
        """Until it is unloaded if nobody calls it; None: it is not loaded, or never unloaded."""
        if self.keep_alive is None or self.place != "up":
            return None
        if self.leases:
            return self.keep_alive
        return max(0.0, self._idle_since + self.keep_alive - self._clock())

    # Changes of place.

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Keep others from starting, sleeping or waking on its devices meanwhile."""
        async with AsyncExitStack() as stack:
            for lock in self._locks:
                await stack.enter_async_context(lock)
            yield

    @property
    def is_due(self) -> bool:
        """Whether it has to be brought when its group is resident."""
        if self.place in ("up", "gone"):
            return False
        return self.leases > 0 or (self.place != "down" and not self.is_unloaded)

    async def bring(self, listener: PhaseListener = ignore_phase) -> None:
        """Start or wake it; nothing if it is up.

        Raises:
            EngineError: it did not start; its supervisor goes on trying.
        """
        async with self._life:
            if self.place in ("up", "gone"):
                return
            if not (self._is_sleeping and await self._wake()):
                await self._start_engine(listener)

    async def load(self, listener: PhaseListener) -> None:
        """Start it by hand, also when its supervisor has given up; nothing if it answers.

        Raises:
            EngineError: it did not start, or was removed meanwhile.
        """
        async with self._life:
            if self.place == "gone":
                raise EngineUnavailableError(f"{self.name} was removed from models.yaml")
            if self.place == "up":
                if self.engine.is_ready:
                    return
                await self._stop("down")
        await self.bring(listener)

    async def back(self) -> None:
        """Return once it is up again after the pool put it away; many wait for one start.

        A start that fails is told by the engine itself, at the next call.
        """
        if self.place not in ("asleep", "down"):
            return
        if self._return is None or self._return.done():
            self._return = self._spawn(self._bring_quietly())
        # Not awaited as such: who stops waiting does not stop the start that others wait for.
        await asyncio.wait([self._return])

    async def _bring_quietly(self) -> None:
        try:
            await self.bring()
        except EngineError as error:
            _log.warning("%s does not come back: %s", self.name, error)

    def postpone(self) -> None:
        """Let calls wait for its first start, which comes in its group's turn."""
        if self.place == "new":
            self._go("asleep")

    async def put_away(self) -> None:
        """Free its devices for another group; no call may be running."""
        async with self._life:
            if self.place != "up":
                return
            self._go("asleep")
            if self.engine.can_sleep and self.engine.is_ready:
                with suppress(EngineError):
                    async with self.turn():
                        await self.engine.sleep()
                    self._is_sleeping = True
                    return
            await self._stop("asleep")

    async def unload(self) -> None:
        """Stop it once its leases have ended; ``is_unloaded`` was set, or nothing happens."""
        await self._is_free.wait()
        async with self._life:
            if self.is_unloaded and self.leases == 0 and self.place != "gone":
                await self._stop("down")

    async def retire(self) -> None:
        """Stop it for ever once its leases have ended."""
        await self._is_free.wait()
        await self.close()

    async def close(self) -> None:
        """Stop it for ever, now."""
        async with self._life:
            await self._stop("gone")
        self._idle_watch.cancel()

    def reconfigure(self, *, limit: int, keep_alive: float | None) -> None:
        self._limit = limit
        self.keep_alive = keep_alive
        self._stir.set()

    async def _wake(self) -> bool:
        try:
            async with self.turn():
                await self.engine.wake()
        except EngineError as error:
            _log.warning("%s does not wake and is started anew: %s", self.name, error)
            await self._stop("asleep")
            return False
        self._is_sleeping = False
        self._go("up")
        return True

    async def _start_engine(self, listener: PhaseListener) -> None:
        def hear(change: PhaseChange) -> None:
            self._start = change
            listener(change)

        hear(PhaseChange(self.name, "waiting", 0.0))
        try:
            async with self.turn():
                await self.engine.start(hear)
        except EngineError:
            self._entrust()
            raise
        finally:
            self._start = None
        self._entrust()

    def _entrust(self) -> None:
        """Leave it to its supervisor, which also goes on after a start that failed."""
        self._go("up")
        self._keeper = self._spawn(self.engine.keep(self.turn))

    async def _stop(self, place: Place) -> None:
        self._go(place)  # at once: calls from now on wait for the next start
        if self._keeper is not None:
            self._keeper.cancel()  # first: else it might start what is being stopped
            await asyncio.wait([self._keeper])
            self._keeper = None
        await self.engine.stop()
        self._is_sleeping = False

    def _go(self, place: Place) -> None:
        self.place = place
        self._since = self._idle_since = self._clock()
        self._stir.set()

    async def _unload_when_idle(self) -> None:
        while True:
            self._stir.clear()
            left = None if self.leases else self.unload_seconds
            try:
                async with asyncio.timeout(left):
                    await self._stir.wait()
            except TimeoutError:
                await self._unload_if_idle()

    async def _unload_if_idle(self) -> None:
        async with self._life:
            if self.leases == 0 and self.unload_seconds == 0:
                _log.info("%s is unloaded after %g s without a request", self.name, self.keep_alive)
                await self._stop("down")
