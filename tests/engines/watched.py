"""Supervised engines under watch, for tests."""

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from localfusion.engines.base import ManagedEngine, Phase, Turn
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.engines.supervisor import SupervisedEngine, Supervision
from localfusion.errors import EngineError, EngineStartError, EngineUnavailableError
from tests.engines.kinds import NAME, collect, ignore, text_of

SOON = Supervision(backoff_first=0.1, backoff_limit=1, drain=5)
"""For engines that take real time."""
SHORT = replace(SOON, idle_seconds=1, busy_seconds=1, misses=2)
"""The same for those that hang; on a busy machine a good one may be silent for a while."""
RULES = Supervision()
START = 7.0
"""Seconds of a simulated start."""


def clock() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def no_turn() -> AsyncGenerator[None, None]:
    yield


class Turns:
    """A device that one engine at a time may start on.

    Attributes:
        taken: When.
        causes: Why, as the engine under watch said.
    """

    def __init__(self) -> None:
        self.engine: SupervisedEngine | None = None
        self.taken: list[float] = []
        self.causes: list[str] = []
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        async with self._lock:
            self.taken.append(clock())
            if self.engine is not None:
                self.causes.append(self.engine.status.detail)
            yield

    def __call__(self) -> AbstractAsyncContextManager[None]:
        return self._turn()


class watched:  # noqa: N801  used as a function; a class, for no generator may yield in a TaskGroup
    """Start an engine and watch it; at the end it is stopped, and no task may be left."""

    def __init__(
        self,
        engine: ManagedEngine,
        supervision: Supervision,
        *,
        turn: Turn = no_turn,
        seed: int = 1,
    ) -> None:
        self._engine = SupervisedEngine(
            engine, NAME, supervision=supervision, rng=random.Random(seed)
        )
        self._turn = turn
        if isinstance(turn, Turns):
            turn.engine = self._engine
        self._group = asyncio.TaskGroup()
        self._before = asyncio.all_tasks()

    async def __aenter__(self) -> SupervisedEngine:
        await self._group.__aenter__()
        self._keeper = self._group.create_task(self._engine.keep(self._turn))
        with suppress(EngineStartError):
            await self._engine.start(ignore)
        return self._engine

    async def __aexit__(self, *_: object) -> None:
        await self._engine.stop()
        self._keeper.cancel()
        await self._group.__aexit__(None, None, None)
        assert asyncio.all_tasks() == self._before


async def restarted(engine: SupervisedEngine, times: int = 1) -> None:
    """Wait until an engine serves again after so many deaths.

    In real time its other phases may be over before anybody looks.
    """
    async with asyncio.timeout(90):
        while engine.status.restarts < times or not engine.is_ready:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.05)


async def becomes(engine: SupervisedEngine, phase: Phase, *, step: float = 0.05) -> None:
    """Wait until an engine is somewhere."""
    async with asyncio.timeout(3000):
        while engine.status.phase != phase:  # noqa: ASYNC110  seen from outside, as by ps
            await asyncio.sleep(step)


def sim(text: str = "one two three", profile: SimProfile | None = None) -> SimEngine:
    return SimEngine(text, name=NAME, profile=profile or SimProfile(start_seconds=START))


async def say(engine: SupervisedEngine) -> str:
    return text_of(await collect(engine))


async def failure_of(engine: SupervisedEngine) -> EngineUnavailableError:
    with pytest.raises(EngineUnavailableError) as raised:
        await say(engine)
    return raised.value


async def error_of(call: Coroutine[object, object, str]) -> BaseException | None:
    try:
        await call
    except EngineError as error:
        return error
    return None
