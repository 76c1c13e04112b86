"""One call to one engine on behalf of a run: its limits, its clock, its place in the ledger."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace

from localfusion.engines.base import Engine
from localfusion.errors import ASLEEP, EngineError, EngineTimeoutError, EngineUnavailableError
from localfusion.events import CallStarted, Record
from localfusion.functions import Tools
from localfusion.fusion.ledger import Ledger
from localfusion.types import (
    Delta,
    FinishReason,
    Message,
    Prompt,
    SamplingParams,
    Stage,
    TokenLogprob,
    Usage,
    Watches,
)

MIN_ROOM = 16
"""Tokens of answer that must fit behind a prompt; below, the prompt counts as too long."""
DEADLINE = "deadline_exceeded"
INTERVAL = 16
"""Tokens of a piece where nobody reads along; a straggler that is cut loses at most so many."""

Tell = Callable[[Delta], Awaitable[bool]]
"""Takes a delta; False: that was enough, and the call is ended."""


@dataclass(slots=True)
class Reading:
    """A call's output while it streams.

    Attributes:
        stage: What the call is for; ``Calls.noted`` sets it.
        began: When the call was made, and ``first`` when its first token came, by the run's clock.
    """

    stage: Stage = "prefill"
    began: float = 0.0
    first: float | None = None
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(calls=1))
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)

    def add(self, delta: Delta, now: float) -> None:
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self.logprobs += delta.logprobs
        if self.first is None:
            self.first = now

    @property
    def pieces(self) -> int:
        """How many deltas have come."""
        return len(self._text)

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)


class Calls:
    """The engines of a run, asked within its limits.

    Args:
        counts: Tokens of the conversation for each model that could count them.
        seed: The request's; all others are derived from it.
        deadline: Seconds after which the run must have ended.
        watches: Whose words the client reads as they come.

    Attributes:
        panel_interval: Tokens of a piece of a candidate, and ``answer_interval`` of the answer.
        record: Tells observers of every call.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        counts: Mapping[str, int],
        seed: int,
        deadline: float,
        watches: Watches = "panel",
    ) -> None:
        self.engines = engines
        self.counts = counts
        self.ledger = Ledger()
        self._counted: dict[tuple[str, tuple[Message, ...], bool], int | None] = {}
        self._seed = seed
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self.deadline = deadline
        self.panel_interval = 1 if watches == "panel" else INTERVAL
        self.answer_interval = INTERVAL if watches == "nothing" else 1
        self.record: Callable[[Record], None] = lambda _: None

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.now

    def at(self, seconds: float) -> float:
        """Turn a time of the run into one of the loop's clock."""
        return self._began + seconds

    def seed(self, stage: str, place: int = 0) -> int:
        """Derive the seed of one call, 31 bits."""
        return derive_seed(self._seed, stage, place)

    def capped(
        self, model: str, sampling: SamplingParams, count: int | None, default: int | None
    ) -> SamplingParams:
        """Bound max_tokens by the room that a prompt of ``count`` tokens leaves in the window."""
        caps = [sampling.max_tokens or default]
        if count is not None:
            caps.append(self.engines[model].facts.max_model_len - count)
        return replace(sampling, max_tokens=min((c for c in caps if c is not None), default=None))

    async def count(
        self, model: str, messages: Sequence[Message], tools: Tools | None = None
    ) -> int | None:
        """Count a prompt's tokens; None where the engine cannot count, or not before it is asked.

        Raises:
            EngineUnavailableError: it is not there.
        """
        key = (model, tuple(messages), tools is not None)  # a run has one set of tools
        if key not in self._counted:
            self._counted[key] = await count_tokens(self.engines[model], messages, tools)
        return self._counted[key]

    async def stream(
        self, model: str, prompt: Prompt, stage: Stage = "panel"
    ) -> AsyncGenerator[Delta, None]:
        """Stream a call; its time is noted however it ends, closing aborts it."""
        began = self.now
        self.record(CallStarted(stage=stage, model=model, prompt=prompt))
        try:
            async with aclosing(self.engines[model].generate(prompt)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self.ledger.call(model, began, self.now)

    async def read(
        self,
        model: str,
        prompt: Prompt,
        reading: Reading,
        tell: Tell | None = None,
        *,
        deltas: AsyncGenerator[Delta, None] | None = None,
    ) -> None:
        """Read a call to its end, or until ``tell`` has enough, within the run's deadline.

        Args:
            model: Who is called.
            prompt: With what.
            reading: Takes what comes.
            tell: Hears of it.
            deltas: The call, where it has begun already.

        Raises:
            EngineError, RequestError, OverloadedError: the engine failed.
            EngineTimeoutError: code DEADLINE; ``reading`` has what had come.
        """
        reading.began = self.now
        with self.deadline_of(model):
            async with (
                asyncio.timeout_at(self.at(self.deadline)),
                aclosing(deltas or self.stream(model, prompt, reading.stage)) as stream,
            ):
                async for delta in stream:
                    reading.add(delta, self.now)
                    if tell is None or not (delta.text or delta.reasoning or delta.tool_calls):
                        continue
                    if not await tell(delta):
                        await self._end_early(model, prompt, reading)
                        return

    @contextmanager
    def deadline_of(self, model: str) -> Iterator[None]:
        """Name the model whose call the run's deadline ends inside.

        Raises:
            EngineTimeoutError: code DEADLINE, in place of a bare timeout.
        """
        try:
            yield
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"the deadline of {self.deadline:g} s ended {model}", code=DEADLINE
            ) from error

    @contextmanager
    def noted(self, stage: Stage, reading: Reading, before: str | None = None) -> Iterator[None]:
        """Note what a call took as a stage, however it ends.

        Args:
            stage: Which.
            reading: The call's.
            before: What the wait for its first token is called; None: as the stage.
        """
        began = self.now
        reading.stage = stage
        try:
            yield
        finally:
            took = self.now - began
            first = None if reading.first is None else reading.first - began
            self.ledger.stage(stage, took, reading.usage, first)
            if before is None or first is None:
                self.ledger.wait(before or stage, took)
            else:
                self.ledger.wait(before, first)
                self.ledger.wait(stage, took - first)

    async def _end_early(self, model: str, prompt: Prompt, reading: Reading) -> None:
        """Close the account of a call that tells no usage: a piece of text is about a token."""
        read = await self.count(model, prompt.messages, prompt.tools)
        reading.usage = Usage(read or 0, reading.pieces, calls=1)
        reading.finish_reason = "length"


def derive_seed(seed: int, stage: str, place: int = 0) -> int:
    """Derive the seed of one call of a run from the run's, 31 bits."""
    key = f"{seed}/{stage}/{place}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1


async def count_tokens(
    engine: Engine, messages: Sequence[Message], tools: Tools | None = None
) -> int | None:
    """Count a prompt's tokens; None where the engine cannot count, or not before it is asked.

    Raises:
        EngineUnavailableError: it is not there.
    """
    try:
        return await engine.count_tokens(messages, tools)
    except EngineUnavailableError as error:
        if error.code == ASLEEP:
            return None
        raise
    except EngineError:
        return None  # generating will show what is wrong, and that failure is recorded
