"""EnginePool: the engines of a plan as one mapping; started in order, shared, changed, stopped."""

import asyncio
import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType

from localfusion.engines.base import (
    Engine,
    EngineStatus,
    PhaseChange,
    PhaseListener,
    WatchedEngine,
    ignore_phase,
)
from localfusion.errors import (
    STARTING,
    EngineError,
    EngineStartError,
    EngineUnavailableError,
    FusionError,
    OverloadedError,
)
from localfusion.pool.groups import Waiting
from localfusion.pool.kept import KeptEngine
from localfusion.pool.lease import LeasedEngine, UnloadedEngine
from localfusion.pool.turns import Turns

DEFAULT_LIMIT = 256
"""Calls of one engine at once, those that wait for its turn included."""

Devices = Mapping[str, Sequence[str]]
Groups = Sequence[Collection[str]]
KeepAlive = float | Mapping[str, float | None] | None
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})

_log = logging.getLogger(__name__)


class EnginePool(Mapping[str, WatchedEngine]):
    """Engines by model name, inside ``async with``; leaving it stops them all.

    Args:
        engines: In the order in which they start.
        devices: What each engine on this machine occupies. Two engines of one device start one
            after the other, since vLLM measures the whole device's free memory while it starts.
            Those on the CPU have none and start together; engines elsewhere are not in it.
        groups: Models that are resident together; one or none: all are. The first is resident
            after the start.
        keep_alive: Idle seconds after which an engine is unloaded, for all or by name; None: never.
        limits: Calls of an engine at once, waiting ones included, by name.
    """

    def __init__(
        self,
        engines: Mapping[str, WatchedEngine],
        devices: Devices,
        *,
        groups: Groups = (),
        keep_alive: KeepAlive = None,
        limits: Mapping[str, int] = _NO_LIMITS,
    ) -> None:
        self._given = engines
        self._terms = _Terms(devices, keep_alive, limits)
        self._kept: dict[str, KeptEngine] = {}
        self._retired: set[KeptEngine] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._changes = asyncio.Lock()  # start and change: one at a time
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._clock = asyncio.get_running_loop().time
        self._turns = Turns(groups or [list(engines)], self._spawn)

    async def __aenter__(self) -> "EnginePool":
        await self._tasks.__aenter__()
        self._is_open = True
        self._kept = {name: self._keep(name, engine) for name, engine in self._given.items()}
        self._turns.engines = self._kept
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        self._turns.close()
        for task in self._running:
            task.cancel()
        try:
            # Without the error: the group would wrap it, and callers expect it as it is.
            await self._tasks.__aexit__(None, None, None)
        finally:
            async with asyncio.TaskGroup() as group:
                for kept in {*self._kept.values(), *self._retired}:
                    group.create_task(kept.close())
            self._turns.dismiss()

    # A mapping of what a new run gets.

    def __getitem__(self, name: str) -> WatchedEngine:
        return self._kept[name].engine

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    # What is shown.

    def statuses(self) -> Mapping[str, EngineStatus]:
        """Return where each engine is, and why."""
        return {name: kept.status for name, kept in self._kept.items()}

    def phases(self) -> Mapping[str, PhaseChange]:
        """Return the same as changes of phase."""
        return {
            name: PhaseChange(name, status.phase, status.seconds, status.detail)
            for name, status in self.statuses().items()
        }

    @property
    def queue(self) -> tuple[Waiting, ...]:
        """Runs that wait until their engines have the hardware, the next one first."""
        return self._turns.waiting

    def unload_seconds(self) -> Mapping[str, float | None]:
        """Return how long until each engine is unloaded if nobody calls it; None: it is not."""
        return {name: kept.unload_seconds for name, kept in self._kept.items()}

    # Runs.

    @asynccontextmanager
    async def lease(self, models: Iterable[str]) -> AsyncGenerator[Mapping[str, Engine], None]:
        """Hold engines for a run; what changes meanwhile does not change what it got.

        An engine that was unloaded for idleness starts now, and its calls wait for it. One that was
        unloaded by hand refuses its calls.

        Args:
            models: A name occurs as often as the run may call it at once.

        Raises:
            OverloadedError: an engine has as many calls as it may have.
            EngineUnavailableError: an engine is not there any more.
        """
        if not self._is_open:
            raise OverloadedError("the engines are being stopped", code="draining")
        counts = Counter(models)
        engines = {name: self._find(name) for name in counts}
        calls = {
            kept: kept.admit(counts[name]) for name, kept in engines.items() if not kept.is_unloaded
        }
        run, began = object(), self._clock()
        for kept, count in calls.items():
            kept.hold(count)
            self._turns.bring_back(kept)
        try:
            yield {
                name: LeasedEngine(kept, lambda kept: self._turns.turn(run, kept))
                if kept in calls
                else UnloadedEngine(kept)
                for name, kept in engines.items()
            }
        finally:
            for kept, count in calls.items():
                kept.release(count, self._clock() - began)
            self._turns.end_run(run)

    # Life.

    async def start(
        self, listener: PhaseListener, *, require_all: bool = True
    ) -> Mapping[str, EngineError]:
        """Return when every engine has generated a token, or has failed to.

        Returns:
            What did not start, and why; its supervisor goes on trying. Empty if ``require_all``.

        Raises:
            EngineError: one cannot start, if ``require_all``; the others are left as they are.
        """
        async with self._changes:
            return await self._turns.start(listener, require_all=require_all)

    async def load(self, name: str, listener: PhaseListener = ignore_phase) -> None:
        """Start an engine by hand; returns when it is ready.

        Raises:
            EngineError: it did not start; its supervisor goes on trying.
        """
        kept = self._find(name)
        kept.is_unloaded = False
        await self._do(lambda: self._turns.load(kept, listener))

    async def unload(self, name: str) -> None:
        """Refuse an engine's calls to new runs, and stop it once the runs that have it are over."""
        kept = self._find(name)
        kept.is_unloaded = True
        await self._do(kept.unload)

    async def change(
        self,
        add: Mapping[str, WatchedEngine],
        remove: Collection[str],
        devices: Devices,
        *,
        groups: Groups = (),
        keep_alive: KeepAlive = None,
        limits: Mapping[str, int] = _NO_LIMITS,
    ) -> None:
        """Swap engines while runs go on; what is in neither ``add`` nor ``remove`` stays.

        A run that has an engine keeps it to its end, then the engine stops. A new engine starts
        after the old ones whose memory it takes have stopped; its calls are refused until then.
        Cancelling it only ends the wait for it.

        Args:
            add: New engines; one whose name is known replaces the old one.
            remove: Names that no new run gets.
            devices: As for a new pool.
            groups: As for a new pool.
            keep_alive: As for a new pool.
            limits: As for a new pool.

        Raises:
            EngineStartError: new engines did not start; their supervisors go on trying.
        """
        terms = _Terms(devices, keep_alive, limits)
        await self._do(lambda: self._change(add, remove, groups, terms))

    async def _change(
        self,
        add: Mapping[str, WatchedEngine],
        remove: Collection[str],
        groups: Groups,
        terms: "_Terms",
    ) -> None:
        async with self._changes:
            before, self._terms = self._terms, terms
            retired = [k for name, k in self._kept.items() if name in remove or name in add]
            self._retired.update(retired)
            staying = {name: k for name, k in self._kept.items() if k not in self._retired}
            for name, kept in staying.items():
                kept.reconfigure(limit=terms.limit(name), keep_alive=terms.idle_seconds(name))
            fresh = {name: self._keep(name, engine) for name, engine in add.items()}
            self._kept = staying | fresh
            failures: dict[str, EngineError] = {}
            async with asyncio.TaskGroup() as group:
                for kept in retired:
                    group.create_task(self._retire(kept))
                for name, kept in fresh.items():
                    is_free = not any(terms.collides(name, before, k.name) for k in retired)
                    if is_free and (len(groups) < 2 or name not in terms.devices):
                        group.create_task(_bring(kept, failures))
            failures |= await self._turns.regroup(groups or [list(self._kept)], self._kept)
        if failures:
            reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
            raise EngineStartError(f"not everything new has started: {reasons}")

    async def _retire(self, kept: KeptEngine) -> None:
        await kept.retire()
        self._retired.discard(kept)

    def _find(self, name: str) -> KeptEngine:
        if name not in self._kept:
            # It was removed just now, or a change that adds it is about to begin.
            raise EngineUnavailableError(f"there is no engine {name}; ask again", code=STARTING)
        return self._kept[name]

    def _keep(self, name: str, engine: WatchedEngine) -> KeptEngine:
        ids = sorted(self._terms.devices.get(name, ()))  # one order for all: no deadlock
        return KeptEngine(
            name,
            engine,
            [self._locks.setdefault(id, asyncio.Lock()) for id in ids],
            self._spawn,
            limit=self._terms.limit(name),
            keep_alive=self._terms.idle_seconds(name),
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        if not self._is_open:
            work.close()
            raise EngineUnavailableError("the engines are being stopped")
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something to its end, even if the caller stops waiting for it."""
        failures: list[FusionError] = []
        is_heard = True

        async def do() -> None:
            try:
                await work()
            except FusionError as error:
                failures.append(error)
                if not is_heard:
                    _log.warning("%s", error)

        task = self._spawn(do())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_heard = False
            raise
        if task.cancelled():
            raise EngineUnavailableError("the engines are being stopped")
        task.result()
        if failures:
            raise failures[0]


@dataclass(frozen=True, slots=True)
class _Terms:
    """What engines get besides themselves."""

    devices: Devices
    keep_alive: KeepAlive
    limits: Mapping[str, int]

    def limit(self, name: str) -> int:
        return self.limits.get(name, DEFAULT_LIMIT)

    def idle_seconds(self, name: str) -> float | None:
        if isinstance(self.keep_alive, Mapping):
            return self.keep_alive.get(name)
        return self.keep_alive

    def collides(self, name: str, before: "_Terms", old: str) -> bool:
        """Whether an engine needs what an old one has: its name, a device, or the CPU's memory."""
        if name not in self.devices or old not in before.devices:
            return False
        mine, its = set(self.devices[name]), set(before.devices[old])
        return name == old or bool(mine & its) or not (mine or its)


async def _bring(kept: KeptEngine, failures: dict[str, EngineError]) -> None:
    try:
        await kept.bring()
    except EngineError as error:
        failures[kept.name] = error
