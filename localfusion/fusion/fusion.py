"""Fusion: from a request to its events. Finds the preset, opens a run, hands its events on."""

import asyncio
import secrets
import uuid
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from types import MappingProxyType

from localfusion.config import SLUG_PREFIX, Member, Preset, Rates, nearest
from localfusion.engines.base import Engine
from localfusion.errors import (
    STARTING,
    ContextLengthError,
    EngineError,
    EngineUnavailableError,
    FusionError,
    ModelNotFoundError,
    RequestError,
)
from localfusion.events import (
    Event,
    Record,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunStarted,
)
from localfusion.functions import Tools
from localfusion.fusion.answering import Answering, Joules
from localfusion.fusion.calls import MIN_ROOM, Calls, count_tokens
from localfusion.fusion.changes import changed, check_policy, single
from localfusion.fusion.judge.pace import JudgePace
from localfusion.fusion.policies import answer_to, members_of
from localfusion.fusion.recorded import judges_of, preset_of
from localfusion.fusion.run import Run
from localfusion.fusion.schema import Form
from localfusion.fusion.turns import as_text
from localfusion.types import Answer, Message, Request, Stage

EVENT_BUFFER = 1024
"""Events of a stream that may wait for a slow reader; then the run waits too."""

JUDGE_STAGES: tuple[Stage, ...] = ("verdict", "analysis", "synthesis")

HOSTED_SLUG, HOSTED_FAST_SLUG = "openrouter/fusion", "openrouter/fusion-flash"

Observer = Callable[[Event], None]
Sink = Callable[[Event], Awaitable[None]]
"""Takes the events of one run."""
Lease = Callable[[Sequence[str]], AbstractAsyncContextManager[Mapping[str, Engine]]]
"""Gives a run its engines for as long as it goes; a name occurs as often as it may be called at
once. Raises before anything else what admission refuses."""


_Count = int | FusionError | None
"""Tokens; why nobody counted them; None: the engine cannot, or not before it is asked."""
_Counting = Coroutine[None, None, _Count]


