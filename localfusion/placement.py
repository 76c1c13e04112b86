"""Which engine gets which share of the hardware, decided before anything is loaded. Pure.

An engine needs ``weights + KV cache + overhead``; the sum over the engines of a device must fit
into what is free there when the plan is made. What is an estimate says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localfusion.errors import PlacementError
from localfusion.hardware import Gpu, Hardware

GIB = 1 << 30
BLOCK = 32
"""Tokens of a KV block: the smallest that vLLM's CPU kernels like; serves GPUs as well."""
GPU_OVERHEAD_BYTES = int(2.5 * GIB)
"""Activations, CUDA graphs and context of one engine. An estimate: no GPU has been measured."""
CPU_OVERHEAD_BYTES = 1_800_000_000
"""API process and runtime of one CPU engine: 1.6 to 2.1 GB measured over three models."""
SLACK = 1.04
NICENESS = 5
DEFAULT_MAX_MODEL_LEN = 4096
DEFAULT_MAX_NUM_SEQS = 8

Role = Literal["member", "judge"]


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """What placement must know of a model.

    Attributes:
        weight_bytes: All tensors as stored, at two bytes a parameter or less.
        kv_bytes_per_token: Over all layers, at two bytes an element.
        window: The longest context that the model was made for, tokens.
        tensor_parallel_size: GPUs that share the weights.
        is_on_disk: False when the figures come from the catalogue in models.yaml.
    """

    name: str
    roles: tuple[Role, ...]
    weight_bytes: int
    kv_bytes_per_token: int
    window: int
    max_model_len: int = DEFAULT_MAX_MODEL_LEN
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    tensor_parallel_size: int = 1
    is_on_disk: bool = True


@dataclass(frozen=True, slots=True)
class Slot:
    """One engine's share of the hardware.

    Attributes:
        devices: GPU ids; empty on the CPU.
        cores: CPU cores that the engine may run on; empty on a GPU: all.
        weight_bytes: As loaded, over all its devices.
        kv_cache_bytes: Per device.
        bytes: The whole share, over all its devices.
        niceness: Of its processes; above 0 it yields to a heavier engine on the same cores.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole division; ``slots`` stand in the order in which engines start, largest first."""

    slots: tuple[Slot, ...]
    hardware: Hardware
    notes: tuple[str, ...] = ()

    def __getitem__(self, model: str) -> Slot:
        return next(slot for slot in self.slots if slot.model == model)


def plan(needs: Sequence[ModelNeed], hardware: Hardware) -> Plan:
    """Divide the hardware among the models; GPUs if there are any, else cores and memory.

    Raises:
        PlacementError: they do not fit; says by how much, and what would.
    """
    for need in needs:
        if need.max_model_len > need.window:
            raise PlacementError(
                f"{need.name}: max_model_len {need.max_model_len} is more than the {need.window} "
                "tokens that the model was made for; lower it in models.yaml"
            )
    ordered = sorted(needs, key=lambda need: (-need.weight_bytes, need.name))
    if hardware.gpus:
        return _plan_gpus(ordered, hardware)
    return _plan_cpu(ordered, hardware)


