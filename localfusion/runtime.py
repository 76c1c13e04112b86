"""The one place where everything is wired together: settings, weights, plan, engines, fusion."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from localfusion.config import Config, Preset, Settings, cache_dir, nearest
from localfusion.engines import create_engine, simulated
from localfusion.engines.base import ManagedEngine, PhaseChange, PhaseListener
from localfusion.engines.rundir import run_directory
from localfusion.engines.vllm import Places
from localfusion.errors import ConfigError, PlacementError, WeightsError
from localfusion.fusion import Fusion
from localfusion.hardware import Hardware, detect
from localfusion.placement import (
    DEFAULT_MAX_MODEL_LEN,
    DEFAULT_MAX_NUM_SEQS,
    ModelNeed,
    Plan,
    Role,
    plan,
)
from localfusion.pool import EnginePool
from localfusion.weights import read_facts, resolve


class Runtime:
    """What a process that answers holds: the presets it serves and their engines."""

    def __init__(self, config: Config, presets: Mapping[str, Preset], pool: EnginePool) -> None:
        self.settings: Settings = config.settings
        self.fusion = Fusion(pool, presets, default_preset=next(iter(presets)))
        self.draining = False
        self._pool = pool

    async def start(self, listener: PhaseListener) -> None:
        """Start every engine; returns when all have generated a token.

        Raises:
            EngineStartError: one cannot start.
        """
        await self._pool.start(listener)

    def phases(self) -> Mapping[str, PhaseChange]:
        """Where each engine's start is; an engine that died afterwards has failed."""
        return {
            name: change
            if change.phase != "ready" or self._pool[name].is_ready
            else PhaseChange(name, "failed", change.seconds, "it died after its start")
            for name, change in self._pool.phases.items()
        }

    def not_ready(self) -> tuple[str, ...]:
        """Say why the default preset cannot answer now; empty when it can."""
        needed = self.fusion.presets[self.fusion.default_preset].models
        phases = self.phases()
        reasons = [f"{m} is {phases[m].phase}" for m in needed if phases[m].phase != "ready"]
        return (*reasons, "draining") if self.draining else tuple(reasons)


def default_preset(config: Config, hardware: Hardware) -> str:
    """Return the preset that models.yaml names for this kind of machine."""
    default = config.settings.default_preset
    return default.gpu if hardware.gpus else default.cpu


def choose_presets(config: Config, names: Sequence[str], hardware: Hardware) -> dict[str, Preset]:
    """Return the named presets, the machine's default one when none is named.

    Raises:
        ConfigError: a name that models.yaml does not define.
    """
    presets = config.settings.presets
    for name in names:
        if name not in presets:
            raise ConfigError(f"there is no preset {name!r}; {nearest(name, presets)}")
    return {name: presets[name] for name in names or (default_preset(config, hardware),)}


def make_plan(config: Config, presets: Iterable[Preset], hardware: Hardware) -> Plan:
    """Divide the hardware among the vLLM models of some presets; nothing is loaded.

    Files on disk are measured; for a model that is not there its catalogue figures are used.

    Raises:
        PlacementError: they do not fit, or a model's size is unknown.
        WeightsError: files on disk that are not what they should be.
    """
    roles: dict[str, list[Role]] = {}
    for preset in presets:
        for name in preset.models:
            known = roles.setdefault(name, [])
            if any(member.model == name for member in preset.panel) and "member" not in known:
                known.append("member")
            if name == preset.judge and "judge" not in known:
                known.append("judge")
    models = config.settings.models
    vllm = {name: r for name, r in roles.items() if models[name].engine == "vllm"}
    return plan([_need(config, name, tuple(r)) for name, r in vllm.items()], hardware)


def _need(config: Config, name: str, roles: tuple[Role, ...]) -> ModelNeed:
    spec = config.settings.models[name]
    options = spec.options
    try:
        facts = read_facts(resolve(config, name).path)
        sizes = (facts.weight_bytes, facts.kv_bytes_per_token(2), facts.max_position_embeddings)
    except WeightsError as error:
        if spec.facts is None:
            raise PlacementError(f"the size of {name} is not known: {error}") from error
        known = spec.facts
        sizes = (known.weight_bytes, known.kv_bytes_per_token, known.max_model_len)
        on_disk = False
    else:
        on_disk = True
    return ModelNeed(
        name,
        roles,
        *sizes,
        max_model_len=int(options.get("max_model_len", DEFAULT_MAX_MODEL_LEN)),
        max_num_seqs=int(options.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS)),
        tensor_parallel_size=int(options.get("tensor_parallel_size", 1)),
        is_on_disk=on_disk,
    )


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
) -> AsyncGenerator[Runtime, None]:
    """Verify weights, plan, and build the engines of some presets; stop them all at the end.

    Args:
        config: The loaded models.yaml.
        presets: Names; none: the machine's default preset.
        sim: Replace every model by a simulated one: tries everything without weights.
        server: Start of the engines' command line, None for vLLM's.

    Raises:
        FusionError: a preset, weights or a plan that cannot be had; nothing is left behind.
    """
    hardware = detect()
    chosen = choose_presets(config, presets, hardware)
    names = list(dict.fromkeys(name for preset in chosen.values() for name in preset.models))
    if sim:
        engines: dict[str, ManagedEngine] = {name: simulated(name) for name in names}
        yield Runtime(config, chosen, EnginePool(engines, {}))
        return
    weights = await asyncio.to_thread(_verified, config, names)
    divided = await asyncio.to_thread(make_plan, config, chosen.values(), hardware)
    order = [slot.model for slot in divided.slots]
    asyncio.get_running_loop().set_exception_handler(_ignore_late_wakeup)
    with run_directory() as run:
        places = Places(run=run, cache=cache_dir(), logs=cache_dir() / "logs")
        engines = {
            name: create_engine(
                config,
                name,
                weights=weights.get(name),
                slot=divided[name] if name in order else None,
                places=places,
                server=server,
            )
            for name in [*order, *(name for name in names if name not in order)]
        }
        pool = EnginePool(engines, {slot.model: slot.devices for slot in divided.slots})
        try:
            yield Runtime(config, chosen, pool)
        finally:
            await pool.stop()


def _verified(config: Config, names: Iterable[str]) -> dict[str, Path]:
    models = config.settings.models
    return {name: resolve(config, name).path for name in names if models[name].engine == "vllm"}
