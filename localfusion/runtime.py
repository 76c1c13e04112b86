"""The one place where everything is wired together: a system, its engines, fusion; and changes."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from localfusion import __version__
from localfusion.audit import AuditLog, open_audit
from localfusion.config import Config, Preset, Settings, cache_dir, load, nearest
from localfusion.engines import create_engine, group, simulated
from localfusion.engines.base import (
    Engine,
    ManagedEngine,
    PhaseChange,
    PhaseListener,
    WatchedEngine,
    ignore_phase,
)
from localfusion.engines.rundir import run_directory
from localfusion.engines.supervisor import DEFAULT, REMOTE, SupervisedEngine
from localfusion.engines.vllm import Places
from localfusion.errors import ModelNotFoundError
from localfusion.events import RunStarted
from localfusion.fallback import withdrawn
from localfusion.fusion import Fusion, Observer, prompts
from localfusion.hardware import EnergyMeter, Hardware, detect
from localfusion.overview import EngineRow, Overview
from localfusion.pool import EnginePool, Waiting
from localfusion.starts import Start, StartRecords
from localfusion.system import System, compose
from localfusion.telemetry import Telemetry
from localfusion.traces import EngineVersion, Traces, Versions, open_traces


@dataclass(frozen=True, slots=True)
class _Builder:
    """Makes the engines of a system.

    Attributes:
        places: Folders that engines use.
        server: Start of the engines' command line, None for vLLM's.
        sim: Replace every model by a simulated one.
    """

    places: Places
    server: Sequence[str] | None
    sim: bool

    def build(self, system: System, name: str) -> WatchedEngine:
        if self.sim:
            return SupervisedEngine(simulated(name), name)
        is_remote = system.config.settings.models[name].engine == "openai"
        supervision = REMOTE if is_remote else DEFAULT
        return SupervisedEngine(self._real(system, name), name, supervision=supervision)

    def _real(self, system: System, name: str) -> ManagedEngine:
        return create_engine(
            system.config,
            name,
            weights=system.weights.get(name),
            slot=system.slots.get(name),
            places=self.places,
            server=self.server,
        )


@dataclass(frozen=True, slots=True)
class _Records:
    """What is kept of runs: all of it, who asked for what, and what others look at."""

    traces: Traces
    audit: AuditLog | None
    observers: Sequence[Observer] = ()


class Runtime:
    """What a process that answers holds: the presets it serves, their engines, and how to change.

    Attributes:
        fusion: Answers requests; another one after a reload, while runs go on with theirs.
        traces: What is kept of every run.
        draining: True once a stop was asked for.
        telemetry: Counts what runs and engines do.
    """

    def __init__(
        self,
        system: System,
        builder: _Builder,
        pool: EnginePool,
        names: Sequence[str],
        hardware: Hardware,
        records: _Records,
    ) -> None:
        self.draining = False
        self.traces = records.traces
        self._audit = records.audit
        self._observers = records.observers
        self._system = system
        self._builder = builder
        self._pool = pool
        self._names = names
        self._hardware = hardware
        self._extra: frozenset[str] = frozenset()
        self._starts = StartRecords()
        self._overview = Overview()
        self._energy = EnergyMeter()
        self._changing = asyncio.Lock()
        self.telemetry = Telemetry(
            system.config.settings, self._measure, lambda: self.traces.writing
        )
        self.fusion = self._answer_with(system)

    @property
    def settings(self) -> Settings:
        return self._system.config.settings

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: models lost, the plan's compromises, records not kept."""
        audit = () if self._audit is None else self._audit.notes
        return (*self._system.notes, *self.traces.notes, *audit)

    @property
    def queue(self) -> tuple[Waiting, ...]:
        """Runs that wait until their engines get the hardware, the next one first."""
        return self._pool.queue

    async def start(self, listener: PhaseListener, *, require_all: bool = True) -> None:
        """Start every engine; returns when all have generated a token.

        Args:
            listener: Told of every phase.
            require_all: False lets the others serve when one cannot start; it is tried again.

        Raises:
            EngineStartError: one cannot start, and all are required.
        """
        await self._pool.start(self._remembering(listener), require_all=require_all)

    def phases(self) -> Mapping[str, PhaseChange]:
        """Where each engine is now."""
        return self._pool.phases()

    def not_ready(self) -> tuple[str, ...]:
        """Say why the default preset cannot answer now; empty when it can."""
        needed = self.fusion.presets[self.fusion.default_preset].models
        phases = self.phases()
        reasons = [
            f"{m} is {phases[m].phase}"
            for m in needed
            if phases[m].phase not in ("ready", "asleep")
        ]
        if self.traces.is_missed:
            reasons.append("no trace can be kept, and traces.required asks for one")
        return (*reasons, "draining") if self.draining else tuple(reasons)

    async def look(self, *, rates: bool = True) -> tuple[EngineRow, ...]:
        """Return what each engine does now; without ``rates`` it asks each engine once."""
        pool = self._pool
        return await self._overview.look(
            pool, pool.statuses(), self._system.slots, pool.unload_seconds(), rates=rates
        )

    async def _measure(self) -> tuple[EngineRow, ...]:
        return await self.look(rates=False)

    async def load(self, name: str, listener: PhaseListener = ignore_phase) -> None:
        """Start the engine of a model in models.yaml; returns when it is ready.

        Raises:
            FusionError: there is no such model, it does not fit, or it cannot start.
        """
        async with self._changing:
            if name in self._pool:
                await self._pool.load(name, self._remembering(listener))
                return
            if name not in self.settings.models:
                known = nearest(name, self.settings.models)
                raise ModelNotFoundError(f"there is no model {name[:64]!a}; {known}")
            await self._change(self._system.config, self._extra | {name})

    async def unload(self, name: str) -> None:
        """Stop an engine once its calls have ended; requests for it are refused until it is loaded.

        Raises:
            ModelNotFoundError: there is no such engine.
        """
        async with self._changing:
            if name not in self._pool:
                known = nearest(name, self._pool)
                raise ModelNotFoundError(f"there is no engine {name[:64]!a}; {known}")
            if name in self._extra:
                await self._change(self._system.config, self._extra - {name})
            else:
                await self._pool.unload(name)

    async def reload(self) -> tuple[str, ...]:
        """Read models.yaml again and swap what changed; running requests keep what they have.

        Returns:
            What changed, a line each.

        Raises:
            FusionError: the file is invalid, or what it asks for cannot be had: nothing changed.
                EngineStartError: the change is made, and a new engine does not start.
        """
        async with self._changing:
            fresh = load(self._system.config.file)
            server = self.settings.server
            kept = fresh.with_server({"host": server.host, "port": server.port})
            allowed = set(kept.settings.models) - set(withdrawn(kept.settings))
            return await self._change(kept, self._extra & allowed)

    async def _change(self, config: Config, extra: frozenset[str]) -> tuple[str, ...]:
        before = self._system
        after = await asyncio.to_thread(
            compose, config, self._names, extra, self._hardware, sim=self._builder.sim
        )
        old, new = set(before.models), set(after.models)
        swapped = {n for n in old & new if before.identity(n) != after.identity(n)}
        engines = {
            name: self._builder.build(after, name)
            for name in after.models
            if name not in old or name in swapped
        }
        lines = _differences(before, after, swapped)
        self.telemetry.name(config.settings)
        # New requests see the new presets at once; runs go on with the engines that they lease.
        self._system, self._extra, self.fusion = after, extra, self._answer_with(after)
        await self._pool.change(
            engines,
            (old - new) | swapped,
            after.devices,
            groups=after.groups,
            limits=after.limits,
            keep_alive=after.keep_alive,
        )
        return lines

    def _answer_with(self, system: System) -> Fusion:
        first = next(iter(system.presets))
        return Fusion(
            self._pool,
            system.presets,
            default_preset=first,
            observers=[
                self.traces.observer(self._versions(system)),
                *([] if self._audit is None else [self._audit.observe]),
                *self.telemetry.observers,
                *self._observers,
            ],
            lease=self._lease,
            rates=system.config.settings.rates,
            aliases=system.config.settings.aliases,
            joules=self._energy.read,
        )

    def _lease(self, names: Sequence[str]) -> AbstractAsyncContextManager[Mapping[str, Engine]]:
        self.traces.check()
        return self._pool.lease(names)

    def engine_versions(self) -> Mapping[str, EngineVersion]:
        """What serves each model: the software's version, and the digest of its weights."""
        return self._engines_of(self._system, self._pool)

    def _engines_of(self, system: System, names: Iterable[str]) -> dict[str, EngineVersion]:
        weights = {name: files.manifest.digest for name, files in system.files.items()}
        return {
            name: EngineVersion(self._pool[name].facts.version, weights.get(name))
            for name in sorted(names)
        }

    def _versions(self, system: System) -> Callable[[RunStarted], Versions]:
        """Return what tells of a run of this system what it depends on."""
        told = json.dumps(system.config.settings.model_dump(mode="json"), sort_keys=True)
        config, templates = hashlib.sha256(told.encode()).hexdigest(), prompts.digest()

        def tell(event: RunStarted) -> Versions:
            used = {*event.members, *([event.judge] if event.judge else [])}
            engines = self._engines_of(system, used & set(self._pool))
            return Versions(__version__, engines, templates, config)

        return tell

    def _remembering(self, listener: PhaseListener) -> PhaseListener:
        """Wrap a listener: starts are timed, and the next ones told how long they usually take."""
        usual = self._starts.read()

        def tell(change: PhaseChange) -> None:
            if change.phase == "ready" and change.engine in self._system.slots:
                pid = self._pool[change.engine].pid
                if pid is not None:
                    self._starts.record(
                        change.engine, Start(change.seconds, group.cpu_seconds(pid))
                    )
            if change.phase == "launching" and not change.detail and change.engine in usual:
                change = replace(change, detail=f"usually {usual[change.engine].seconds:.0f} s")
            listener(change)

        return tell


