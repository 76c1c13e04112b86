"""What fusion may know of an engine, and what its owner knows besides."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from localfusion.types import Delta, Message, Prompt

Phase = Literal[
    "waiting",
    "launching",
    "loading",
    "sizing",
    "listening",
    "checking",
    "ready",
    "stopped",
    "failed",
]
"""Where an engine's start is; shown to people, never decided upon."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a running engine says of itself.

    Attributes:
        max_model_len: Tokens of prompt and answer together.
        version: Of the serving software, for traces.
        supports_priority: Whether ``Prompt.priority`` may be sent; elsewhere it is left out.
    """

    max_model_len: int
    version: str = ""
    supports_priority: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's view: requests running and waiting, used share of the KV cache (0..1)."""

    running: int
    waiting: int
    kv_cache_usage: float


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """An engine entered ``phase``; ``seconds`` since its start began, ``detail`` in words."""

    engine: str
    phase: Phase
    seconds: float
    detail: str = ""


PhaseListener = Callable[[PhaseChange], None]


@runtime_checkable
class Engine(Protocol):
    """One model that generates; all that fusion may know.

    A good stream carries text or reasoning and ends with exactly one delta that has both
    ``finish_reason`` and ``usage``. Closing the generator makes the engine stop working. Failures
    are EngineError, RequestError or OverloadedError.
    """

    @property
    def facts(self) -> EngineFacts: ...

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the answer; ``aclose()`` aborts it."""
        ...

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the prompt's tokens with the engine's own chat template applied."""
        ...


@runtime_checkable
class ManagedEngine(Engine, Protocol):
    """An engine that somebody starts and stops."""

    @property
    def is_ready(self) -> bool:
        """Whether it has started and, as far as is known, still lives."""
        ...

    async def start(self, listener: PhaseListener) -> None:
        """Return when one real token has been generated.

        Raises:
            EngineStartError: it never will; the message has the cause and the remedy.
        """
        ...

    async def stop(self) -> None:
        """End it and everything that belongs to it; safe to call at any time, also twice."""
        ...

    async def stats(self) -> EngineStats: ...
