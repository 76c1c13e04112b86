"""Why models do not fit, and what would: every change that is named was tried and is enough."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from localfusion.hardware import Hardware, imagine_gpus
from localfusion.memory import weight_bytes
from localfusion.placement.fit import can_fit
from localfusion.placement.gpu import largest_kind
from localfusion.placement.needs import ALL_STEPS, GIB, Demand, ModelNeed, Step, gib
from localfusion.placement.sizes import Size, cpu_bytes, gpu_bytes

CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192, 288)
"""Sizes of cards that are sold, in units of 10^9 bytes."""
COUNTS = (1, 2, 4, 8)
QUANTIZED_BITS = {"FP8": 8.08, "4 bit": 4.16}
"""Bits of a weight with its scales: one more byte in a hundred, and groups of 128."""
STEP_BYTES = GIB // 10
MOST_BYTES = 1 << 44


def explain(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> str:
    """Say what is missing and what would fit, for a demand that does not."""
    remedies = [
        *_by_models(demand, hardware, fit),
        *_by_settings(demand, hardware, fit),
        *_by_hardware(demand, hardware, fit),
    ]
    would = f". What would fit: {'; '.join(remedies)}" if remedies else ""
    return f"{_lack(demand, hardware, fit)}: {_engines(demand, hardware)}{would}"


def _lack(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> str:
    most = largest_kind(hardware.gpus)
    for need in demand.needs.values():
        if hardware.gpus and (need.tensor_parallel_size or 1) > most:
            return (
                f"{need.name} asks for tensor_parallel_size {need.tensor_parallel_size}, and there "
                f"are no more than {most} GPUs of one kind"
            )
    short = shortfall(demand, hardware, fit)
    missing = "more memory" if short is None else f"{gib(short)} more memory"
    where = "on each GPU" if hardware.gpus else "than is free"
    free = [gpu.free_bytes for gpu in hardware.gpus] or [hardware.cpu.free_bytes]
    each = " and ".join(dict.fromkeys(gib(count) for count in free))
    return f"the engines need {missing} {where} ({each} free)"


def shortfall(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> int | None:
    """Return how much more on each device is enough, in steps of a tenth of a GiB; None: never."""
    low, high = 0, 1  # in steps: low is too little
    while not can_fit(demand, _larger(hardware, high * STEP_BYTES), fit):
        low, high = high, high * 2
        if high * STEP_BYTES > MOST_BYTES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if can_fit(demand, _larger(hardware, middle * STEP_BYTES), fit):
            high = middle
        else:
            low = middle
    return high * STEP_BYTES


def _by_models(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> Iterator[str]:
    for name in reversed(tuple(demand.needs)):  # the smallest loss first
        smaller = demand.without(name)
        if smaller is not None and can_fit(smaller, hardware, fit):
            yield f"the same without {name}"
            break
    for label, bits in QUANTIZED_BITS.items():
        if not hardware.gpus and label == "FP8":
            continue  # slow without AMX, and refused
        quantized = [_quantized(need, bits) for need in demand.needs.values()]
        useful = [need for need in quantized if need is not None]
        for need in useful:
            if can_fit(demand.with_need(need), hardware, fit):
                yield f"{need.name} quantized to {label} ({gib(need.weight_bytes)} of weights)"
                return
        if len(useful) > 1 and can_fit(demand.with_need(*useful), hardware, fit):
            yield f"{', '.join(need.name for need in useful)} quantized to {label}"
            return


def _quantized(need: ModelNeed, bits: float) -> ModelNeed | None:
    smaller = weight_bytes(need.shape, bits)
    if smaller >= need.weight_bytes:
        return None
    shape = replace(need.shape, quantization=need.shape.quantization or "compressed-tensors")
    return replace(need, shape=shape, weight_bytes=smaller)


def _by_settings(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> Iterator[str]:
    missing = [step for step in ALL_STEPS if step not in fit]
    enough = [step for step in missing if can_fit(demand, hardware, (*fit, step))]
    if enough:
        yield f"{' or '.join(enough)} added to `fit` in models.yaml"
    elif len(missing) > 1 and can_fit(demand, hardware, (*fit, *missing)):
        yield f"{' and '.join(missing)} added to `fit` in models.yaml"
    for need in demand.needs.values():
        if need.tensor_parallel_size is not None:
            free = demand.with_need(replace(need, tensor_parallel_size=None))
            if can_fit(free, hardware, fit):
                yield f"{need.name} without tensor_parallel_size"


def _by_hardware(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> Iterator[str]:
    if not hardware.gpus:
        short = shortfall(demand, hardware, fit)
        if short is not None:
            yield f"{gib(hardware.cpu.free_bytes + short)} of free memory"
        return
    count, smallest = len(hardware.gpus), min(gpu.total_bytes for gpu in hardware.gpus)
    usual = max((size for size in CARDS if size * 10**9 <= smallest), default=CARDS[0])
    larger = [(count, size) for size in CARDS]
    further = [(n, usual) for n in COUNTS if n > count]
    enough = [_first(demand, hardware, fit, pairs) for pairs in (larger, further)]
    if not any(enough):
        pairs = sorted(product(COUNTS, CARDS), key=lambda pair: (pair[0] * pair[1], pair))
        enough = [_first(demand, hardware, fit, pairs)]
    yield from (f"{count}x{size}GB" for count, size in filter(None, enough))


def _first(
    demand: Demand, hardware: Hardware, fit: Sequence[Step], pairs: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    for count, size in pairs:
        if can_fit(demand, replace(hardware, gpus=imagine_gpus(count, size)), fit):
            return count, size
    return None


def _larger(hardware: Hardware, extra: int) -> Hardware:
    if not hardware.gpus:
        return replace(
            hardware, cpu=replace(hardware.cpu, free_bytes=hardware.cpu.free_bytes + extra)
        )
    gpus = tuple(
        replace(gpu, total_bytes=gpu.total_bytes + extra, free_bytes=gpu.free_bytes + extra)
        for gpu in hardware.gpus
    )
    return replace(hardware, gpus=gpus)


def _engines(demand: Demand, hardware: Hardware) -> str:
    """List what each engine takes as it was asked for, over all its devices."""
    found = []
    for need in demand.needs.values():
        size = Size(need.max_num_seqs, need.max_model_len)
        if hardware.gpus:
            ranks = need.tensor_parallel_size or 1
            total = gpu_bytes(need, size, ranks).total * ranks
        else:
            total = cpu_bytes(need, size, has_bf16=hardware.cpu.has_bf16).total
        found.append(f"{need.name} {gib(total)}")
    return ", ".join(found)
