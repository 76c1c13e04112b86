"""SimEngine: an engine without a model, for tests, load simulation and trying the program out.

It says what its script says, at the speed of its profile, and fails as its plan says; it records
the calls and counts the aborts. Everything is deterministic and on the event loop's clock.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, assert_never

from localfusion.engines.base import (
    MISCONFIGURED,
    EngineFacts,
    EngineStats,
    Phase,
    PhaseChange,
    PhaseListener,
)
from localfusion.engines.sim_latency import SimProfile, SimScheduler, SimSequence
from localfusion.engines.sim_reply import (
    DEFAULT_TEXT,
    Script,
    SimReply,
    SimSpeaker,
    Verdict,
    render,
)
from localfusion.errors import (
    ContextLengthError,
    EngineError,
    EngineStartError,
    EngineUnavailableError,
    OverloadedError,
)
from localfusion.functions import Tools
from localfusion.types import Delta, Message, Prompt, Usage

__all__ = ["DEFAULT_TEXT", "Script", "SimEngine", "SimFailure"]

FailureKind = Literal[
    "refuse",
    "overloaded",
    "die",
    "stall",
    "error_event",
    "truncated",
    "malformed",
    "drip",
    "wrong_usage",
]


@dataclass(frozen=True, slots=True)
class SimFailure:
    """How a call fails.

    Attributes:
        kind: ``refuse`` and ``overloaded`` before the first token. After ``at_token`` tokens:
            ``die`` (the engine fails all its calls until it is started again), ``stall`` (silence),
            ``error_event``, ``truncated`` (the stream just ends), ``malformed`` (no JSON in it).
            Without an error: ``drip`` (``seconds`` more per token), ``wrong_usage`` (all 0).
        at_token: Tokens that still arrive; a shorter answer does not fail.
    """

    kind: FailureKind
    at_token: int = 0
    seconds: float = 1.0


StartFailure = Literal["out_of_memory", "corrupt_weights"]

START_FAILURES: Mapping[StartFailure, str] = MappingProxyType(
    {
        "out_of_memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "corrupt_weights": (
            "safetensors_rust.SafetensorError: Error while deserializing header: "
            "incomplete metadata, file not fully covered"
        ),
    }
)
"""What vLLM's log says last."""

FailurePlan = SimFailure | Callable[[Prompt], SimFailure | None]


