"""What placement answers: each engine's slot, and the plan that holds them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from localfusion.hardware import Hardware
from localfusion.placement.needs import DEFAULT_MAX_NUM_BATCHED_TOKENS, GIB, Role

SLEEP_BYTES = int(1.3 * GIB)
"""What an engine that sleeps keeps on each of its GPUs.

Source: vllm-project/vllm issues 28714 and 32714, not measured here."""

MEMORY = "memory"
"""The one device of a machine without GPU."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One engine's share of the hardware.

    Attributes:
        devices: GPU ids, one for each tensor parallel rank; empty on the CPU.
        cores: CPU cores that the engine may run on; empty on a GPU: all.
        weight_bytes: As loaded, over all its devices.
        kv_cache_bytes: Per device.
        bytes: The whole share, over all its devices; the same on each.
        niceness: Of its processes; above 0 it yields to a heavier engine on the same cores.
        max_num_batched_tokens: Prompt tokens that one step reads at most.
        sleeps: It gives its memory away while another group of the plan works.
    """

    model: str
    roles: tuple[Role, ...]
    devices: tuple[str, ...]
    cores: tuple[int, ...]
    dtype: Literal["auto", "bfloat16", "float32"]
    max_model_len: int
    max_num_seqs: int
    weight_bytes: int
    kv_cache_bytes: int
    bytes: int
    gpu_memory_utilization: float
    is_on_disk: bool
    niceness: int = 0
    max_num_batched_tokens: int = DEFAULT_MAX_NUM_BATCHED_TOKENS
    sleeps: bool = False

    @property
    def where(self) -> str:
        """Its devices or cores in words."""
        return ",".join(self.devices) or "cores " + ",".join(map(str, self.cores))

    @property
    def device_bytes(self) -> int:
        """The share of each of its devices."""
        return self.bytes // max(1, len(self.devices))

    @property
    def asleep_bytes(self) -> int:
        """What it keeps of each device while another group works; a CPU engine is stopped."""
        return min(SLEEP_BYTES, self.device_bytes) if self.devices else 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one engine holds of one device during one phase, as bytes from ``begin`` to ``end``."""

    model: str
    begin: int
    end: int
    is_asleep: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole division.

    Attributes:
        slots: In the order in which engines start, largest first: one after the other on each
            device, devices side by side.
        notes: What was given up so that it fits, and other things to know.
        groups: Models that are resident together. One group when all fit; else the panel and the
            judges, which take turns. A model of every group stays.
        judges: Presets with another judge than models.yaml says, and that judge.
    """

    slots: tuple[Slot, ...]
    hardware: Hardware
    notes: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, model: str) -> Slot:
        return next(slot for slot in self.slots if slot.model == model)

    @property
    def devices(self) -> Mapping[str, int]:
        """Bytes that are free now, by device; ``memory`` is the one of a machine without GPU."""
        if self.hardware.gpus:
            return {gpu.id: gpu.free_bytes for gpu in self.hardware.gpus}
        return {MEMORY: self.hardware.cpu.free_bytes}

    def shares(self, device: str, group: tuple[str, ...]) -> tuple[Share, ...]:
        """Return who holds what of a device while a group works; disjoint, in start order."""
        found: list[Share] = []
        for slot in self.slots:
            if device not in (slot.devices or (MEMORY,)):
                continue
            is_asleep = slot.model not in group
            begin = found[-1].end if found else 0
            taken = slot.asleep_bytes if is_asleep else slot.device_bytes
            if taken:
                found.append(Share(slot.model, begin, begin + taken, is_asleep))
        return tuple(found)

    def start_places(self) -> Mapping[str, int]:
        """Return each engine's place in the starts of its devices, from 1.

        Engines with one number start side by side. On a CPU all do.
        """
        busy: dict[str, int] = {}
        places = {}
        for slot in self.slots:
            places[slot.model] = 1 + max((busy.get(id, 0) for id in slot.devices), default=0)
            busy |= dict.fromkeys(slot.devices, places[slot.model])
        return places
