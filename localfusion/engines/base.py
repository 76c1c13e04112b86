"""What fusion may know of an engine, and what its owner knows besides."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from localfusion.engines.turns import TurnRules
from localfusion.functions import Tools
from localfusion.types import Delta, Message, Prompt

Phase = Literal[
    "waiting",
    "launching",
    "loading",
    "sizing",
    "graphs",
    "listening",
    "checking",
    "ready",
    "restarting",
    "asleep",
    "broken",
    "stopped",
    "failed",
]
"""Where an engine is. Those of a start are read from its log, shown and never decided upon.

``restarting``: it died, or does not answer, and a start is due; ``broken``: it failed so often that
no start is due soon; ``asleep``: its group does not have the hardware now.
"""

Device = Literal["gpu", "cpu", "engine"]
"""What an engine's time is counted in: its GPUs, its CPU cores; ``engine``: it is not known."""

MISCONFIGURED = "engine_misconfigured"
"""Code of an EngineStartError that another start cannot mend."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a running engine says of itself.

    Attributes:
        max_model_len: Tokens of prompt and answer together.
        version: Of the serving software, for traces.
        supports_priority: Whether ``Prompt.priority`` may be sent; elsewhere it is left out.
        block_size: Tokens of a block of the prefix cache, which are shared whole or not at all; 0
            where there is no such cache, or nothing is known of it.
        devices: How many of ``device`` it occupies while it works.
        calls_tools: Whether ``Prompt.tools`` may be sent.
        turns: What its chat template takes; whatever else it is asked is put into that shape.
    """

    max_model_len: int
    version: str = ""
    supports_priority: bool = False
    block_size: int = 0
    devices: int = 1
    device: Device = "engine"
    calls_tools: bool = False
    turns: TurnRules = field(default_factory=TurnRules)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's view of a running engine.

    Attributes:
        running: Requests that it computes.
        waiting: Requests that wait in it.
        kv_cache_usage: Used share of the KV cache, 0 to 1.
        generated_tokens: Since its start, over all requests.
    """

    running: int
    waiting: int
    kv_cache_usage: float
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine at one moment, as ``localfusion ps`` shows it.

    Attributes:
        phase: Where it is; ``detail`` says why, when it cannot answer.
        seconds: Since it entered that phase.
        restarts: Starts after a death, since the gateway began.
        start_seconds: What its last start took, until it had generated a token; None before.
        in_flight: Calls of ours that have not ended.
        pid: Its process, which leads its process group; None in other machines and in process.
        log: Its last lines, when it is broken.
    """

    engine: str
    phase: Phase
    seconds: float
    detail: str = ""
    restarts: int = 0
    start_seconds: float | None = None
    in_flight: int = 0
    pid: int | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """An engine entered ``phase``; ``seconds`` since its start began, ``detail`` in words."""

    engine: str
    phase: Phase
    seconds: float
    detail: str = ""


PhaseListener = Callable[[PhaseChange], None]
Turn = Callable[[], AbstractAsyncContextManager[None]]


def ignore_phase(change: PhaseChange) -> None:
    """Listen to a start that nobody watches."""


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

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Count the prompt's tokens with the engine's own chat template applied."""
        ...

    async def stats(self) -> EngineStats:
        """Look at it now; for hints, nothing may depend on it.

        Raises:
            EngineError: it is not there, or tells nothing of itself.
        """
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

    @property
    def pid(self) -> int | None:
        """Its process, which leads its process group; None where there is none of ours."""
        ...

    async def died(self) -> str:
        """Return why, once it has died without being asked to; wait until then."""
        ...

    @property
    def last_lines(self) -> Sequence[str]:
        """The end of its log; empty where it has none."""
        ...

    @property
    def can_sleep(self) -> bool:
        """Whether it can give its device's memory away and come back without a start."""
        ...

    async def sleep(self) -> None:
        """Give the device's memory away; no call may be running.

        Raises:
            EngineError: it cannot, or did not.
        """
        ...

    async def wake(self) -> None:
        """Take the memory back and return when one real token has been generated.

        Raises:
            EngineError: it cannot, or did not.
        """
        ...


@runtime_checkable
class WatchedEngine(ManagedEngine, Protocol):
    """An engine that a supervisor keeps alive; what the pool holds."""

    @property
    def status(self) -> EngineStatus: ...

    async def keep(self, turn: Turn) -> None:
        """Watch it until it is stopped: heartbeat, restart, breaker. Cancel it to end the watch.

        Args:
            turn: Entered around every start: nothing else starts on its devices meanwhile.
        """
        ...
