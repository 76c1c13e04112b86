"""``scripts/bench placement``: three real engines on planned cores, and without a plan.

Same weights, prompt and token count in every arm, one after the other in one run.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

from benches.children import Threads, children, plan_three
from benches.table import Row
from localfusion.config import Config
from localfusion.engines.base import ignore_phase
from localfusion.engines.vllm import VLLMEngine
from localfusion.placement import Plan
from localfusion.types import Message, Prompt, SamplingParams

TOKENS = 64
QUESTION = "Write a long story about a lighthouse keeper."


async def measure(loaded: Config) -> list[Row]:
    """Ask three engines the same at once, on planned cores and in two unplanned ways."""
    made = plan_three(loaded)
    planned = await seconds(loaded, made, "planned")
    bound = await seconds(loaded, made, "vLLM's binding")
    unplanned = await seconds(loaded, made, "a thread per core")
    return [
        Row("a thread per core / planned, slowest of three", unplanned / planned, "x", 3, True),
        Row("vLLM's own binding / planned, slowest of three", bound / planned, "x", 1, True),
    ]


async def seconds(loaded: Config, made: Plan, threads: Threads) -> float:
    """Return how long three engines take for one answer each, asked at once; starts not counted."""
    async with children(loaded, made.slots, threads) as engines:
        async with asyncio.TaskGroup() as group:
            for engine in engines:
                group.create_task(engine.start(ignore_phase))
        took = await answer_all(engines)
    line = ", ".join(f"{name} {s:.1f} s" for name, s in took.items())
    print(f"  {threads}: {line}", flush=True)
    return max(took.values())


async def answer_all(engines: Sequence[VLLMEngine]) -> dict[str, float]:
    """Ask all at once for the same number of tokens; return seconds by engine."""
    took: dict[str, float] = {}

    async def ask(engine: VLLMEngine) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=TOKENS)
        prompt = Prompt((Message("user", QUESTION),), sampling)
        began = time.perf_counter()
        async with aclosing(engine.generate(prompt)) as deltas:
            async for _ in deltas:
                pass
        took[engine.name] = time.perf_counter() - began

    async with asyncio.TaskGroup() as group:
        for engine in engines:
            group.create_task(ask(engine))
    return took
