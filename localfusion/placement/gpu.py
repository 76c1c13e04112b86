"""Engines on GPUs: how many share the weights, what each takes of its card, and its slot."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from localfusion.hardware import Cpu, Gpu
from localfusion.memory import Architecture
from localfusion.placement.devices import Division
from localfusion.placement.needs import GIB, Demand, ModelNeed, gib
from localfusion.placement.search import Choice, Room
from localfusion.placement.sizes import Size, context_bytes, gpu_bytes
from localfusion.placement.slots import SLEEP_BYTES, Slot

RANKS = (1, 2, 4, 8)
SWAP_BYTES_PER_SECOND = 10 * GIB
"""Of sleeping and waking over PCIe 4.0 x16. An estimate."""


@dataclass(frozen=True, slots=True)
class GpuDevices:
    """Graphics cards, and the main memory in which their engines sleep."""

    gpus: tuple[Gpu, ...]
    cpu: Cpu

    def rooms(self, phases: int) -> tuple[Room, ...]:
        return tuple(
            Room(gpu.id, place, kind(gpu), (gpu.free_bytes,) * phases)
            for place, gpu in enumerate(self.gpus)
        )

    def choices(
        self, need: ModelNeed, size: Size, awake: tuple[bool, ...], *, spread: bool
    ) -> tuple[Choice, ...]:
        found = []
        for ranks in _ranks(need, largest_kind(self.gpus)):
            total = gpu_bytes(need, size, ranks).total
            asleep = min(total, SLEEP_BYTES)
            found.append(Choice(ranks, tuple(total if on else asleep for on in awake)))
            if (
                not spread
                and largest_kind(gpu for gpu in self.gpus if gpu.free_bytes >= total) >= ranks
            ):
                return (found[-1],)
        return tuple(found) if spread else ()

    def can_swap(self, demand: Demand) -> bool:
        """Whether the main memory holds all weights that ever sleep, panel and judges at once."""
        panel, judges = demand.phases()
        sleeping = set(panel) ^ set(judges)
        return sum(demand.needs[m].weight_bytes for m in sleeping) <= self.cpu.free_bytes

    def slots(self, division: Division) -> tuple[Slot, ...]:
        return tuple(self._slot(need, division) for need in division.demand.needs.values())

    def _slot(self, need: ModelNeed, division: Division) -> Slot:
        size, (choice, devices) = division.sizes[need.name], division.placed[need.name]
        taken = gpu_bytes(need, size, choice.ranks)
        card = next(gpu for gpu in self.gpus if gpu.id == devices[0])
        # With explicit KV bytes it sizes nothing, but a start fails if less than this is free. The
        # process's own context is no longer free when vLLM looks.
        checked = max(0, taken.total - context_bytes(choice.ranks))
        return Slot(
            model=need.name,
            roles=division.demand.roles(need.name),
            devices=devices,
            cores=(),
            dtype="auto",
            max_model_len=size.max_model_len,
            max_num_seqs=size.max_num_seqs,
            weight_bytes=need.weight_bytes,
            kv_cache_bytes=taken.kv,
            bytes=taken.total * choice.ranks,
            gpu_memory_utilization=max(1, math.floor(checked / card.total_bytes * 1000)) / 1000,
            is_on_disk=need.is_on_disk,
            max_num_batched_tokens=need.max_num_batched_tokens,
            sleeps=division.sleeps(need.name),
        )

    def notes(self, division: Division) -> tuple[str, ...]:
        notes = []
        for name, (choice, _) in sorted(division.placed.items()):
            if choice.ranks > 1 and division.demand.needs[name].tensor_parallel_size is None:
                notes.append(f"{name} is spread over {choice.ranks} GPUs (tensor parallel)")
        if len(division.groups) > 1:
            needs = division.demand.needs
            sleeping = [name for name in needs if division.sleeps(name)]
            moved = sum(needs[name].weight_bytes for name in sleeping)
            notes.append(
                f"a swap puts one group to sleep and wakes the other: {gib(moved)} over "
                f"PCIe, about {math.ceil(moved / SWAP_BYTES_PER_SECOND)} s, an estimate; each turn "
                "pays two swaps"
            )
        return tuple(notes)


def kind(gpu: Gpu) -> tuple[str, int]:
    """Return what must be equal among the GPUs of one tensor parallel engine."""
    return gpu.name, gpu.total_bytes


def largest_kind(gpus: Iterable[Gpu]) -> int:
    """Return how many GPUs of one kind there are at most."""
    return max(Counter(map(kind, gpus)).values(), default=0)


def _ranks(need: ModelNeed, most: int) -> tuple[int, ...]:
    if need.tensor_parallel_size is not None:
        return (need.tensor_parallel_size,)
    return tuple(ranks for ranks in RANKS if ranks <= most and _divides(need.shape, ranks))


def _divides(shape: Architecture, ranks: int) -> bool:
    """Whether vLLM can cut the model into so many equal parts; few KV heads are replicated."""
    kv_heads = [layers.kv_heads for layers in shape.layers if layers.kv_heads]
    return shape.heads % ranks == shape.intermediate_size % ranks == 0 and all(
        max(heads, ranks) % min(heads, ranks) == 0 for heads in kv_heads
    )
