"""Many calls at once, and another try for what an engine's loss has hit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from localfusion.errors import EngineUnavailableError, OverloadedError

TRIES = 3
LOST = frozenset(
    {
        "aborted",
        "asleep",
        "engine_died",
        "engine_overloaded",
        "engine_unavailable",
        "engine_unloaded",
        "starting",
        "truncated",
    }
)
"""Codes of failures that are an engine's, not an answer's: what they hit is asked again."""
T = TypeVar("T")


async def patiently(
    ask: Callable[[], Awaitable[T]],
    hit: Callable[[T], str | None],
    *,
    ready: Callable[[], Awaitable[None]],
    tell: Callable[[str], None],
) -> T:
    """Ask, and ask again after an engine was lost, as soon as it is back.

    Args:
        ask: What.
        hit: Returns how an engine's loss shows in what came, None: it does not.
        ready: Returns when every engine can answer.
        tell: Told of each loss.

    Raises:
        EngineUnavailableError: an engine does not come back, or the last try failed by it.
        OverloadedError: the last try was refused.
    """
    for attempt in range(1, TRIES + 1):
        await ready()
        try:
            found = await ask()
        except (EngineUnavailableError, OverloadedError) as error:
            if attempt == TRIES:
                raise
            tell(f"asked again: {error}")
            continue
        if attempt == TRIES or (loss := hit(found)) is None:
            return found
        tell(f"asked again: {loss}")
    raise AssertionError("the last try returns or raises")


async def at_once(jobs: Iterable[Callable[[], Awaitable[None]]], most: int) -> None:
    """Do all jobs, ``most`` of them at a time, in their order."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await job()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the first one ended the others
