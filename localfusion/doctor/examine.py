"""Runs all checks: side by side, told in a fixed order, and each whatever the others find."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localfusion import config
from localfusion.config import Config, Preset, cache_dir
from localfusion.doctor import folders, gpus, interpreter, machine, models
from localfusion.doctor.finding import Finding, ok, problem, warn
from localfusion.errors import ConfigError
from localfusion.fallback import adapt, withdrawn
from localfusion.hardware import Hardware, detect
from localfusion.system import choose_presets

Listener = Callable[[Finding], None]
Check = Callable[[], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What models.yaml wants to run here.

    Attributes:
        presets: As they would be served, without models that are withdrawn.
        names: Their models with weights and an engine here.
        notes: What the presets are, and what they lack.
    """

    config: Config
    hardware: Hardware
    presets: dict[str, Preset]
    names: tuple[str, ...]
    notes: tuple[Finding, ...]

    @property
    def python(self) -> Path:
        return self.config.engine_python or Path(sys.executable)


async def examine(
    file: Path | None, presets: Sequence[str], listener: Listener, *, deep: bool = False
) -> None:
    """Check everything that answering needs; nothing is changed, no engine is started.

    Args:
        file: The models.yaml; None: the one that other commands would use.
        presets: Presets to check for; none: the machine's default one.
        listener: Gets each finding, as soon as those before it are told.
        deep: Read all weights, not only files that have changed since they were read.

    Raises:
        ConfigError: models.yaml has no such preset.
    """
    driver = await asyncio.to_thread(gpus.find_driver)
    checks = {
        "gpu driver": _in_thread(lambda: gpus.check_driver(driver)),
        "open files": _in_thread(machine.check_open_files),
        "loopback": _in_thread(machine.check_loopback),
        "run directory": _in_thread(folders.check_run_directory),
    }
    found = await asyncio.to_thread(_find_subject, file, presets)
    if isinstance(found, Finding):
        listener(found)
        checks["models.yaml"] = _in_thread(_tell_what_waits)
    else:
        for note in found.notes:
            listener(note)
        checks |= await _checks_of(found, driver, deep=deep)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_survive(name, check)) for name, check in checks.items()]
        for task in running:
            for finding in await task:
                listener(finding)


def _tell_what_waits() -> Sequence[Finding]:
    waiting = "not checked for that: the engines' Python, weights, memory, disk and port"
    return [warn("models.yaml", waiting, "mend it first")]


def _find_subject(file: Path | None, names: Sequence[str]) -> Subject | Finding:
    """Find out what is to run here, or what keeps us from knowing it."""
    try:
        loaded = config.load(file)
    except ConfigError as error:
        return problem("models.yaml", str(error), "correct it, then run doctor again")
    try:
        hardware = detect()
    except Exception as error:  # noqa: BLE001  a faulty driver raises what it likes
        text = f"this machine's hardware cannot be read: {type(error).__name__}: {error}"
        return problem("hardware", text, "mend the GPU driver: nvidia-smi must work")
    chosen = choose_presets(loaded, names, hardware)
    presets, notes = adapt(loaded.settings, chosen, withdrawn(loaded.settings))
    wanted = dict.fromkeys(name for preset in presets.values() for name in preset.models)
    here = tuple(name for name in wanted if loaded.settings.models[name].engine == "vllm")
    told = ok("models.yaml", f"{loaded.file}; checked for preset {', '.join(chosen)}")
    judge = warn if len(presets) == len(chosen) else problem
    lost = [judge("models.yaml", note, "name another model in models.yaml") for note in notes]
    return Subject(loaded, hardware, presets, here, (told, *lost))


async def _checks_of(
    subject: Subject, driver: gpus.Driver | gpus.NoDriver, *, deep: bool
) -> dict[str, Check]:
    """Return the checks of what models.yaml wants, the slow ones last."""
    server, names = subject.config.settings.server, subject.names
    missing = await asyncio.to_thread(models.to_be_pulled, subject.config, names)
    is_served = await machine.is_localfusion(subject.config)
    checks: dict[str, Check] = {
        "port": _in_thread(lambda: machine.check_port(server, is_served=is_served)),
        "disk": _in_thread(lambda: folders.check_disk(cache_dir(), missing)),
    }
    if not names:
        return checks | {
            "vllm": _in_thread(lambda: [ok("vllm", "no model of the preset needs it here")])
        }
    has_gpu = bool(subject.hardware.gpus)
    situation = interpreter.Situation(
        has_gpu=has_gpu,
        driver_cuda=driver.cuda[0] if isinstance(driver, gpus.Driver) else None,
        converts=models.waits_for_conversion(subject.config, missing),
    )
    python = subject.python
    return checks | {
        "python": lambda: interpreter.check_packages(python, situation),
        "weights": _in_thread(lambda: _check_models(subject, deep=deep, is_served=is_served)),
        "import vllm": lambda: interpreter.check_import(python),
    }


def _check_models(subject: Subject, *, deep: bool, is_served: bool) -> Sequence[Finding]:
    """Weights before memory: a plan needs them, and both would read what has changed."""
    weights = models.check_weights(subject.config, subject.names, deep=deep)
    if is_served:
        return [*weights, ok("memory", "held by the running localfusion: see localfusion ps")]
    return [*weights, *models.check_plan(subject.config, subject.presets, subject.hardware)]


def _in_thread(check: Callable[[], Sequence[Finding]]) -> Check:
    return lambda: asyncio.to_thread(check)


async def _survive(name: str, check: Check) -> Sequence[Finding]:
    try:
        return await check()
    except Exception as error:  # noqa: BLE001  one check that fails must not end the others
        text = f"this check failed itself: {type(error).__name__}: {error}"
        return [problem(name, text, "mend what it names, or report this line as a fault")]
