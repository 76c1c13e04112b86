"""Whether an engine still generates: any token is a beat, and where none comes, one is asked for.

An engine whose ``/health`` answers may hang all the same; only a token proves life.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import TypeVar

from localfusion.engines.base import ManagedEngine
from localfusion.engines.breaker import Supervision
from localfusion.errors import FusionError, OverloadedError
from localfusion.types import Message, Prompt, SamplingParams

T = TypeVar("T")

QUESTION = Prompt(
    (Message("user", "Hi"),), SamplingParams(temperature=0, max_tokens=1), priority=20
)
"""Lowest priority: it waits behind whatever anybody asked."""
STATS_SECONDS = 1.0
PATIENCE = 5.0
"""Times the usual wait for a first token: that long one may take."""
_WEIGHT = 0.2
"""Of the newest wait in the usual one."""


class Heartbeat:
    """The pulse of one engine.

    Attributes:
        asking: Held while a question of ours is in the engine.
    """

    def __init__(self, engine: ManagedEngine, supervision: Supervision) -> None:
        self.asking = asyncio.Lock()
        self._engine = engine
        self._supervision = supervision
        self._clock = asyncio.get_running_loop().time
        self._usual: float | None = None
        self._last = self._busy_since = self._clock()
        self._calls = 0
        self._stir = asyncio.Event()  # a beat may be due sooner than it was
        # Of its own: else the watch would wake up for every token only to sleep again.
        self._token_came = asyncio.Event()
        self._failure = ""

    def begin(self) -> None:
        """Note that it has just started."""
        self._last = self._clock()

    def begin_call(self) -> None:
        if self._calls == 0:
            self._busy_since = self._clock()
            self._stir.set()
        self._calls += 1

    def end_call(self) -> None:
        self._calls -= 1

    def token(self, waited: float | None = None) -> None:
        """Note a token; ``waited``: since its call began, of the first one of a call."""
        self._last = self._clock()
        self._token_came.set()
        if waited is not None:
            usual = waited if self._usual is None else self._usual
            self._usual = usual + _WEIGHT * (waited - usual)

    @property
    def limit(self) -> float:
        """Seconds within which some token has to come when one was asked for."""
        return max(self._supervision.busy_seconds, PATIENCE * (self._usual or 0.0))

    async def stopped(self) -> str:
        """Return why the engine counts as dead, once it does."""
        misses = 0
        while misses < self._supervision.misses:
            await self._silence()
            if await self._answers():
                misses = 0
                self._last = self._clock()
            else:
                misses += 1
        why = f": {self._failure}" if self._failure else ""
        return f"it gave no token in {misses} tries of {self.limit:.0f} s{why}"

    async def _silence(self) -> None:
        """Wait until no token has come for too long."""
        rules = self._supervision
        while True:
            self._stir.clear()
            due = self._last + rules.idle_seconds
            if self._calls:
                due = min(due, max(self._last, self._busy_since) + rules.busy_seconds)
            if due <= self._clock():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stir.wait()

    async def _answers(self) -> bool:
        async with self.asking:
            used = await self._cache_usage()
            self._failure = ""
            try:
                async with asyncio.timeout(self.limit):
                    await first(self._ask(), self._next_token())
            except TimeoutError:
                # A long prompt that is read step by step gives no token, but fills the cache.
                usage = await self._cache_usage()
                return used is not None and usage is not None and usage > used
            return True

    async def _ask(self) -> None:
        """Return when the engine has said something."""
        began = self._clock()
        try:
            async with aclosing(self._engine.generate(QUESTION)) as deltas:
                waits = [self._clock() - began async for _ in deltas]
            self.token(waits[0])
            return  # noqa: TRY300  what follows is for a question without an answer
        except OverloadedError as error:
            if not self._calls:
                return  # it is busy for others
            self._failure = str(error)
        except FusionError as error:
            self._failure = str(error)
        await asyncio.Event().wait()  # until a call of somebody else's has more luck

    async def _next_token(self) -> None:
        self._token_came.clear()
        await self._token_came.wait()

    async def _cache_usage(self) -> float | None:
        with suppress(FusionError, TimeoutError):
            async with asyncio.timeout(STATS_SECONDS):
                return (await self._engine.stats()).kv_cache_usage
        return None


async def first(*works: Coroutine[object, object, T]) -> T:
    """Return the result of whichever ends first; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return next(task for task in tasks if task in done).result()