class Fusion:
    """Answers requests with the engines it is given: a pool, or a dict of SimEngines.

    Args:
        engines: By the names that presets use.
        presets: By name.
        default_preset: Used for the hosted service's slug.
        observers: Each is called with every event and record of every run; must not block.
        lease: Where each run gets its engines from; None: ``engines`` themselves.
        rates: What the engines' work costs.
        aliases: Other names of models and presets.
        joules: Reads the machine's energy counter, None where it has none.

    Raises:
        ConfigError: a preset names no policy or options that its policy does not take.
    """

    def __init__(  # noqa: PLR0913  what it answers with, and four things that may be given
        self,
        engines: Mapping[str, Engine],
        presets: Mapping[str, Preset],
        *,
        default_preset: str,
        observers: Iterable[Observer] = (),
        lease: Lease | None = None,
        rates: Rates | None = None,
        aliases: Mapping[str, str] = MappingProxyType({}),
        joules: Joules = lambda: None,
    ) -> None:
        for name, preset in presets.items():
            check_policy(preset, where=f"presets.{name}")
        self.engines = engines
        self.presets = presets
        self.default_preset = default_preset
        self._observers: Sequence[Observer] = tuple(observers)
        self.lease: Lease = lease or (lambda _: nullcontext(self.engines))
        self._rates = rates
        self.aliases = aliases
        self._joules = joules
        self._paces: dict[str, JudgePace] = {}
        self._singles: dict[str, Preset] = {}

    def resolve(self, name: str) -> tuple[str, Preset]:
        """Find the preset behind a request's model name; a model becomes a preset of itself.

        Raises:
            ModelNotFoundError: with the names that exist.
        """
        wanted = self.aliases.get(name, name).removeprefix(SLUG_PREFIX)
        slug = wanted.partition(":")[0]  # of ``openrouter/fusion:free``
        if slug == HOSTED_SLUG:
            wanted = self.default_preset
        elif slug == HOSTED_FAST_SLUG:
            wanted = "fast" if "fast" in self.presets else self.default_preset
        if wanted in self.presets:
            return wanted, self.presets[wanted]
        model = self.model(name)
        if model not in self._singles:
            self._singles[model] = Preset(policy="single", panel=(Member(model=model),))
        return wanted, self._singles[model]

    def model(self, name: str, *, param: str = "model") -> str:
        """Find the model behind a name or an alias.

        Raises:
            ModelNotFoundError: with the names that exist.
        """
        wanted = self.aliases.get(name, name)
        if wanted in self.engines:
            return wanted
        known = list(self.engines) if param != "model" else [*self.presets, *self.engines]
        shown = ascii(name[:64])
        raise ModelNotFoundError(
            f"{param}: there is no model {shown} here; {nearest(name, known)}", param=param
        )

    def _named(self, changes: Mapping[str, object]) -> Mapping[str, object]:
        """Put our names in place of aliases, where a request chooses its own models."""
        named = dict(changes)
        if isinstance(judge := changes.get("judge"), str):
            named["judge"] = self.model(judge, param="fusion.model")
        if isinstance(panel := changes.get("panel"), Sequence):
            named["panel"] = [
                {**member, "model": self.model(member["model"], param=f"fusion.panel[{place}]")}
                for place, member in enumerate(panel)
            ]
        return named

    async def count(
        self, name: str, messages: Sequence[Message], tools: Tools | None = None
    ) -> int:
        """Count a conversation's tokens: of all models that a name stands for the largest count.

        Raises:
            ModelNotFoundError: there is nothing of this name.
            RequestError: an engine does not take the conversation.
            EngineError: none of them can count.
        """
        _, preset = self.resolve(name)
        plain = as_text(messages)

        async def count_of(model: str) -> _Count:
            engine = self.engines[model]
            if engine.facts.calls_tools:
                return await _try_count(engine, messages, tools)
            return await _try_count(engine, plain)

        found = await _each(preset.models, count_of)
        counts = [count for count in found.values() if isinstance(count, int)]
        if counts:
            return max(counts)
        for failure in found.values():
            if isinstance(failure, FusionError):
                raise failure
        raise EngineError(f"no engine of {name} can count tokens", code="count_unsupported")

    async def complete(self, request: Request) -> Answer:
        """Run a request to its end.

        Raises:
            FusionError: what made the run impossible or ended it.
        """
        return await self.run(request, _ignore)

    async def run(self, request: Request, sink: Sink) -> Answer:
        """Run a request and hand its events to ``sink`` as they happen.

        They come in the order that ``localfusion.events`` promises; the run waits for the sink.
        Cancelling cancels every engine call of the run.

        Raises:
            RequestError: before the first event, when nothing can be asked: an unknown model, no
                messages, a change that the preset cannot have, a prompt too long for a member or
                the judge.
            EngineUnavailableError: likewise, while engines start or when no member lives.
            OverloadedError: likewise, while engines have as many calls as they may have.
            FusionError: what ended the run, after the sink had it as RunFailed.
        """
        name, preset = self._asked(request)
        if not request.messages and request.raw is None:
            raise RequestError("messages is empty; send at least one message", param="messages")
        wanted = judges_of(preset, self.engines) if request.recorded else _calls_at_once(preset)
        async with self.lease(wanted) as engines:
            return await self._run(name, preset, request, engines, sink)

    def _asked(self, request: Request) -> tuple[str, Preset]:
        if request.recorded is not None:
            return request.model, preset_of(request.recorded, self.model)
        name, preset = self.resolve(request.model)
        preset = changed(preset, self._named(request.changes))
        return name, preset if request.alone is None else single(preset)

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Run a request and yield its events; a slow reader does not hold the run up at once.

        Closing the generator cancels the run.

        Raises:
            FusionError: what ``run`` raises before the first event.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        room = asyncio.Semaphore(EVENT_BUFFER)

        async def put(event: Event) -> None:
            await room.acquire()
            events.put_nowait(event)

        # A generator may not yield inside a TaskGroup (PEP 789): this task alone is owned by hand.
        task = asyncio.create_task(self.run(request, put))  # noqa: TID251
        task.add_done_callback(lambda _: events.put_nowait(None))
        event: Event | None = None
        try:
            while (following := await events.get()) is not None:
                event = following
                room.release()
                yield event
            if not isinstance(event, RunFailed):
                await task  # what refused the run, or an error that is not ours, surfaces here
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(
        self,
        name: str,
        preset: Preset,
        request: Request,
        engines: Mapping[str, Engine],
        sink: Sink,
    ) -> Answer:
        # A recorded panel's engines may be anywhere, or nowhere.
        counts = await _count(single(preset) if request.recorded else preset, request, engines)
        seed = request.sampling.seed
        if seed is None:
            seed = secrets.randbits(31)
            request = replace(request, sampling=replace(request.sampling, seed=seed))

        run_id = uuid.uuid4().hex
        calls = Calls(engines, counts, seed, preset.deadline, request.watches)

        def observed(event: Event) -> None:
            for observer in self._observers:
                observer(event)

        async def emit(event: Event) -> None:
            observed(event)
            await sink(event)

        def record(event: Record) -> None:
            event.stamp(run_id, calls.now)
            observed(event)

        calls.record = record
        answering = Answering(
            run_id,
            name,
            preset.policy,
            seed,
            calls,
            emit,
            rates=self._rates,
            joules=self._joules,
            form=Form(request.schema),
        )
        # A replay may have another judge: what it takes says nothing of the preset.
        pace = JudgePace() if request.recorded else self._paces.setdefault(name, JudgePace())
        return await _drive(Run(request, preset, calls, answering, pace), answering, pace, record)


