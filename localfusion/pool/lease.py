"""An engine as one run sees it: the same from the run's first event to its last."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TypeVar

from localfusion.engines.base import Engine, EngineFacts, EngineStats
from localfusion.errors import ASLEEP, EngineUnavailableError
from localfusion.functions import Tools
from localfusion.pool.kept import UNLOADED, KeptEngine
from localfusion.types import Delta, Message, Prompt

T = TypeVar("T")
Turn = Callable[[KeptEngine], AbstractAsyncContextManager[None]]


class LeasedEngine:
    """An Engine whose calls wait until the engine has its devices.

    Args:
        turn: Entered around every call; returns when the engine may be asked.
    """

    def __init__(self, kept: KeptEngine, turn: Turn) -> None:
        self._kept = kept
        self._turn = turn

    @property
    def facts(self) -> EngineFacts:
        return self._kept.engine.facts

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Wait for the engine's turn, then stream; closing leaves the queue, or aborts."""
        kept = self._kept
        kept.check()
        async with self._turn(kept):
            await kept.back()
            kept.check()  # much may have happened while it waited
            async with aclosing(kept.engine.generate(prompt)) as deltas:
                async for delta in deltas:
                    yield delta

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Count with the engine's own template; never waits for its turn.

        Raises:
            EngineUnavailableError: code ASLEEP while it has no devices.
        """
        return await self._now(lambda engine: engine.count_tokens(messages, tools))

    async def stats(self) -> EngineStats:
        """Look at it now; never waits for its turn.

        Raises:
            EngineUnavailableError: code ASLEEP while it has no devices.
        """
        return await self._now(lambda engine: engine.stats())

    async def _now(self, ask: Callable[[Engine], Awaitable[T]]) -> T:
        kept = self._kept
        kept.check()
        if kept.place == "up":
            try:
                return await ask(kept.engine)
            except EngineUnavailableError as error:
                if kept.place == "up":  # it was not put away meanwhile
                    # Not STARTING, even if its supervisor says so: a fusion goes on without it.
                    why = str(error)
                    raise EngineUnavailableError(why, retry_after=error.retry_after) from error
        raise EngineUnavailableError(f"{kept.name} is not loaded and cannot tell now", code=ASLEEP)


class UnloadedEngine:
    """Stands for an engine that was unloaded by hand when the run began: refuses every call."""

    def __init__(self, kept: KeptEngine) -> None:
        self._kept = kept

    @property
    def facts(self) -> EngineFacts:
        return self._kept.engine.facts

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        raise self._refusal

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        raise self._refusal

    async def stats(self) -> EngineStats:
        raise self._refusal

    @property
    def _refusal(self) -> EngineUnavailableError:
        name = self._kept.name
        return EngineUnavailableError(
            f"{name} is unloaded; localfusion load {name} starts it", code=UNLOADED
        )
