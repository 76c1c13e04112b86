"""A served system of simulated engines that can be broken from outside."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from localfusion.config import Settings
from localfusion.engines.base import PhaseChange, PhaseListener, ignore_phase
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.engines.supervisor import SupervisedEngine, Supervision
from localfusion.fusion import Fusion
from localfusion.overview import EngineRow
from localfusion.pool import EnginePool, Waiting
from localfusion.server.serving import listen, serve
from localfusion.telemetry import Telemetry
from localfusion.traces import Traces
from localfusion.types import Delta, Prompt

PRESET = "soak"
MEMBERS, JUDGE = "abc", "d"
DEVICES: Mapping[str, Sequence[str]] = dict.fromkeys((*MEMBERS, JUDGE), ("gpu0",))
GROUPS: Sequence[Sequence[str]] = (MEMBERS, JUDGE)
DEADLINE = 10.0
GROUPS_CHANGE = 0.3
"""Part of the reloads that put panel and judge in turns, or together again."""
KEEP_ALIVE: Mapping[str, float | None] = {"c": 0.5}
"""Idle seconds: c is often unloaded and brought back."""
LIMITS: Mapping[str, int] = {JUDGE: 24}
PROFILE = SimProfile(
    prefill_overhead=0.005,
    inter_token=0.002,
    jitter=0.2,
    max_num_seqs=16,
    start_seconds=0.1,
    sleep_seconds=0.05,
    wake_seconds=0.05,
)
SUPERVISION = Supervision(
    idle_seconds=2.0,
    busy_seconds=1.0,
    misses=2,
    backoff_first=0.1,
    backoff_limit=1.0,
    failures=6,
    window=5.0,
    retry_every=2.0,
    drain=2.0,
)
BAD_CALLS = 0.03
BAD_STARTS = 0.2
_KINDS = (
    SimFailure("die", at_token=3),
    SimFailure("error_event", at_token=2),
    SimFailure("truncated", at_token=4),
    SimFailure("malformed"),
    SimFailure("overloaded"),
    SimFailure("refuse"),
    SimFailure("stall", at_token=1),
    SimFailure("drip", seconds=0.05),
)


class FragileEngine(SimEngine):
    """Some calls and some starts of it fail."""

    def __init__(self, name: str, rng: random.Random) -> None:
        text = "They cost eight euros in all. " * 3
        super().__init__(text, name=name, profile=PROFILE, failure=self._break_some)
        self._rng = rng

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        self.calls.clear()  # else hours of prompts are kept
        return super().generate(prompt)

    async def start(self, listener: PhaseListener) -> None:
        if self._rng.random() < BAD_STARTS:
            self.fail_starts(1, "out_of_memory")
        await super().start(listener)

    def _break_some(self, prompt: Prompt) -> SimFailure | None:
        return self._rng.choice(_KINDS) if self._rng.random() < BAD_CALLS else None


def _watched(engine: FragileEngine) -> SupervisedEngine:
    return SupervisedEngine(engine, engine.name, supervision=SUPERVISION)


@dataclass
class System:
    """A Gateway: members a, b, c and judge d, which share a device; sometimes in turns."""

    rng: random.Random
    sims: dict[str, FragileEngine]
    pool: EnginePool
    settings: Settings
    fusion: Fusion
    telemetry: Telemetry
    draining: bool = False
    notes: Sequence[str] = ()
    traces: Traces = field(default_factory=Traces)
    are_in_turns: bool = False

    def phases(self) -> Mapping[str, PhaseChange]:
        return self.pool.phases()

    def not_ready(self) -> tuple[str, ...]:
        return ()

    async def look(self) -> Sequence[EngineRow]:
        return [EngineRow(status) for status in self.pool.statuses().values()]

    @property
    def queue(self) -> Sequence[Waiting]:
        return self.pool.queue

    async def load(self, name: str) -> None:
        await self.pool.load(name)

    async def unload(self, name: str) -> None:
        await self.pool.unload(name)

    async def reload(self) -> Sequence[str]:
        """Replace an engine, and now and then put panel and judge in turns, or together again."""
        name = self.rng.choice(list(self.sims))
        self.sims[name] = FragileEngine(name, self.rng)
        if self.rng.random() < GROUPS_CHANGE:
            self.are_in_turns = not self.are_in_turns
        groups = GROUPS if self.are_in_turns else ()
        await self.pool.change(
            {name: _watched(self.sims[name])},
            [],
            DEVICES,
            groups=groups,
            keep_alive=KEEP_ALIVE,
            limits=LIMITS,
        )
        return [f"{name} is new"]


def _settings() -> Settings:
    model = {"engine": "sim", "license": "Apache-2.0", "origin": "nobody"}
    preset = {"panel": list(MEMBERS), "judge": JUDGE, "deadline": DEADLINE, "grace": 1}
    return Settings.model_validate(
        {
            "default_preset": {"gpu": PRESET, "cpu": PRESET},
            "models": dict.fromkeys(DEVICES, model),
            "presets": {PRESET: preset},
            "server": {"keepalive": 1},
        }
    )


@asynccontextmanager
async def open_system(rng: random.Random) -> AsyncGenerator[tuple[System, int], None]:
    """Serve a started system on a port of loopback, which is given too."""
    settings = _settings()
    sims = {name: FragileEngine(name, rng) for name in DEVICES}
    watched = {name: _watched(sim) for name, sim in sims.items()}
    async with EnginePool(watched, DEVICES, keep_alive=KEEP_ALIVE, limits=LIMITS) as pool:
        await pool.start(ignore_phase, require_all=False)
        telemetry = Telemetry(settings)
        fusion = Fusion(
            pool,
            settings.presets,
            default_preset=PRESET,
            lease=pool.lease,
            observers=telemetry.observers,
        )
        system = System(rng, sims, pool, settings, fusion, telemetry)
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        async with asyncio.TaskGroup() as group:
            server = group.create_task(serve(system, listener))
            yield system, port
            server.cancel()
