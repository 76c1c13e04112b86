"""How many bytes of a device an engine takes; what is an estimate says so."""

import math
from dataclasses import dataclass

from localfusion.memory import activation_bytes, kv_pool_bytes
from localfusion.placement.needs import BLOCK, GIB, ModelNeed

SLACK = 1.04
"""Over the sum of all parts: fragmentation, and what is replicated on every rank."""

CONTEXT_BYTES = int(0.8 * GIB)
"""CUDA context and libraries of one process. An estimate: no GPU has been measured."""
NCCL_BYTES = int(0.4 * GIB)
"""More of them for each rank of tensor parallelism. An estimate."""
GRAPH_BYTES = int(0.3 * GIB)
"""CUDA graphs of the smallest batches. An estimate."""
GRAPH_BYTES_PER_SIZE = int(1.2 * GIB / 512)
"""For each request that the largest graph serves; vLLM's largest is min(2 S, 512). An estimate."""
CPU_OVERHEAD_BYTES = 1_800_000_000
"""API process and runtime of one CPU engine: 1.6 to 2.1 GB measured over three models."""

MIN_CONTEXT = 4096
"""Contexts are not shortened below this, or what was asked for if that is less."""
MIN_CONVERSATION = 2048
"""What a shortened judge must still hold beside drafts, analysis and answer."""
MIN_SEQS = 4
"""Below it fewer sequences save nothing: the KV pool always holds one whole request."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much one engine is asked to hold.

    Attributes:
        max_num_seqs: Requests computed at once.
        max_model_len: Tokens of one.
    """

    max_num_seqs: int
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """What one rank of an engine takes.

    Attributes:
        weights: As loaded.
        kv: The KV pool.
        total: All of it, slack included.
    """

    weights: int
    kv: int
    total: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How far sizes are cut, the same for all engines: fewer requests, then shorter contexts."""

    max_num_seqs: int
    eighths: int = 8


LEAST = Cut(MIN_SEQS, 0)
"""The deepest cut."""


def cuts(largest: int) -> tuple[Cut, ...]:
    """Return the cuts for engines of at most ``largest`` sequences, from none to the deepest."""
    caps = [largest]
    while caps[-1] > MIN_SEQS:
        caps.append(max(MIN_SEQS, caps[-1] // 2))
    whole = [Cut(cap) for cap in caps]
    shortened = (Cut(caps[-1], eighths) for eighths in range(7, 0, -1))
    return (*whole, *shortened, LEAST)


def cut_size(need: ModelNeed, cut: Cut, judge_tokens: int | None) -> Size:
    """Return what is left of an engine's size.

    Args:
        need: The engine's.
        cut: How far.
        judge_tokens: What it must hold beside the conversation; None: it does not judge.
    """
    floor = MIN_CONTEXT
    if judge_tokens is not None:
        floor = max(floor, judge_tokens + MIN_CONVERSATION)
    shortened = need.max_model_len * cut.eighths // 8 // 256 * 256
    length = need.max_model_len if cut.eighths == 8 else max(floor, shortened)
    return Size(min(need.max_num_seqs, cut.max_num_seqs), min(need.max_model_len, length))


def gpu_bytes(need: ModelNeed, size: Size, ranks: int) -> Bytes:
    """Return what each rank takes: weights, KV pool, activations, CUDA graphs, context."""
    batch = max(need.max_num_batched_tokens, size.max_num_seqs)
    weights = math.ceil(need.weight_bytes / ranks)
    kv = _kv_bytes(need, size, need.kv_element_bytes or 2, ranks)
    rest = activation_bytes(need.shape, batch_tokens=batch, requests=size.max_num_seqs, ranks=ranks)
    if not need.is_eager:
        rest += GRAPH_BYTES + GRAPH_BYTES_PER_SIZE * min(2 * size.max_num_seqs, 512)
    rest += context_bytes(ranks)
    return Bytes(weights, kv, int((weights + kv + rest) * SLACK))


def context_bytes(ranks: int) -> int:
    """Return what a process takes of its GPU before vLLM looks how much is free."""
    return CONTEXT_BYTES + (NCCL_BYTES if ranks > 1 else 0)


def cpu_bytes(need: ModelNeed, size: Size, *, has_bf16: bool) -> Bytes:
    """Return what an engine takes of main memory; without bf16 it computes in float32."""
    width = 1 if has_bf16 else 2
    # Packed integers are unpacked while computing; all else is widened once, when it is loaded.
    weights = need.weight_bytes * (1 if need.shape.quantization else width)
    kv = _kv_bytes(need, size, need.kv_element_bytes or 2 * width, 1, wide_states=True)
    # vLLM keeps the head once more, packed for its kernels: 4.9 GiB measured where it has 0.5.
    head = 4 * need.shape.vocab_size * need.shape.hidden_size
    return Bytes(weights, kv, int((weights + kv + head + CPU_OVERHEAD_BYTES) * SLACK))


def _kv_bytes(
    need: ModelNeed, size: Size, element_bytes: int, ranks: int, *, wide_states: bool = False
) -> int:
    """Return the KV pool: a quarter of all sequences at full length, and never less than one.

    Requests rarely fill their window; those that do wait for each other instead of failing.
    """
    return kv_pool_bytes(
        need.shape,
        tokens=size.max_model_len,
        requests=max(1, math.ceil(size.max_num_seqs / 4)),
        block=BLOCK,
        batch_tokens=max(need.max_num_batched_tokens, size.max_num_seqs),
        element_bytes=element_bytes,
        ranks=ranks,
        wide_states=wide_states,
    )
