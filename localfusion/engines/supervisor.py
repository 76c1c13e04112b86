"""SupervisedEngine: decides where an engine is, and brings it back when it dies or hangs.

    waiting -> (phases of a start) -> ready <-> asleep
                     |                  |
                     +-> restarting <---+      a start is due after a wait that doubles
                              |
                           broken              it failed too often, or cannot start as it is

``stopped`` comes from everywhere. Nobody else decides on these states; whoever looks at an engine
from outside sees them in ``status`` and may be late.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Literal, assert_never

from localfusion.engines.base import (
    MISCONFIGURED,
    EngineFacts,
    EngineStats,
    EngineStatus,
    ManagedEngine,
    Phase,
    PhaseChange,
    PhaseListener,
    Turn,
    ignore_phase,
)
from localfusion.engines.breaker import DEFAULT, REMOTE, Breaker, Supervision
from localfusion.engines.heartbeat import Heartbeat, first
from localfusion.errors import (
    ASLEEP,
    STARTING,
    EngineError,
    EngineUnavailableError,
)
from localfusion.functions import Tools
from localfusion.types import Delta, Message, Prompt

__all__ = ["DEFAULT", "REMOTE", "SupervisedEngine", "Supervision"]

SHOWN_LINES = 20
"""Of a broken engine's log."""
RETRY_AFTER = 5.0
"""Seconds, where no start has been measured."""

_log = logging.getLogger(__name__)


