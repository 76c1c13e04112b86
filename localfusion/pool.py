"""EnginePool: the engines of a plan as one mapping; started in order, stopped together."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from localfusion.engines.base import ManagedEngine, PhaseChange, PhaseListener
from localfusion.errors import EngineStartError


class EnginePool(Mapping[str, ManagedEngine]):
    """Engines by model name.

    Args:
        engines: In the order in which they start.
        devices: What each engine occupies; two engines of one device start one after the other,
            since vLLM measures the whole device's free memory while it starts. Engines on the CPU
            have none and start together.
    """

    def __init__(
        self, engines: Mapping[str, ManagedEngine], devices: Mapping[str, Sequence[str]]
    ) -> None:
        self._engines = dict(engines)
        self._devices = devices
        self._phases = {name: PhaseChange(name, "waiting", 0.0) for name in engines}

    def __getitem__(self, name: str) -> ManagedEngine:
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    @property
    def phases(self) -> Mapping[str, PhaseChange]:
        """Where each engine's start is."""
        return self._phases

    async def start(self, listener: PhaseListener) -> None:
        """Return when every engine has generated a token.

        Raises:
            EngineStartError: one cannot start; the others are left as they are.
        """
        locks = {id: asyncio.Lock() for ids in self._devices.values() for id in ids}

        def enter(change: PhaseChange) -> None:
            self._phases[change.engine] = change
            listener(change)

        async def start_one(name: str) -> None:
            ids = sorted(self._devices.get(name, ()))  # one order for all: no deadlock
            for id in ids:
                await locks[id].acquire()
            try:
                await self._engines[name].start(enter)
            finally:
                for id in ids:
                    locks[id].release()

        try:
            async with asyncio.TaskGroup() as group:
                for name in self._engines:
                    enter(self._phases[name])
                    group.create_task(start_one(name))
        except* EngineStartError as failures:
            raise failures.exceptions[0] from None

    async def stop(self) -> None:
        """Stop every engine; returns when no process of theirs is left."""
        async with asyncio.TaskGroup() as group:
            for engine in self._engines.values():
                group.create_task(engine.stop())
