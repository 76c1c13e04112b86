"""Short ways to ask a SimEngine, for the tests of what it says and of when."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from localfusion.engines.sim import SimEngine
from localfusion.types import Delta, Message, Prompt, SamplingParams

HELLO = Prompt((Message("user", "Hello"),))


def ask(text: str, *, max_tokens: int | None = None, priority: int = 0) -> Prompt:
    sampling = SamplingParams(max_tokens=max_tokens)
    return Prompt((Message("user", text),), sampling, priority=priority)


async def collect(engine: SimEngine, prompt: Prompt = HELLO) -> list[Delta]:
    async with aclosing(engine.generate(prompt)) as deltas:
        return [delta async for delta in deltas]


async def say(engine: SimEngine, prompt: Prompt = HELLO) -> str:
    return "".join(delta.text for delta in await collect(engine, prompt))


async def times(engine: SimEngine, prompt: Prompt = HELLO) -> list[float]:
    """Return when each token came, the final delta left out."""
    clock = asyncio.get_running_loop().time
    async with aclosing(engine.generate(prompt)) as deltas:
        return [clock() async for delta in deltas if delta.finish_reason is None]


async def together(*calls: Callable[[], Awaitable[list[float]]]) -> list[list[float]]:
    async def result(call: Callable[[], Awaitable[list[float]]]) -> list[float]:
        return await call()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(result(call)) for call in calls]
    return [task.result() for task in tasks]