def _kv_tokens(need: ModelNeed) -> int:
    """Tokens of the KV pool: a quarter of all windows at once, and never less than one window.

    Requests rarely fill their window; those that do wait for each other instead of failing.
    """
    tokens = max(need.max_model_len, need.max_num_seqs * need.max_model_len // 4)
    return (math.ceil(tokens / BLOCK) + 1) * BLOCK  # vLLM keeps one block for itself


def _plan_cpu(needs: Sequence[ModelNeed], hardware: Hardware) -> Plan:
    cpu = hardware.cpu
    width = 1 if cpu.has_bf16 else 2
    cores = _split_cores(needs, cpu.cores)
    slots = []
    for need in needs:
        weights, kv = need.weight_bytes * width, _kv_tokens(need) * need.kv_bytes_per_token * width
        slots.append(
            Slot(
                model=need.name,
                roles=need.roles,
                devices=(),
                cores=cores[need.name],
                dtype="bfloat16" if cpu.has_bf16 else "float32",
                max_model_len=need.max_model_len,
                max_num_seqs=need.max_num_seqs,
                weight_bytes=weights,
                kv_cache_bytes=kv,
                bytes=int((weights + kv + CPU_OVERHEAD_BYTES) * SLACK),
                # With explicit KV bytes vLLM sizes nothing by it on a CPU, but still checks it.
                gpu_memory_utilization=0.05,
                is_on_disk=need.is_on_disk,
                niceness=NICENESS if _yields(need, needs) else 0,
            )
        )
    short = sum(slot.bytes for slot in slots) - cpu.free_bytes
    if short > 0:
        raise PlacementError(
            f"the engines need {short / GIB:.1f} GiB more memory than is free: {_sizes(slots)}; "
            f"free {cpu.free_bytes / GIB:.1f} GiB. Leave out {slots[0].model}, lower max_num_seqs "
            "or max_model_len in models.yaml, or stop other programs"
        )
    return Plan(tuple(slots), hardware, _cpu_notes(needs, hardware))


def _yields(need: ModelNeed, needs: Sequence[ModelNeed]) -> bool:
    """Whether an engine is a light member beside a heavier one that, as judge, has all cores.

    The panel takes as long as its slowest member: the others may be slower than they could be.
    """
    if "judge" in need.roles:
        return False
    both = (other for other in needs if {"member", "judge"} <= set(other.roles))
    return any(other.weight_bytes > need.weight_bytes for other in both)


def _split_cores(needs: Sequence[ModelNeed], cores: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Give panel engines disjoint cores in proportion to their weights, and judges all of them.

    Two engines that both run a thread per core on the same cores answer several times slower than
    on a core each (``scripts/bench placement``). The judge works when the panel is done.
    """
    members = [need for need in needs if "member" in need.roles]
    judges = {need.name: cores for need in needs if "judge" in need.roles}
    if len(members) > len(cores):  # more engines than cores: one thread each, cores shared
        return {m.name: (cores[i % len(cores)],) for i, m in enumerate(members)} | judges
    shares: dict[str, tuple[int, ...]] = {}
    left, weight_left = list(cores), sum(need.weight_bytes for need in members)
    for place, need in enumerate(members):
        others = len(members) - place - 1
        wanted = round(len(left) * need.weight_bytes / weight_left) if weight_left else 1
        count = max(1, min(wanted, len(left) - others)) if others else len(left)
        shares[need.name], left = tuple(left[:count]), left[count:]
        weight_left -= need.weight_bytes
    return shares | judges


def _cpu_notes(needs: Sequence[ModelNeed], hardware: Hardware) -> tuple[str, ...]:
    notes = []
    cores = len(hardware.cpu.cores)
    members = sum("member" in need.roles for need in needs)
    if members > cores:
        notes.append(f"{members} panel engines share {cores} cores: this will be slow")
    if not hardware.cpu.has_bf16:
        notes.append("no bf16 instructions here: weights load as float32, at twice the memory")
    return tuple(notes)


def _plan_gpus(needs: Sequence[ModelNeed], hardware: Hardware) -> Plan:
    free = {gpu.id: gpu.free_bytes for gpu in hardware.gpus}
    by_id = {gpu.id: gpu for gpu in hardware.gpus}
    slots: list[Slot] = []
    for need in needs:
        ranks = need.tensor_parallel_size
        if ranks > len(free):
            raise PlacementError(
                f"{need.name} asks for tensor_parallel_size {ranks}, and there are {len(free)} "
                "GPUs; lower it in models.yaml"
            )
        kv = _kv_tokens(need) * need.kv_bytes_per_token // ranks
        share = int((need.weight_bytes / ranks + kv + GPU_OVERHEAD_BYTES) * SLACK)
        chosen = sorted(free, key=lambda id: (-free[id], id))[:ranks]
        short = share - min(free[id] for id in chosen)
        if short > 0:
            raise PlacementError(_gpu_refusal(need, share, short, slots, by_id[chosen[0]]))
        for id in chosen:
            free[id] -= share
        slots.append(_gpu_slot(need, tuple(chosen), kv, share, by_id[chosen[0]]))
    return Plan(tuple(slots), hardware)


def _gpu_slot(need: ModelNeed, devices: tuple[str, ...], kv: int, share: int, gpu: Gpu) -> Slot:
    return Slot(
        model=need.name,
        roles=need.roles,
        devices=devices,
        cores=(),
        dtype="auto",
        max_model_len=need.max_model_len,
        max_num_seqs=need.max_num_seqs,
        weight_bytes=need.weight_bytes,
        kv_cache_bytes=kv,
        bytes=share * len(devices),
        # With explicit KV bytes it sizes nothing, but a start fails if less than this is free.
        gpu_memory_utilization=min(0.98, math.ceil(share / gpu.total_bytes * 100) / 100),
        is_on_disk=need.is_on_disk,
    )


def _gpu_refusal(need: ModelNeed, share: int, short: int, slots: Sequence[Slot], gpu: Gpu) -> str:
    beside = f" beside {', '.join(slot.model for slot in slots)}" if slots else ""
    remedies = [f"a GPU with {short / GIB:.1f} GiB more"]
    kv_bytes = _kv_tokens(need) * need.kv_bytes_per_token // need.tensor_parallel_size
    smallest = (need.max_model_len + 2 * BLOCK) * need.kv_bytes_per_token
    if kv_bytes - smallest // need.tensor_parallel_size > short / SLACK:
        remedies.insert(0, "a lower max_num_seqs")
    if slots:
        remedies.append("a preset without one of them")
    remedies.append(f"a quantized {need.name}")
    return (
        f"{need.name} needs {share / GIB:.1f} GiB on each of {need.tensor_parallel_size} GPU and "
        f"does not fit{beside}: short by {short / GIB:.1f} GiB on {gpu.name}. What would fit: "
        + ", ".join(remedies)
    )


def _sizes(slots: Sequence[Slot]) -> str:
    return ", ".join(f"{slot.model} {slot.bytes / GIB:.1f} GiB" for slot in slots)
