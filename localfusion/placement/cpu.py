"""Engines on a machine without GPU: one memory for all, and cores that they do not fight over."""

from collections.abc import Sequence
from dataclasses import dataclass

from localfusion.hardware import Cpu
from localfusion.placement.devices import Division
from localfusion.placement.needs import Demand, ModelNeed
from localfusion.placement.search import Choice, Room
from localfusion.placement.sizes import Size, cpu_bytes
from localfusion.placement.slots import MEMORY, Slot

NICENESS = 5
START_SECONDS = 20
"""Of one engine, roughly, on two cores (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class CpuDevices:
    """The processor and its memory as one device."""

    cpu: Cpu

    def rooms(self, phases: int) -> tuple[Room, ...]:
        return (Room(MEMORY, 0, (MEMORY, 0), (self.cpu.free_bytes,) * phases),)

    def choices(
        self, need: ModelNeed, size: Size, awake: tuple[bool, ...], *, spread: bool
    ) -> tuple[Choice, ...]:
        """Return the one way: vLLM cannot let CPU engines sleep, so they are stopped."""
        total = cpu_bytes(need, size, has_bf16=self.cpu.has_bf16).total
        return (Choice(1, tuple(total if is_awake else 0 for is_awake in awake)),)

    def can_swap(self, demand: Demand) -> bool:
        return True  # stopped engines take nothing

    def slots(self, division: Division) -> tuple[Slot, ...]:
        demand = division.demand
        needs = tuple(demand.needs.values())
        cores = _split_cores(demand, self.cpu.cores)
        slots = []
        for need in needs:
            size = division.sizes[need.name]
            taken = cpu_bytes(need, size, has_bf16=self.cpu.has_bf16)
            slots.append(
                Slot(
                    model=need.name,
                    roles=demand.roles(need.name),
                    devices=(),
                    cores=cores[need.name],
                    dtype="bfloat16" if self.cpu.has_bf16 else "float32",
                    max_model_len=size.max_model_len,
                    max_num_seqs=size.max_num_seqs,
                    weight_bytes=taken.weights,
                    kv_cache_bytes=taken.kv,
                    bytes=taken.total,
                    # With explicit KV bytes vLLM sizes nothing by it on a CPU, but checks it.
                    gpu_memory_utilization=0.05,
                    is_on_disk=need.is_on_disk,
                    niceness=NICENESS if _yields(need, demand) else 0,
                    max_num_batched_tokens=need.max_num_batched_tokens,
                    sleeps=division.sleeps(need.name),
                )
            )
        return tuple(slots)

    def notes(self, division: Division) -> tuple[str, ...]:
        notes = []
        cores, members = len(self.cpu.cores), len(division.demand.members)
        if members > cores:
            notes.append(f"{members} panel engines share {cores} cores: this will be slow")
        if not self.cpu.has_bf16:
            notes.append("no bf16 instructions here: weights load as float32, at twice the memory")
        if len(division.groups) > 1:
            starts = " and ".join(str(len(group) * START_SECONDS) for group in division.groups)
            notes.append(
                f"a swap stops the engines of one group and starts the other's: about {starts} s, "
                "an estimate; each turn pays both"
            )
        return tuple(notes)


def _yields(need: ModelNeed, demand: Demand) -> bool:
    """Whether an engine is a light member beside a heavier one that, as judge, has all cores.

    The panel takes as long as its slowest member: the others may be slower than they could be.
    """
    if need.name in demand.judging:
        return False
    both = (demand.needs[name] for name in demand.members if name in demand.judging)
    return any(other.weight_bytes > need.weight_bytes for other in both)


def _split_cores(demand: Demand, cores: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Give panel engines disjoint cores in proportion to their weights, and judges all of them.

    Two engines that both run a thread per core on the same cores answer several times slower than
    on a core each (``scripts/bench placement``). The judge works when the panel is done.
    """
    members = [demand.needs[name] for name in demand.members]
    judges = dict.fromkeys(demand.judging, cores)
    if len(members) > len(cores):  # more engines than cores: one thread each, cores shared
        return {m.name: (cores[i % len(cores)],) for i, m in enumerate(members)} | judges
    return _in_proportion(members, cores) | judges


def _in_proportion(
    members: Sequence[ModelNeed], cores: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    shares: dict[str, tuple[int, ...]] = {}
    left, weight_left = cores, sum(need.weight_bytes for need in members)
    for place, need in enumerate(members):
        others = len(members) - place - 1
        wanted = round(len(left) * need.weight_bytes / weight_left) if weight_left else 1
        count = max(1, min(wanted, len(left) - others)) if others else len(left)
        shares[need.name], left = left[:count], left[count:]
        weight_left -= need.weight_bytes
    return shares