async def _ignore(event: Event) -> None:
    """Take the events of a run that nobody watches."""


def _calls_at_once(preset: Preset) -> list[str]:
    """Return each model as often as a run may call it at once.

    The judge comes after the panel, but may read ahead beside it.
    """
    calls = [*members_of(preset)]
    # Whom the policy may not ask is leased too, for its tokens are counted.
    calls += [m.model for m in preset.panel if m.model not in calls]
    if preset.judge is not None and (preset.prefill or preset.judge not in calls):
        calls.append(preset.judge)
    if preset.tool_caller is not None and preset.tool_caller not in calls:
        calls.append(preset.tool_caller)
    return calls


async def _try_count(
    engine: Engine, messages: Sequence[Message], tools: Tools | None = None
) -> _Count:
    try:
        return await count_tokens(engine, messages, tools)
    except FusionError as error:
        return error


async def _each(models: Iterable[str], count: Callable[[str], _Counting]) -> dict[str, _Count]:
    """Count for all models at once; a failure is told, for raised here it would come as a group."""
    first, *others = models
    if not others:
        return {first: await count(first)}
    async with asyncio.TaskGroup() as group:
        tasks = {model: group.create_task(count(model)) for model in (first, *others)}
    return {model: task.result() for model, task in tasks.items()}


async def _count(preset: Preset, request: Request, engines: Mapping[str, Engine]) -> dict[str, int]:
    """Count the conversation for every model of the preset, before any of them is asked.

    Raises:
        ContextLengthError: one of them cannot hold it.
        EngineUnavailableError: one is still starting, or every member is gone.
    """
    if request.raw is not None:
        return {}  # the engine itself says whether a text without messages fits
    conversation = as_text(request.messages)
    found = await _each(preset.models, lambda model: _try_count(engines[model], conversation))
    failures = {model: e for model, e in found.items() if isinstance(e, FusionError)}
    down = [model for model, e in failures.items() if isinstance(e, EngineUnavailableError)]
    is_deserted = all(member.model in down for member in preset.panel)
    for model, error in failures.items():
        if is_deserted or model not in down or error.code == STARTING:
            raise error
    counts = {model: count for model, count in found.items() if isinstance(count, int)}
    for model, count in counts.items():
        window = engines[model].facts.max_model_len
        if count + MIN_ROOM > window:
            raise ContextLengthError(
                f"the conversation has {count} tokens for {model}, whose window holds {window} "
                f"with at least {MIN_ROOM} for the answer; shorten it, or use a preset without "
                f"{model}"
            )
    return counts


async def _drive(
    run: Run, answering: Answering, pace: JudgePace, record: Callable[[Record], None]
) -> Answer:
    preset = run.preset
    judge = None if preset.policy == "single" else preset.judge
    started = RunStarted(
        preset=answering.preset_name,
        policy=preset.policy,
        members=members_of(preset),
        judge=judge,
        replay_of=None if run.request.recorded is None else run.request.recorded.trace,
    )
    try:
        await answering.emit(started)
        record(RunRequested(request=run.request, settings=preset.model_dump(mode="json")))
        answer = await answer_to(run)
    except FusionError as error:
        await answering.emit(RunFailed(error=error))
        raise
    except BaseException as error:
        is_cancelled = isinstance(error, asyncio.CancelledError)
        record(RunAborted(reason="cancelled" if is_cancelled else "broken_off"))
        raise
    if answer.judging is not None and answer.exit is None and answer.status != "panel_only":
        pace.note(sum(answer.stages[s].seconds for s in JUDGE_STAGES if s in answer.stages))
    await answering.emit(RunCompleted(answer=answer))
    return answer
