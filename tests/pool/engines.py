"""Watched simulated engines that write down what is done to them, and pools of them."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from localfusion.engines.base import Engine, PhaseListener
from localfusion.engines.sim import Script, SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.engines.supervisor import SupervisedEngine, Supervision
from localfusion.errors import EngineError
from localfusion.pool import EnginePool
from localfusion.types import Message, Prompt

PROMPT = Prompt((Message("user", "Hello"),))
Journal = list[tuple[float, str]]


def clock() -> float:
    return asyncio.get_running_loop().time()


class WatchedSim(SupervisedEngine):
    """Started again a second after each death; its silence is not watched.

    Args:
        start: Seconds of a start.
        call: Seconds of a call.
        swap: Seconds of sleeping and of waking; None: it cannot sleep.
        token: Seconds per token of an answer.
        text: What it says; None: its name.

    Attributes:
        sim: The engine itself.
    """

    def __init__(
        self,
        name: str,
        journal: Journal,
        *,
        start: float = 10.0,
        call: float = 1.0,
        swap: float | None = None,
        token: float = 0.0,
        text: Script | None = None,
    ) -> None:
        profile = SimProfile(
            start_seconds=start, inter_token=token, sleep_seconds=swap, wake_seconds=swap or 0.0
        )
        self.sim = _Journaled(journal, text or name, name=name, delay=call, profile=profile)
        supervision = Supervision(
            idle_seconds=1e9, busy_seconds=1e9, failures=1000, backoff_limit=1
        )
        super().__init__(self.sim, name, supervision=supervision, rng=_Latest())

    async def stop(self) -> None:
        self.sim.note("stop")
        await super().stop()

    def kill(self) -> None:
        """Let it die at once; every call of it fails."""
        self.sim.note("kill")
        self.sim.kill()

    def fail(self, *swaps: str) -> None:
        """Let ``sleep`` or ``wake`` fail from now on."""
        self.sim.fails = swaps

    def fail_starts(self, count: int = 1) -> None:
        """Let its next starts fail, in a way that may pass."""
        self.sim.fail_starts(count, "out_of_memory")


class _Journaled(SimEngine):
    def __init__(self, journal: Journal, text: Script, **options: object) -> None:
        build: Callable[..., None] = super().__init__
        build(text, **options)
        self.journal = journal
        self.fails: Sequence[str] = ()

    def note(self, what: str) -> None:
        self.journal.append((clock(), f"{what} {self.name}"))

    async def start(self, listener: PhaseListener) -> None:
        self.note("start")
        await super().start(listener)

    async def sleep(self) -> None:
        self.note("sleep")
        await super().sleep()
        self._fail_if("sleep")

    async def wake(self) -> None:
        self.note("wake")
        await super().wake()
        self._fail_if("wake")

    def _fail_if(self, what: str) -> None:
        if what in self.fails:
            raise EngineError(f"{self.name} does not {what}")


class _Latest(random.Random):
    """Leaves nothing of a restart's wait to chance."""

    def random(self) -> float:
        return 1.0


def sims(names: str, journal: Journal, **options: object) -> dict[str, WatchedSim]:
    """Build an engine for each letter."""
    build: Callable[..., WatchedSim] = WatchedSim
    return {name: build(name, journal, **options) for name in names}


@asynccontextmanager
async def started(
    engines: Mapping[str, WatchedSim],
    devices: Mapping[str, Sequence[str]] | None = None,
    **terms: object,
) -> AsyncGenerator[EnginePool, None]:
    """A pool whose engines are ready; each engine's journal begins after their start."""
    build: Callable[..., EnginePool] = EnginePool
    async with build(engines, devices or {}, **terms) as pool:
        await pool.start(lambda _: None)
        for engine in engines.values():
            engine.sim.journal.clear()
        yield pool


async def say(engine: Engine) -> str:
    """Ask an engine something and return all it says."""
    async with aclosing(engine.generate(PROMPT)) as deltas:
        return "".join([delta.text async for delta in deltas])
