"""Lets calls to their engines in turns, and swaps the groups as GroupQueue decides."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from localfusion.engines.base import PhaseListener, ignore_phase
from localfusion.errors import EngineError
from localfusion.pool.groups import Call, GroupQueue, Waiting
from localfusion.pool.kept import KeptEngine, Spawn


class Turns:
    """Who may call which engine now.

    Args:
        groups: Models that are resident together; one or none: all are.
        spawn: Runs a background task for as long as the pool is open.

    Attributes:
        engines: What the groups' names mean, in the order of their starts. Another mapping than
            the pool's while a change waits for the last runs of old engines.
    """

    def __init__(self, groups: Sequence[Collection[str]], spawn: Spawn) -> None:
        self.engines: Mapping[str, KeptEngine] = {}
        self._queue = GroupQueue(groups)
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._doors: dict[Call, asyncio.Event] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._failures: asyncio.Future[Mapping[str, EngineError]] | None = None
        self._is_open = True

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        return self._queue.waiting(self._loop.time())

    @asynccontextmanager
    async def turn(self, run: object, kept: KeptEngine) -> AsyncGenerator[None, None]:
        """Wait until an engine may have its devices; it keeps them meanwhile."""
        call = self._queue.enter(run, kept.name, self._loop.time())
        try:
            if not call.is_admitted:
                door = self._doors[call] = asyncio.Event()
                self._settle()
                await door.wait()
            yield
        finally:
            self._doors.pop(call, None)
            self._end(call)

    def end_run(self, run: object) -> None:
        """Forget a run whose calls have all ended."""
        self._queue.close(run)
        self._settle()

    def bring_back(self, kept: KeptEngine) -> None:
        """Start an idle engine that a run will call, unless that must wait for its group's turn."""
        if kept.place != "down":
            return
        call = self._queue.enter(kept, kept.name, self._loop.time())
        if call.is_admitted:
            self._spawn(self._back(kept, call))
        else:
            self._end(call)

    async def _back(self, kept: KeptEngine, call: Call) -> None:
        try:
            await kept.back()
        finally:
            self._end(call)
            self.end_run(call.run)

    def _end(self, call: Call) -> None:
        self._queue.end(call, self._loop.time())
        self._settle()

    async def start(
        self, listener: PhaseListener, *, require_all: bool
    ) -> Mapping[str, EngineError]:
        """Start every engine, each group once, so that all have shown that they work.

        Returns:
            What did not start; empty if ``require_all``.

        Raises:
            EngineError: one cannot start, if ``require_all``; the others are left as they are.
        """
        failures: dict[str, EngineError] = {}
        self._queue.begin_swap()
        try:
            for group in reversed(self._queue.groups):  # so that the first one stays
                failures |= await self._make_resident(group, listener, require_all=require_all)
        finally:
            self._let_in(self._queue.swapped(self._queue.groups[0]))
            self._settle()
        return failures

    async def load(self, kept: KeptEngine, listener: PhaseListener) -> None:
        """Start an engine by hand, in its group's turn."""
        run = object()
        try:
            async with self.turn(run, kept):
                await kept.load(listener)
        finally:
            self.end_run(run)

    async def regroup(
        self, groups: Sequence[Collection[str]], engines: Mapping[str, KeptEngine]
    ) -> Mapping[str, EngineError]:
        """Replace groups and engines; return what did not start, once the rest has."""
        self.engines = engines
        self._queue.regroup(groups)
        self._failures = self._loop.create_future()
        self._settle()
        return await self._failures

    def close(self) -> None:
        """Swap nothing and let nobody in any more."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()

    def dismiss(self) -> None:
        """Send away who still waits: its engine is gone."""
        self._let_in(tuple(self._doors))

    def _settle(self) -> None:
        """Do what is due now; called after everything that happens."""
        if not self._is_open:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        decision = self._queue.decide(self._loop.time())
        self._let_in(decision.admitted)
        if decision.check_at is not None:
            self._timer = self._loop.call_at(decision.check_at, self._settle)
        if decision.target is not None:
            self._spawn(self._swap(decision.target))

    def _let_in(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._doors[call].set()

    async def _swap(self, target: frozenset[str]) -> None:
        failures = await self._make_resident(target, ignore_phase, require_all=False)
        self._let_in(self._queue.swapped(target))
        if self._failures is not None and not self._queue.has_goal:
            for kept in self.engines.values():
                kept.postpone()
            self._failures.set_result(failures)
            self._failures = None
        self._settle()

    async def _make_resident(
        self, target: frozenset[str], listener: PhaseListener, *, require_all: bool
    ) -> dict[str, EngineError]:
        """Put away what is not in the target, then bring what is; engines outside groups stay."""
        failures: dict[str, EngineError] = {}

        async def bring(kept: KeptEngine) -> None:
            try:
                await kept.bring(listener)
            except EngineError as error:
                failures[kept.name] = error
                if require_all:
                    raise

        wanted = {name: name in target or not self._queue.is_gated(name) for name in self.engines}
        engines = tuple(self.engines.values())
        async with asyncio.TaskGroup() as group:
            for kept in engines:
                if not wanted[kept.name]:
                    group.create_task(kept.put_away())
        try:
            async with asyncio.TaskGroup() as group:
                for kept in engines:
                    if wanted[kept.name] and kept.is_due:
                        group.create_task(bring(kept))
        except* EngineError:
            pass  # the first one is raised below, by itself
        if failures and require_all:
            raise next(iter(failures.values()))
        return failures
