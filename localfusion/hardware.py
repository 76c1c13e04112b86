"""What this machine has and uses: GPUs by NVML, the rest by the kernel. Never asks torch."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import psutil

# Instruction sets with native bfloat16 products. Without one of them oneDNN has no bf16 kernel, and
# torch's own reads a 1,000 token prompt five times slower than float32 does (docs/log.md).
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
POWERCAP = Path("/sys/class/powercap")
MAX_IMAGINED = 64
_FORM = "{!r} is no GPU description; write COUNTxSIZE, as in 2x80GB or 2x80GB+1x24GB"


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
    """Read imagined GPUs, ``2x80GB`` or ``2x80GB+1x24GB``, beside the processor that is here.

    Main memory is taken as no less than all GPU memory, as in most machines with such cards.

    Raises:
        ValueError: the text has another form.
    """
    gpus: tuple[Gpu, ...] = ()
    for part in text.lower().split("+"):
        count, _, size = part.strip().removesuffix("gb").partition("x")
        if not (count.isdecimal() and size.isdecimal() and 0 < int(size) <= 1024):
            raise ValueError(_FORM.format(text))
        if not 0 < int(count) <= MAX_IMAGINED - len(gpus):
            raise ValueError(f"{_FORM.format(text)}, with at most {MAX_IMAGINED} GPUs")
        gpus += imagine_gpus(int(count), int(size), first=len(gpus))
    cpu = detect().cpu
    memory = max(cpu.free_bytes, sum(gpu.total_bytes for gpu in gpus))
    return Hardware(replace(cpu, free_bytes=memory), gpus)


def imagine_gpus(count: int, size: int, *, first: int = 0) -> tuple[Gpu, ...]:
    """Return cards of ``size`` times 10^9 bytes, all free; a sold card has a little more."""
    total = size * 10**9
    places = range(first, first + count)
    return tuple(Gpu(f"gpu{place}", f"imagined {size} GB", total, total) for place in places)


class EnergyMeter:
    """Adds up what the machine's own counters say: of GPUs, and of the packages of its processors.

    Counters that do not tell when it is built are left out for good: old GPUs have none, and those
    of processors are often for root alone.

    Args:
        powercap: Folder of the kernel's counters.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        found = (*_gpu_counters(), *_package_counters(powercap))
        self._counters = [counter for counter in found if counter.update()]

    def read(self) -> float | None:
        """Return joules since a moment that stays the same; None where nothing is counted.

        Differences are right as long as no counter has turned over twice in between: a processor's
        does so within an hour of hard work.
        """
        for counter in self._counters:
            counter.update()
        return sum(c.joules for c in self._counters) if self._counters else None


@dataclass(slots=True)
class _Counter:
    """One counter and what it has shown.

    Attributes:
        look: Returns what it shows, None if it does not tell.
        unit: Joules per count.
        turns_at: Where it begins again with 0; 0: only when its driver is loaded anew.
    """

    look: Callable[[], int | None]
    unit: float
    turns_at: int = 0
    joules: float = 0.0
    _shown: int = 0

    def update(self) -> bool:
        """Look at it; False if it did not tell."""
        now = self.look()
        if now is None:
            return False
        base = 0 if now < self._shown and not self.turns_at else self._shown
        step = now - base
        self.joules += (step + self.turns_at if step < 0 else step) * self.unit
        self._shown = now
        return True


def _gpu_counters() -> Iterator[_Counter]:
    nvml = _nvml()  # stays open: the counters ask it again
    if nvml is None:
        return

    def look(handle: object) -> int | None:
        try:
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except nvml.NVMLError:
            return None

    for index in range(nvml.nvmlDeviceGetCount()):
        yield _Counter(partial(look, nvml.nvmlDeviceGetHandleByIndex(index)), unit=1e-3)


def _package_counters(powercap: Path) -> Iterator[_Counter]:
    # Zones below a package are parts of it, and intel-rapl-mmio counts the same package again.
    for zone in sorted(powercap.glob("intel-rapl:[0-9]*")):
        name = zone / "name"
        if name.exists() and name.read_text().startswith("package"):
            turns_at = _read_count(zone / "max_energy_range_uj")
            yield _Counter(partial(_read_count, zone / "energy_uj"), 1e-6, turns_at or 0)


def _read_count(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


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
