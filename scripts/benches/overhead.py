"""What our own code adds to a fusion, on simulated engines: latency, many at once, memory."""

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing

import psutil

from benches.table import Row
from localfusion.config import Preset
from localfusion.engines.base import Engine
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.fusion import Fusion
from localfusion.fusion.fusion import Observer
from localfusion.types import Message, Prompt, Request, SamplingParams

MEMBERS = "abcd"
ROUNDS = 100
AT_ONCE = 500
SECONDS = 60.0
"""Deadline of each of the many."""
WAVES = 4


def build(
    text: str,
    profile: SimProfile,
    deadline: float = 300.0,
    observers: Iterable[Observer] = (),
) -> Fusion:
    """Return four members and a judge that say ``text``."""
    engines = {name: SimEngine(text, name=name, profile=profile) for name in (*MEMBERS, "judge")}
    fields = {"panel": list(MEMBERS), "judge": "judge", "deadline": deadline, "grace": deadline}
    preset = Preset.model_validate(fields)
    return Fusion(engines, {"bench": preset}, default_preset="bench", observers=observers)


async def measure() -> list[Row]:
    """Return every figure."""
    alone, streamed = await added_latency()
    late, growth = await many_at_once()
    return [
        Row("our code, one fusion of four members, median", alone, "ms", 3.0),
        Row("our code, of it for each token that streams through", streamed, "ms", 0.5),
        Row(f"{AT_ONCE} fusions at once: missed deadlines", late, "", 0.0),
        Row(f"memory after {WAVES} waves of {AT_ONCE} / after the first", growth, "x", 1.1),
    ]


async def added_latency() -> tuple[float, float]:
    """Return milliseconds of a fusion whose engines take no time; and of each token more."""
    short = await median_seconds("It is 8.")
    words = 100
    long = await median_seconds("word " * words)
    return short * 1e3, (long - short) * 1e3 / (words * (len(MEMBERS) + 1))


async def median_seconds(text: str) -> float:
    """Return the median of fusions without what the same calls take without us."""
    fusion, bare = (build(text, SimProfile(num_blocks=512)) for _ in range(2))
    added = []
    for place in range(ROUNDS):
        began = time.perf_counter()
        await fusion.complete(request(place))
        took = time.perf_counter() - began
        began = time.perf_counter()
        for name, engine in fusion.engines.items():
            for prompt in calls_of(engine):
                await drain(bare.engines[name], prompt)
        added.append(took - (time.perf_counter() - began))
        for engine in fusion.engines.values():
            calls_of(engine).clear()
    return statistics.median(added)


def calls_of(engine: Engine) -> list[Prompt]:
    """Return the simulated engine's record of its calls."""
    assert isinstance(engine, SimEngine)
    return engine.calls


async def drain(engine: Engine, prompt: Prompt) -> None:
    async with aclosing(engine.generate(prompt)) as deltas:
        async for _ in deltas:
            pass


def request(place: int) -> Request:
    """Ask something new each time."""
    asked = Message("user", f"What do {place} pens cost?")
    return Request("bench", (asked,), SamplingParams(seed=place))


async def many_at_once() -> tuple[float, float]:
    """Return how many of many fusions missed their deadline, and how memory grew over waves."""
    # Decoding for six seconds; the engines take all requests at once, as large ones would.
    profile = SimProfile(
        inter_token=0.06, max_num_seqs=AT_ONCE, max_num_queued_reqs=AT_ONCE, num_blocks=1 << 15
    )
    fusion = build("word " * 100, profile, deadline=SECONDS)
    process = psutil.Process()
    late, sizes = 0, []
    for wave in range(WAVES):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(fusion.complete(request(wave * AT_ONCE + place)))
                for place in range(AT_ONCE)
            ]
        late += sum(task.result().status != "full" for task in tasks)
        sizes.append(process.memory_info().rss)
        for engine in fusion.engines.values():
            calls_of(engine).clear()  # its record is not ours to count
        print(f"  wave {wave + 1}: {spread([task.result().seconds for task in tasks])}")
    return late, sizes[-1] / sizes[0]


def spread(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return f"median {statistics.median(ordered):.1f} s, longest {ordered[-1]:.1f} s"
