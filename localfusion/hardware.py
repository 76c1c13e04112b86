"""What this machine has: GPUs by NVML, cores and memory by the kernel. Never asks torch."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psutil

# Instruction sets with native bfloat16 products. Without one of them oneDNN has no bf16 kernel, and
# torch's own reads a 1,000 token prompt five times slower than float32 does (docs/log.md).
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, slots=True)
class Gpu:
    """One graphics card; bytes are what NVML says now."""

    id: str
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as this process may use it: one hardware thread of each core."""

    cores: tuple[int, ...]
    free_bytes: int
    has_bf16: bool


@dataclass(frozen=True, slots=True)
class Hardware:
    cpu: Cpu
    gpus: tuple[Gpu, ...] = ()


def detect() -> Hardware:
    """Look at this machine now."""
    cpu = Cpu(_physical_cores(), psutil.virtual_memory().available, _has_bf16())
    return Hardware(cpu, _gpus())


def imagine(text: str) -> Hardware:
    """Read imagined GPUs, ``2x80GB``, beside the CPU that is really here.

    Raises:
        ValueError: the text has another form.
    """
    count, _, size = text.lower().removesuffix("gb").partition("x")
    if not (count.isdigit() and size.isdigit() and 0 < int(count) <= 64 and 0 < int(size) <= 1024):
        raise ValueError(f"{text!r} is no GPU description; write COUNTxSIZE, as in 2x80GB")
    total = int(size) * 10**9
    gpus = tuple(Gpu(f"gpu{i}", f"imagined {size} GB", total, total) for i in range(int(count)))
    return Hardware(detect().cpu, gpus)


def _physical_cores() -> tuple[int, ...]:
    """Return the first hardware thread of each core that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return tuple(range(psutil.cpu_count(logical=False) or 1))
    allowed = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    cores = []
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        key = siblings.read_text().strip() if siblings.exists() else str(cpu)
        if key not in seen:
            seen.add(key)
            cores.append(cpu)
    return tuple(cores)


def _has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine() == "arm64"
    words = set(info.read_text().split())
    return not _BF16_FLAGS.isdisjoint(words)


def _gpus() -> tuple[Gpu, ...]:
    nvml = _nvml()
    if nvml is None:
        return ()
    try:
        gpus = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
            gpus.append(Gpu(str(uuid), str(name), int(memory.total), int(memory.free)))
        return tuple(gpus)
    finally:
        nvml.nvmlShutdown()


def _nvml() -> ModuleType | None:
    """Return the initialized NVML binding, or None where there is no NVIDIA driver to ask."""
    try:
        import pynvml  # an optional package
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml  # type: ignore[no-any-return]  # the package has no types