class SimEngine:
    """A ManagedEngine in process; ready at once, ``start()`` is only needed after a stop or death.

    Args:
        text: What it says: always the same; one text per call, the last one again and again; or
            whatever a function makes of the prompt. Under a schema, a text that is no JSON is
            replaced by the smallest value that obeys it.
        delay: Seconds before each first token, on top of the profile.
        profile: How fast; None: everything at once, with room for 256 requests.
        failure: How calls fail; a function decides for each prompt, None: not.
        reasoning: Said before the text, as reasoning, unless the prompt's effort is ``none``.
        verdict: Probabilities of the first token where a prompt asks for ``logprobs``; of that
            answer the likeliest is all. None, or a function that returns none: the script is said,
            each token with probability 1.
        calls_tools: Call the first function that is offered, unless the last turn is a result; one
            that must be called always is. Arguments are the smallest that obey its schema.

    Attributes:
        calls: The prompts, in order of arrival.
        aborts: Calls whose reader left before the last delta.
        is_asleep: Whether it sleeps now.

    Raises:
        ValueError: the profile's blocks cannot hold ``max_model_len`` tokens.
    """

    def __init__(  # noqa: PLR0913  a script and what is varied in tests, all optional
        self,
        text: Script = DEFAULT_TEXT,
        *,
        name: str = "sim",
        delay: float = 0.0,
        profile: SimProfile | None = None,
        failure: FailurePlan | None = None,
        reasoning: str = "",
        verdict: Verdict | None = None,
        calls_tools: bool = False,
        max_model_len: int = 4096,
    ) -> None:
        profile = profile or SimProfile()
        if profile.num_blocks * profile.block_size < max_model_len:
            raise ValueError(f"{profile.num_blocks} blocks cannot hold {max_model_len} tokens")
        self.name = name
        self.calls: list[Prompt] = []
        self.aborts = 0
        self._speaker = SimSpeaker(text, reasoning, verdict, calls_tools)
        self._delay = delay
        self._failure = failure
        self._facts = EngineFacts(
            max_model_len,
            version="sim",
            supports_priority=True,
            block_size=profile.block_size if profile.caches_prefixes else 0,
            devices=profile.devices,
            device=profile.device,
            calls_tools=True,
        )
        self._scheduler = SimScheduler(profile)
        self._down: str | None = None
        self._crashed = asyncio.Event()
        self.is_asleep = False
        self._bad_starts: list[StartFailure] = []

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def is_ready(self) -> bool:
        return self._down is None

    @property
    def pid(self) -> int | None:
        """None: it runs in our process."""
        return None

    @property
    def last_lines(self) -> Sequence[str]:
        """Why it is down, which is all that it could log."""
        return () if self._down is None else (f"{self.name} {self._down}",)

    @property
    def profile(self) -> SimProfile:
        return self._scheduler.profile

    async def start(self, listener: PhaseListener) -> None:
        """Take ``profile.start_seconds``; a stopped or dead engine is as new, its cache empty."""
        clock = asyncio.get_running_loop().time
        began = clock()

        def enter(phase: Phase) -> None:
            listener(PhaseChange(self.name, phase, clock() - began))

        enter("loading")
        await asyncio.sleep(self.profile.start_seconds)
        if self._bad_starts:
            enter("failed")
            raise self._start_error(self._bad_starts.pop(0))
        self._down = None
        self.is_asleep = False
        self._crashed.clear()
        enter("ready")

    async def stop(self) -> None:
        self._shut("is stopped")

    async def died(self) -> str:
        await self._crashed.wait()
        return f"{self.name} {self._down}"

    @property
    def can_sleep(self) -> bool:
        return self.profile.sleep_seconds is not None

    async def sleep(self) -> None:
        """Take ``profile.sleep_seconds``; the cache is empty afterwards."""
        if self.profile.sleep_seconds is None or self._down is not None:
            raise EngineError(f"engine {self.name!r} {self._down or 'cannot sleep'}")
        if self._scheduler.stats.running:
            raise EngineError(f"engine {self.name!r} was to sleep while it runs a request")
        await asyncio.sleep(self.profile.sleep_seconds)
        self.is_asleep = True
        self._scheduler.fail(EngineError(f"engine {self.name!r} sleeps"))

    async def wake(self) -> None:
        """Take ``profile.wake_seconds``."""
        if self._down is not None or not self.is_asleep:
            raise EngineError(f"engine {self.name!r} {self._down or 'does not sleep'}")
        await asyncio.sleep(self.profile.wake_seconds)
        self.is_asleep = False

    # Faults, for tests and load simulation.

    def kill(self) -> None:
        """Let it die at once, as by ``kill -9``: all its calls fail until it is started again."""
        self._shut("was killed")
        self._crashed.set()

    def hang(self) -> None:
        """Let no token come any more, as by SIGSTOP; all else still answers. A stop ends it."""
        self._scheduler.hang()

    def fail_starts(self, count: int, reason: StartFailure) -> None:
        """Let its next starts fail, after the time that a start takes."""
        self._bad_starts += [reason] * count

    def _start_error(self, reason: StartFailure) -> EngineStartError:
        self._shut(f"did not start: {START_FAILURES[reason]}")
        code = MISCONFIGURED if reason == "corrupt_weights" else None
        return EngineStartError(f"engine {self.name!r} {self._down}", code=code)

    async def stats(self) -> EngineStats:
        self._require_life()
        return self._scheduler.stats

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        return len(render(messages, tools))

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the script; see Engine."""
        self.calls.append(prompt)
        failure = self._failure(prompt) if callable(self._failure) else self._failure
        self._admit(failure)
        messages = prompt.messages if prompt.raw is None else (Message("user", prompt.raw),)
        tokens = render(messages, prompt.tools)
        reply = self._reply(prompt, len(tokens))
        sequence = self._scheduler.submit(
            tokens,
            reply.wanted,
            priority=prompt.priority,
            seed=prompt.sampling.seed or 0,
            delay=self._delay,
            stalls_at=failure.at_token if failure and failure.kind == "stall" else None,
        )
        told = 0
        with self._serving(sequence):
            for made in range(1, reply.wanted + 1):
                await self._fail(failure, made - 1)
                await sequence.advance()
                # As vLLM's stream_interval: the first at once, and what is left at the end.
                if made == 1 or made - told >= prompt.interval or made == reply.wanted:
                    for piece in reply.pieces(told, made):
                        yield piece
                    told = made
            await self._fail(failure, reply.wanted)
        usage = Usage(
            prompt_tokens=len(tokens),
            completion_tokens=reply.wanted,
            cached_tokens=sequence.cached_tokens or 0,
            reasoning_tokens=reply.reasoning_tokens,
            calls=1,
        )
        if failure is not None and failure.kind == "wrong_usage":
            usage = Usage(calls=1)
        yield Delta(finish_reason=reply.finish_reason, usage=usage)

    def _require_life(self) -> None:
        if self._down is not None:
            raise EngineUnavailableError(f"engine {self.name!r} {self._down}; start it again")

    def _admit(self, failure: SimFailure | None) -> None:
        self._require_life()
        if self.is_asleep:
            raise EngineUnavailableError(f"engine {self.name!r} sleeps; wake it")
        if failure is None:
            return
        if failure.kind == "refuse":
            raise EngineUnavailableError(f"engine {self.name!r} refuses connections, as planned")
        if failure.kind == "overloaded":
            raise OverloadedError(f"engine {self.name!r} has too much to do, as planned")

    def _reply(self, prompt: Prompt, prompt_tokens: int) -> SimReply:
        room = self._facts.max_model_len - prompt_tokens
        if room < 1:
            raise ContextLengthError(
                f"the context length of engine {self.name!r} is {self._facts.max_model_len} tokens "
                f"and the prompt has {prompt_tokens}; shorten the prompt"
            )
        return self._speaker.reply(prompt, call=len(self.calls), room=room)

    @contextmanager
    def _serving(self, sequence: SimSequence) -> Iterator[None]:
        try:
            yield
        except (GeneratorExit, asyncio.CancelledError):
            self.aborts += 1
            raise
        finally:
            self._scheduler.release(sequence)

    async def _fail(self, failure: SimFailure | None, index: int) -> None:
        if failure is None or failure.kind == "stall":
            return
        if failure.kind == "drip":
            await asyncio.sleep(failure.seconds)
        elif index == failure.at_token:
            self._break(failure.kind)

    def _break(self, kind: FailureKind) -> None:
        match kind:
            case "die":
                self.kill()
                raise EngineError(f"engine {self.name!r} died, as planned", code="engine_died")
            case "error_event":
                raise EngineError(f"engine {self.name!r} failed, as planned")
            case "truncated":
                raise EngineError(
                    f"the stream of engine {self.name!r} ended early, as planned", code="truncated"
                )
            case "malformed":
                raise EngineError(
                    f"engine {self.name!r} sent no JSON, as planned", code="malformed_stream"
                )
            case "refuse" | "overloaded" | "stall" | "drip" | "wrong_usage":
                return
            case _:
                assert_never(kind)

    def _shut(self, why: str) -> None:
        self._down = why
        self._scheduler.fail(EngineError(f"engine {self.name!r} {why}", code="engine_died"))
