"""What a model takes in memory: parameters, KV cache, activations. Pure; nothing is loaded.

`localfusion.shape` reads a model's shape from its config.json. The KV rules are those of vLLM 0.32
(v1/kv_cache_interface.py, v1/core/kv_cache_utils.py), held against vLLM itself by
tests/memory/test_against_vllm.py; what is an estimate says so.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one kind, as far as their cache is concerned.

    Attributes:
        kind: ``full`` attention (MHA, GQA, MQA), ``sliding`` window, ``mla`` (latent), or ``state``
            (Mamba, short convolution: a state of fixed size).
        key_dim: Elements of one key per head; for ``mla`` the latent and rotary part together.
        value_dim: Elements of one value per head; 0 for ``mla``.
        window: Tokens that a ``sliding`` layer looks back.
        state_elements: Elements of one request's ``state`` in one layer, as wide as the model's
            own; a quantized KV cache does not narrow them.
        state_recurrent: Of ``state_elements`` those of a recurrence, which vLLM 0.32 keeps in
            float32 on a CPU with AVX-512 bf16.
        state_float32: Elements beside them that are kept in float32.
        state_blocks: States that a request has at once: with prefix caching one or two more than
            the one in use.
    """

    kind: Literal["full", "sliding", "mla", "state"]
    count: int
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window: int = 0
    state_elements: int = 0
    state_recurrent: int = 0
    state_float32: int = 0
    state_blocks: int = 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's shape, tokens and elements.

    Attributes:
        name: First of config.json's ``architectures``.
        intermediate_size: Of the feed-forward part that one token passes, all its experts together.
        parameters: Elements of all weights, a tied head counted once.
        embeddings: Those of the embedding and of a head of its own: never quantized.
        heads: Attention heads: a power of two of GPUs that shares the model must divide them.
        quantization: config.json's ``quant_method``, empty when there is none.
        bits: Of one quantized weight, with its scales; 16 when there is no quantization.
    """

    name: str
    layers: tuple[Layers, ...]
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    parameters: int
    embeddings: int = 0
    heads: int = 1
    quantization: str = ""
    bits: float = 16.0


def token_bytes(layers: Layers, *, element_bytes: int = 2, ranks: int = 1) -> int:
    """Return the cache bytes of one token in one layer, per rank; 0 for ``state``.

    Latent attention is not divided: every rank holds it whole. Fewer KV heads than ranks are
    replicated.
    """
    if layers.kind == "state":
        return 0
    heads = 1 if layers.kind == "mla" else max(1, layers.kv_heads // ranks)
    return heads * (layers.key_dim + layers.value_dim) * element_bytes


def kv_bytes_per_token(shape: Architecture, *, element_bytes: int = 2, ranks: int = 1) -> int:
    """Return the bytes that one more token takes per rank, once every window is full."""
    return sum(
        layers.count * token_bytes(layers, element_bytes=element_bytes, ranks=ranks)
        for layers in shape.layers
        if layers.kind in ("full", "mla")
    )


def kv_pool_bytes(  # noqa: PLR0913  a formula has as many parameters as it has
    shape: Architecture,
    *,
    tokens: int,
    requests: int,
    block: int,
    batch_tokens: int,
    element_bytes: int = 2,
    ranks: int = 1,
    batches: int = 2,
    wide_states: bool = False,
) -> int:
    """Return the bytes per rank of a KV pool in which ``requests`` of ``tokens`` fit at once.

    Layers of one kind share block tables. Several kinds share one pool of equal blocks: layers are
    cut into groups of as many layers as the rarest kind has (as the commonest, if that is under 1.5
    times as many), a group is padded to that size, and a block holds one group's page. One block
    is vLLM's own.

    Args:
        shape: The model's.
        tokens: Of one request, prompt and answer.
        requests: At once.
        block: Tokens of a block.
        batch_tokens: Computed in one step at most (``max_num_batched_tokens``).
        element_bytes: Of one element of the cache.
        ranks: GPUs that share the model.
        batches: In flight: two with asynchronous scheduling, vLLM's default on GPUs, else one.
        wide_states: Recurrent states are kept in float32.
    """
    kinds = [layers for layers in shape.layers if layers.count]
    if not kinds:
        return 0
    widths = [token_bytes(each, element_bytes=element_bytes, ranks=ranks) for each in kinds]
    state = max(_state_bytes(each, element_bytes, ranks, wide_states) for each in kinds)
    if max(widths) and state > block * max(widths):
        # vLLM makes attention's blocks longer until a state fits into one of their pages.
        block *= math.ceil(state / (block * max(widths)))
    page = max(block * max(widths), state)
    counts = [layers.count for layers in kinds]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    blocks = 0
    for layers, width in zip(kinds, widths, strict=True):
        # Blocks of a kind with smaller pages are longer, where that fills the page; else padded.
        longer = page // (block * width) if width and page % (block * width) == 0 else 1
        groups = math.ceil(layers.count / size)
        blocks += groups * _blocks(layers, tokens, block * longer, batches * batch_tokens)
    return (requests * blocks + 1) * size * page


def _state_bytes(layers: Layers, element_bytes: int, ranks: int, wide_states: bool) -> int:
    wide = max(2, element_bytes)
    widened = layers.state_recurrent * (4 - wide) if wide_states and wide < 4 else 0
    return (layers.state_elements * wide + widened + layers.state_float32 * 4) // ranks


def _blocks(layers: Layers, tokens: int, block: int, in_flight: int) -> int:
    """Return the blocks that one request takes in one group of layers of a kind."""
    match layers.kind:
        case "state":
            return layers.state_blocks
        case "sliding":
            # The first block may be used in part.
            seen = min(layers.window - 1 + in_flight, tokens)
            return math.ceil(seen / block) + 1
        case _:
            return math.ceil(tokens / block)


def weight_bytes(shape: Architecture, bits: float | None = None) -> int:
    """Estimate the weights' bytes where no file can be read; embeddings stay at 16 bits.

    Args:
        shape: The model's.
        bits: Of one weight, with its scales; None: as its config.json says.
    """
    linear = shape.parameters - shape.embeddings
    return int(linear * (shape.bits if bits is None else bits) / 8) + 2 * shape.embeddings


def activation_bytes(shape: Architecture, *, batch_tokens: int, requests: int, ranks: int) -> int:
    """Estimate what one forward pass needs besides weights and cache, per rank.

    Hidden states and one feed-forward part at two bytes, logits of every request in float32 three
    times over (logits, probabilities, sorting). No GPU has measured it.
    """
    hidden = batch_tokens * (4 * shape.hidden_size + 3 * shape.intermediate_size // ranks) * 2
    return hidden + 12 * requests * shape.vocab_size
