"""Fusion: from a request to its events. Finds the preset, opens a run, hands its events on."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import replace

from localfusion.config import SLUG_PREFIX, Member, Preset, nearest
from localfusion.engines.base import Engine
from localfusion.errors import (
    STARTING,
    ContextLengthError,
    EngineUnavailableError,
    FusionError,
    ModelNotFoundError,
    RequestError,
)
from localfusion.events import Event, RunCompleted, RunFailed, RunStarted
from localfusion.fusion.policies import POLICIES, check_policy
from localfusion.fusion.run import MIN_ROOM, Run, count_tokens
from localfusion.types import Answer, Request

EVENT_BUFFER = 1024
"""Events that may wait for a slow reader; then the run waits too, and memory stays flat."""

HOSTED_SLUG, HOSTED_FAST_SLUG = "openrouter/fusion", "openrouter/fusion-flash"

Observer = Callable[[Event], None]
Lease = Callable[[Sequence[str]], AbstractAsyncContextManager[Mapping[str, Engine]]]
"""Gives a run its engines for as long as it goes; a name occurs as often as it may be called at
once. Raises before anything else what admission refuses."""


class Fusion:
    """Answers requests with the engines it is given: a pool, or a dict of SimEngines.

    Args:
        engines: By the names that presets use.
        presets: By name.
        default_preset: Used for the hosted service's slug.
        observers: Each is called with every event of every run; must not block.
        lease: Where each run gets its engines from; None: ``engines`` themselves.

    Raises:
        ConfigError: a preset names no policy or options that its policy does not take.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        presets: Mapping[str, Preset],
        *,
        default_preset: str,
        observers: Iterable[Observer] = (),
        lease: Lease | None = None,
    ) -> None:
        for name, preset in presets.items():
            check_policy(name, preset.policy, preset.options)
        self.engines = engines
        self.presets = presets
        self.default_preset = default_preset
        self._observers: Sequence[Observer] = tuple(observers)
        self._lease: Lease = lease or (lambda _: nullcontext(self.engines))

    def resolve(self, name: str) -> tuple[str, Preset]:
        """Find the preset behind a request's model name; a model becomes a preset of itself.

        Raises:
            ModelNotFoundError: with the names that exist.
        """
        wanted = name.removeprefix(SLUG_PREFIX)
        if wanted == HOSTED_SLUG:
            wanted = self.default_preset
        elif wanted == HOSTED_FAST_SLUG:
            wanted = "fast" if "fast" in self.presets else self.default_preset
        if wanted in self.presets:
            return wanted, self.presets[wanted]
        if name in self.engines:
            return name, Preset(policy="single", panel=(Member(model=name),))
        known = [*self.presets, *self.engines]
        shown = ascii(name[:64])
        raise ModelNotFoundError(f"there is no model {shown} here; {nearest(name, known)}")

    async def complete(self, request: Request) -> Answer:
        """Run a request to its end.

        Raises:
            FusionError: what made the run impossible or ended it.
        """
        async with aclosing(self.stream(request)) as events:
            async for event in events:
                match event:
                    case RunCompleted(answer=answer):
                        return answer
                    case RunFailed(error=error):
                        raise error
        raise AssertionError("a run ends with RunCompleted or RunFailed")

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Run a request and yield its events, in the order that ``localfusion.events`` promises.

        Closing the generator cancels every engine call of the run.

        Raises:
            RequestError: before the first event, when nothing can be asked: an unknown model, no
                messages, a prompt too long for a member or the judge.
            EngineUnavailableError: likewise, while engines start or when no member lives.
            OverloadedError: likewise, while engines have as many calls as they may have.
        """
        name, preset = self.resolve(request.model)
        if not request.messages:
            raise RequestError("messages is empty; send at least one message", param="messages")
        async with (
            self._lease(_calls_at_once(preset)) as engines,
            aclosing(self._run(name, preset, request, engines)) as events,
        ):
            async for event in events:
                yield event

    async def _run(
        self, name: str, preset: Preset, request: Request, engines: Mapping[str, Engine]
    ) -> AsyncGenerator[Event, None]:
        counts = await _count(preset, request, engines)
        if request.sampling.seed is None:
            seeded = replace(request.sampling, seed=secrets.randbits(31))
            request = replace(request, sampling=seeded)

        events: asyncio.Queue[Event | None] = asyncio.Queue()
        room = asyncio.Semaphore(EVENT_BUFFER)

        async def emit(event: Event) -> None:
            await room.acquire()
            for observer in self._observers:
                observer(event)
            events.put_nowait(event)

        run = Run(uuid.uuid4().hex, request, name, preset, engines, counts, emit)
        # A generator may not yield inside a TaskGroup (PEP 789): this task alone is owned by hand.
        task = asyncio.create_task(_drive(run))  # noqa: TID251
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                room.release()
                yield event
            await task  # an error that is not ours surfaces here
        finally:
            task.cancel()
            await asyncio.wait([task])


def _calls_at_once(preset: Preset) -> list[str]:
    """Return each model as often as a run may call it at once; the judge comes after the panel."""
    calls = [member.model for member in preset.panel for _ in range(member.n)]
    return calls if preset.judge is None or preset.judge in calls else [*calls, preset.judge]


async def _count(preset: Preset, request: Request, engines: Mapping[str, Engine]) -> dict[str, int]:
    """Count the conversation for every model of the preset, before any of them is asked.

    Raises:
        ContextLengthError: one of them cannot hold it.
        EngineUnavailableError: one is still starting, or every member is gone.
    """
    down: dict[str, EngineUnavailableError] = {}

    async def try_count(model: str) -> int | None:
        try:
            return await count_tokens(engines[model], request.messages)
        except EngineUnavailableError as error:
            down[model] = error
            return None

    async with asyncio.TaskGroup() as group:
        tasks = {model: group.create_task(try_count(model)) for model in preset.models}
    for error in down.values():
        if error.code == STARTING or all(member.model in down for member in preset.panel):
            raise error
    counts = {model: task.result() for model, task in tasks.items()}
    for model, count in counts.items():
        window = engines[model].facts.max_model_len
        if count is not None and count + MIN_ROOM > window:
            raise ContextLengthError(
                f"the conversation has {count} tokens for {model}, whose window holds {window} "
                f"with at least {MIN_ROOM} for the answer; shorten it, or use a preset without "
                f"{model}"
            )
    return {model: count for model, count in counts.items() if count is not None}


async def _drive(run: Run) -> None:
    preset = run.preset
    judge = None if preset.policy == "single" else preset.judge
    members = tuple(member.model for member in preset.panel for _ in range(member.n))
    await run.emit(
        RunStarted(preset=run.preset_name, policy=preset.policy, members=members, judge=judge)
    )
    try:
        answer = await POLICIES[preset.policy](run, **preset.options)
    except FusionError as error:
        await run.emit(RunFailed(error=error))
    else:
        await run.emit(RunCompleted(answer=answer))