class SupervisedEngine:
    """An engine that is watched; a WatchedEngine. Build it inside the event loop.

    Args:
        engine: Started and stopped by this object alone.
        name: For messages.
        supervision: How it is watched and brought back.
        rng: For the jitter of restarts.
    """

    def __init__(
        self,
        engine: ManagedEngine,
        name: str,
        *,
        supervision: Supervision = DEFAULT,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self._engine = engine
        self._supervision = supervision
        self._clock = asyncio.get_running_loop().time
        self._breaker = Breaker(supervision, rng or random.Random())
        self._heartbeat = Heartbeat(engine, supervision)
        self._phase: Phase = "waiting"
        self._detail = ""
        self._since = self._clock()
        self._log: tuple[str, ...] = ()
        self._restarts = 0
        self._start_seconds: float | None = None
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    # What is shown.

    @property
    def facts(self) -> EngineFacts:
        return self._engine.facts

    @property
    def is_ready(self) -> bool:
        return self._phase == "ready" and self._engine.is_ready

    @property
    def pid(self) -> int | None:
        return self._engine.pid

    @property
    def last_lines(self) -> Sequence[str]:
        return self._engine.last_lines

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(
            self.name,
            self._phase,
            self._clock() - self._since,
            detail=self._detail,
            restarts=self._restarts,
            start_seconds=self._start_seconds,
            in_flight=self._in_flight,
            pid=self._engine.pid,
            log=self._log,
        )

    async def stats(self) -> EngineStats:
        return await self._engine.stats()

    # Calls.

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the answer; see Engine. Fails at once while the engine is not ready."""
        with self._calling():
            began: float | None = self._clock()
            async with aclosing(self._engine.generate(prompt)) as deltas:
                async for delta in deltas:
                    self._heartbeat.token(None if began is None else self._clock() - began)
                    began = None
                    yield delta

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        with self._calling():
            return await self._engine.count_tokens(messages, tools)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        if not self.is_ready:
            raise self._refusal()
        self._in_flight += 1
        self._is_idle.clear()
        self._heartbeat.begin_call()
        try:
            yield
        finally:
            self._heartbeat.end_call()
            self._in_flight -= 1
            if self._in_flight == 0:
                self._is_idle.set()

    def _refusal(self) -> EngineUnavailableError:
        why = f": {self._detail}" if self._detail else ""
        usual = self._start_seconds or RETRY_AFTER
        match self._phase:
            case "broken":
                return EngineUnavailableError(f"{self.name} is broken{why}; see localfusion ps")
            case "asleep":
                return EngineUnavailableError(f"{self.name} is asleep", code=ASLEEP)
            case "stopped" | "failed":
                return EngineUnavailableError(f"{self.name} is stopped{why}; load it first")
            case "ready":
                why, due = " (it has just died)", usual
            case "restarting":
                due = max(0.0, self._breaker.due - self._clock()) + usual
            case (
                "waiting" | "launching" | "loading" | "sizing" | "graphs" | "listening" | "checking"
            ):
                why, due = f" ({self._phase})", usual - self.status.seconds
            case _:
                assert_never(self._phase)
        return EngineUnavailableError(
            f"{self.name} is starting{why}; ask again soon",
            code=STARTING,
            retry_after=max(1.0, due),
        )

    # Changes, by whoever owns the hardware.

    async def start(self, listener: PhaseListener) -> None:
        """Start it; if that fails, ``keep()`` goes on trying.

        Raises:
            EngineStartError: it did not start.
        """
        self._breaker.close()
        await self._start(listener)

    async def stop(self) -> None:
        """Admit nothing, wait for the running calls, and end it; safe to call twice."""
        self._go("stopped")
        with suppress(TimeoutError):
            await self._drained()
        await self._engine.stop()

    @property
    def can_sleep(self) -> bool:
        return self._engine.can_sleep

    async def sleep(self) -> None:
        """Admit nothing, wait for the running calls, and let it sleep.

        Raises:
            EngineError: it is not ready, its calls do not end, or it cannot sleep; then it is ready
                as before, as far as is known.
        """
        if not self.is_ready:
            raise self._refusal()
        self._go("asleep")
        try:
            await self._drained()
            async with self._heartbeat.asking:
                await self._engine.sleep()
        except (TimeoutError, EngineError) as error:
            if self._phase == "asleep":  # else it has died meanwhile
                self._go("ready")
            why = str(error) or "its calls do not end"
            raise EngineError(f"{self.name} cannot sleep: {why}") from error

    async def wake(self) -> None:
        """Wake it; nothing if it is awake.

        Raises:
            EngineError: it does not wake; it has to be stopped and started.
        """
        if self._phase == "ready":
            return
        if self._phase != "asleep":
            raise self._refusal()
        try:
            await self._engine.wake()
        except EngineError as error:
            self._go("stopped", f"it did not wake: {error}")
            raise
        self._heartbeat.begin()
        self._go("ready")

    def revive(self) -> None:
        """Let a broken engine be started now, by ``keep()``."""
        if self._phase in ("broken", "restarting"):
            self._breaker.close()
            self._go("restarting", self._detail)

    async def _drained(self) -> None:
        async with asyncio.timeout(self._supervision.drain):
            await self._is_idle.wait()

    # The watch.

    async def died(self) -> str:
        return await self._engine.died()

    async def keep(self, turn: Turn) -> None:
        """Watch it until it is stopped: heartbeat, restart, breaker. Cancel it to end the watch."""
        while self._phase != "stopped":
            try:
                await self._keep_on(turn)
            except EngineError as error:
                _log.warning("%s", error)
            except Exception as error:  # noqa: BLE001  the watch outlives whatever goes wrong in it
                _log.exception("%s: the watch failed", self.name)
                self._fail(f"its watch failed: {error}")

    async def _keep_on(self, turn: Turn) -> None:
        """Wait for one thing to happen, and answer it."""
        match self._phase:
            case "ready":
                await self._watch(self._engine.died(), self._heartbeat.stopped())
            case "asleep":
                await self._watch(self._engine.died())
            case "restarting" | "broken":
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._breaker.due):
                        await self._changed.wait()
                        return
                async with turn():
                    # Meanwhile somebody may have stopped it, or started it by hand.
                    if self._phase in ("restarting", "broken"):
                        self._restarts += 1
                        await self._start(ignore_phase)
            case _:
                await self._changed.wait()

    async def _watch(self, *signs: Coroutine[object, object, str | None]) -> None:
        """Wait for a sign of death, or for another phase."""
        phase = self._phase
        why = await first(*signs, self._next_phase())
        if why is None or self._phase != phase:
            return
        if phase == "asleep":  # it has no hardware: whoever wakes it finds out and starts it
            self._go("stopped", f"it died asleep: {why}")
        else:
            _log.warning("%s has died: %s", self.name, why)
            self._fail(why)
        await self._engine.stop()

    async def _next_phase(self) -> None:
        await self._changed.wait()

    async def _start(self, listener: PhaseListener) -> None:
        def hear(change: PhaseChange) -> None:
            if change.phase not in ("ready", "failed"):  # these two are decided here
                self._go(change.phase, change.detail)
            listener(change)

        self._go("waiting")
        began = self._clock()
        try:
            await self._engine.start(hear)
        except EngineError as error:
            self._fail(str(error), is_hopeless=error.code == MISCONFIGURED)
            raise
        if self._phase == "stopped":  # meanwhile
            await self._engine.stop()
            return
        self._start_seconds = self._clock() - began
        self._breaker.succeed()
        self._heartbeat.begin()
        self._go("ready")

    def _fail(self, why: str, *, is_hopeless: bool = False) -> None:
        if self._phase == "stopped":
            return
        self._breaker.fail(self._clock(), is_hopeless=is_hopeless)
        phase: Literal["broken", "restarting"] = "broken" if self._breaker.is_open else "restarting"
        self._go(phase, why)
        if phase == "broken":
            self._log = tuple(self._engine.last_lines)[-SHOWN_LINES:]

    def _go(self, phase: Phase, detail: str = "") -> None:
        self._phase, self._detail, self._log = phase, detail, ()
        self._since = self._clock()
        self._changed.set()
        self._changed = asyncio.Event()  # whoever waits from now on waits for the next change