def _differences(before: System, after: System, swapped: Collection[str]) -> tuple[str, ...]:
    """Say what a change changes: engines, presets, limits, notes; a line each."""
    old, new = set(before.models), set(after.models)
    lines = [f"engine {name}: removed" for name in before.models if name not in new]
    lines += [f"engine {name}: added" for name in after.models if name not in old]
    lines += [f"engine {name}: changed, starts anew" for name in after.models if name in swapped]
    for name in dict.fromkeys((*before.presets, *after.presets)):
        if name not in after.presets:
            lines.append(f"preset {name}: removed")
        elif name not in before.presets:
            lines.append(f"preset {name}: added")
        elif before.presets[name] != after.presets[name]:
            changed = _changed_keys(before.presets[name], after.presets[name])
            lines.append(f"preset {name}: {', '.join(changed)} changed")
    for part in ("server", "limits", "traces", "audit", "telemetry"):
        if getattr(before.config.settings, part) != getattr(after.config.settings, part):
            lines.append(f"{part}: changed, takes effect when serve is started again")
    lines += [f"note: {note}" for note in after.notes if note not in before.notes]
    return tuple(lines)


def _changed_keys(before: Preset, after: Preset) -> list[str]:
    old, new = before.model_dump(), after.model_dump()
    return [key for key in new if old[key] != new[key]]


