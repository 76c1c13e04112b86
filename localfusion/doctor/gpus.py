"""The GPU driver and who holds GPU memory, as NVML says."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from localfusion.doctor.finding import Finding, ok, warn
from localfusion.engines.rundir import PREFIX
from localfusion.placement import gib

DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""There as soon as the kernel has the driver, whether it works or not."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with memory of a GPU; ``bytes`` is None where NVML does not tell."""

    pid: int
    gpu: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Driver:
    """A GPU driver that answers.

    Attributes:
        cuda: The newest CUDA version it knows, as major and minor number.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[str, ...]
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class NoDriver:
    """No driver answers; ``reason`` says why, in words."""

    reason: str


def find_driver() -> Driver | NoDriver:
    """Ask the NVIDIA driver; most machines have none."""
    try:
        import pynvml  # an optional package
    except ImportError:
        return NoDriver("the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        holders: list[Holder] = []
        for gpu, handle in enumerate(handles):
            with suppress(pynvml.NVMLError):  # virtual and divided GPUs do not tell
                for found in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                    held = found.usedGpuMemory
                    holders.append(Holder(found.pid, gpu, None if held is None else int(held)))
        return Driver(
            str(pynvml.nvmlSystemGetDriverVersion()),
            (cuda // 1000, cuda % 1000 // 10),  # 12040 is 12.4
            tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles),
            tuple(holders),
        )
    except pynvml.NVMLError as error:
        return NoDriver(f"NVML says: {error}")
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def check_driver(found: Driver | NoDriver, driver_file: Path = DRIVER_FILE) -> list[Finding]:
    """Judge the driver, and name programs of others on its GPUs."""
    name = "gpu driver"
    if isinstance(found, NoDriver):
        if not driver_file.exists():
            return [ok(name, "no NVIDIA GPU: engines run on the CPU")]
        # A warning: a container without GPUs sees its host's driver as well.
        text = f"an NVIDIA driver is loaded, but engines run on the CPU: {found.reason}"
        remedy = "for GPUs run scripts/install; if nvidia-smi fails too, mend the driver"
        return [warn(name, text, remedy)]
    cuda = ".".join(map(str, found.cuda))
    gpus = ", ".join(found.gpus) or "no GPU"
    driver = ok(name, f"{found.version}, CUDA up to {cuda}: {gpus}")
    return [driver, *_check_strangers(found.holders)]


def _check_strangers(holders: Sequence[Holder]) -> list[Finding]:
    name = "gpu programs"
    strangers = [holder for holder in holders if not _is_ours(holder.pid)]
    if not strangers:
        return [ok(name, "no other program holds GPU memory")]
    return [
        warn(
            name,
            f"{_program(holder.pid)} (pid {holder.pid}) holds {_size(holder)} of GPU {holder.gpu}",
            "stop it if the plan needs that memory",
        )
        for holder in strangers
    ]


def _is_ours(pid: int) -> bool:
    """Whether it is an engine of a running localfusion: its temporary files tell."""
    try:
        temporary = Path(psutil.Process(pid).environ().get("TMPDIR", ""))
    except psutil.Error:
        return False
    return any(folder.name.startswith(PREFIX) for folder in temporary.parents)


def _program(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a program outside of this container"


def _size(holder: Holder) -> str:
    return "memory" if holder.bytes is None else gib(holder.bytes)
