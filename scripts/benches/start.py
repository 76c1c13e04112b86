"""``scripts/bench start``: what starts take, alone and together, and until a killed engine serves.

First each of three engines alone, which says what the plan predicts; then all three together; then
one of them is killed as a group, and its supervisor brings it back.
"""

import asyncio
import os
import signal
import time

from benches.children import children, plan_three
from benches.table import Row
from localfusion.config import Config
from localfusion.engines import group
from localfusion.engines.base import PhaseChange, ignore_phase
from localfusion.engines.supervisor import SupervisedEngine
from localfusion.engines.vllm import VLLMEngine
from localfusion.placement import Plan
from localfusion.pool import EnginePool
from localfusion.starts import Start, predict


async def measure(loaded: Config) -> list[Row]:
    """Return starts together against their prediction, and a restart against a cold start."""
    made = plan_three(loaded)
    alone = {slot.model: await start_alone(loaded, made, slot.model) for slot in made.slots}
    predicted = predict(made, alone)
    assert predicted is not None
    async with children(loaded, made.slots) as engines:
        watched = {engine.name: SupervisedEngine(engine, engine.name) for engine in engines}
        async with EnginePool(watched, {}) as pool:
            began = time.perf_counter()
            await pool.start(ignore_phase)
            together = time.perf_counter() - began
            smallest = min(made.slots, key=lambda slot: slot.weight_bytes).model
            back = await kill(watched[smallest])
    print(f"  predicted {predicted:.1f} s, together {together:.1f} s", flush=True)
    print(
        f"  {smallest}: cold start {alone[smallest].seconds:.1f} s, back {back:.1f} s after a kill"
    )
    return [
        Row("three engines ready / sum of each alone", together / predicted, "x", 1.1),
        Row(
            "killed engine serves again, over its cold start",
            back - alone[smallest].seconds,
            "s",
            3,
        ),
    ]


async def start_alone(loaded: Config, made: Plan, model: str) -> Start:
    """Start one engine with the machine to itself; print where the time goes."""
    phases: list[PhaseChange] = []
    async with children(loaded, [made[model]]) as engines:
        engine: VLLMEngine = engines[0]
        began = time.perf_counter()
        await engine.start(phases.append)
        seconds = time.perf_counter() - began
        assert engine.pid is not None
        start = Start(seconds, group.cpu_seconds(engine.pid))
    marks = {change.phase: change.seconds for change in reversed(phases)}
    spent = ", ".join(f"{phase} from {at:.1f}" for phase, at in reversed(marks.items()))
    print(
        f"  {model} alone: {start.seconds:.1f} s, {start.cpu_seconds:.1f} CPU s ({spent})",
        flush=True,
    )
    return start


async def kill(engine: SupervisedEngine) -> float:
    """Kill an engine's whole group; return seconds until it serves again."""
    pid = engine.status.pid
    assert pid is not None
    began = time.perf_counter()
    os.killpg(pid, signal.SIGKILL)
    await _until(engine, ready=False)
    await _until(engine, ready=True)
    return time.perf_counter() - began


async def _until(engine: SupervisedEngine, *, ready: bool) -> None:
    while engine.is_ready is not ready:  # noqa: ASYNC110  a measurement, not the product
        await asyncio.sleep(0.05)