def _ignore_late_wakeup(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Drop one report of asyncio's, pass on all others.

    anyio 4.16 lets the loop set the result of a future when a unix socket can be read. A call that
    is cancelled in that very step leaves the callback queued for a cancelled future; nothing is
    lost, but a Ctrl-C would end with a traceback.
    """
    if isinstance(context.get("exception"), asyncio.InvalidStateError):
        return
    loop.default_exception_handler(context)


@asynccontextmanager
async def open_runtime(
    config: Config,
    presets: Sequence[str] = (),
    *,
    sim: bool = False,
    server: Sequence[str] | None = None,
    observers: Sequence[Observer] = (),
) -> AsyncGenerator[Runtime, None]:
    """Verify weights, plan, and build the engines of some presets; stop them all at the end.

    Args:
        config: The loaded models.yaml.
        presets: Names; none: the machine's default preset.
        sim: Replace every model by a simulated one: tries everything without weights.
        server: Start of the engines' command line, None for vLLM's.
        observers: Each is called with every event and record of every run; must not block.

    Raises:
        FusionError: a preset, weights or a plan that cannot be had, or traces that are required;
            nothing is left behind.
    """
    hardware = detect()
    system = await asyncio.to_thread(compose, config, presets, (), hardware, sim=sim)
    asyncio.get_running_loop().set_exception_handler(_ignore_late_wakeup)
    is_audited = config.settings.audit.enabled
    async with (
        open_traces(config.settings.traces, config.traces_dir) as traces,
        open_audit(config.audit_file, is_enabled=is_audited) as audit,
    ):
        with run_directory() as run:
            places = Places(run=run, cache=cache_dir(), logs=cache_dir() / "logs")
            builder = _Builder(places, server, sim)
            engines = {name: builder.build(system, name) for name in system.models}
            async with EnginePool(
                engines,
                system.devices,
                groups=system.groups,
                limits=system.limits,
                keep_alive=system.keep_alive,
            ) as pool:
                records = _Records(traces, audit, observers)
                runtime = Runtime(system, builder, pool, presets, hardware, records)
                try:
                    yield runtime
                finally:
                    await runtime.telemetry.close()
