"""What goes wrong: at random times, of random kinds."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from localfusion.errors import FusionError
from soaks.system import System

EVERY = 0.7
"""Mean seconds between two faults."""
UNLOADED_SECONDS = 0.5


class Faults:
    """Breaks a system until it is cancelled.

    Attributes:
        counts: Faults so far, by kind.
    """

    def __init__(self, system: System, burst: Callable[[], Awaitable[None]]) -> None:
        self.counts: Counter[str] = Counter()
        self._system = system
        self._burst = burst
        self._rng = random.Random(system.rng.random())
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill": (8, self._kill),
            "two killed at once": (2, self._kill_two),
            "hang": (2, self._hang),
            "reload": (1, self._reload),
            "unload and load": (1, self._unload),
            "burst of requests": (1, self._burst),
        }

    async def run(self) -> None:
        weights = [weight for weight, _ in self._kinds.values()]
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._rng.expovariate(1 / EVERY))
                group.create_task(self._do(self._rng.choices(list(self._kinds), weights)[0]))

    async def _do(self, kind: str) -> None:
        self.counts[kind] += 1
        try:
            await self._kinds[kind][1]()
        except FusionError:
            self.counts["refused or failed"] += 1

    async def _kill(self) -> None:
        self._rng.choice(list(self._system.sims.values())).kill()

    async def _kill_two(self) -> None:
        for engine in self._rng.sample(list(self._system.sims.values()), 2):
            engine.kill()

    async def _hang(self) -> None:
        self._rng.choice(list(self._system.sims.values())).hang()

    async def _reload(self) -> None:
        await self._system.reload()

    async def _unload(self) -> None:
        name = self._rng.choice(list(self._system.sims))
        await self._system.unload(name)
        await asyncio.sleep(UNLOADED_SECONDS)
        await self._system.load(name)
