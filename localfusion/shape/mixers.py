"""What mixes tokens in each layer (attention, convolution, Mamba), and the cache it needs."""

from collections import Counter
from dataclasses import dataclass

from localfusion.memory import Layers
from localfusion.shape.figures import Figures

STATES = ("mamba1", "mamba2", "conv", "linear_attention")
"""Kinds of mixers that keep a state of fixed size; the others are full, sliding and mla."""

_WORDS = {
    "sliding": "sliding",
    "sliding_attention": "sliding",
    "mamba": "mamba2",
    "mamba2": "mamba2",
    "conv": "conv",
    "linear_attention": "linear_attention",
    "full": "full",
    "global": "full",
}
_NOT_UNDERSTOOD = ("linear_attn_config", "attn_type_list", "layers_block_type")


@dataclass(frozen=True, slots=True)
class Mamba:
    """Sizes of a Mamba layer; one head of all for Mamba 1."""

    heads: int
    dim: int
    state: int
    kernel: int
    convolved: int

    @property
    def inner(self) -> int:
        return self.heads * self.dim


def count_mixers(figures: Figures, layers: int) -> Counter[str]:
    """Count the mixers of the first ``layers`` layers by kind.

    Raises:
        ValueError: some are of a kind that is not understood.
    """
    if counted := _listed(figures, layers) or _spaced(figures, layers):
        return counted
    for key in figures.values:
        if key in _NOT_UNDERSTOOD or key.startswith(("mamba_", "ssm_")):
            raise ValueError(f"{key}, and no list of layers that is understood")
    return _attention(figures, layers)


def _listed(figures: Figures, layers: int) -> Counter[str]:
    """Count mixers where the config names each layer's, else none."""
    if types := figures.entries("layer_types"):
        return Counter(_kind(word) for word in types[:layers])
    if pattern := figures.text("hybrid_override_pattern"):  # Nemotron-H
        return Counter({"mamba2": pattern.count("M"), "full": pattern.count("*")})
    for key, state in (("full_attn_idxs", "conv"), ("attn_layer_indices", "mamba2")):
        if places := figures.entries(key):
            return Counter({state: layers - len(places), "full": len(places)})
    return Counter()


def _spaced(figures: Figures, layers: int) -> Counter[str]:
    """Count mixers where attention comes every so many layers, or beside Mamba; else none."""
    if figures.name.startswith("FalconH1"):
        return Counter({"full": layers, "mamba2": layers})
    if period := figures.number("attn_layer_period", otherwise=0):  # Jamba
        full = len(range(figures.number("attn_layer_offset", otherwise=0), layers, period))
        return Counter({"mamba1": layers - full, "full": full})
    if interval := figures.number("full_attention_interval", otherwise=0):
        full = layers // interval
        return Counter({"linear_attention": layers - full, "full": full})
    return Counter()


def _attention(figures: Figures, layers: int) -> Counter[str]:
    if figures.values.get("kv_lora_rank"):
        return Counter({"mla": layers})
    window = figures.number("sliding_window", otherwise=0)
    if not window or not figures.flag("use_sliding_window", otherwise=True):
        return Counter({"full": layers})
    if pattern := figures.number("sliding_window_pattern", otherwise=0):
        return Counter({"sliding": layers - layers // pattern, "full": layers // pattern})
    return Counter({"sliding": layers})


def _kind(word: str) -> str:
    if kind := _WORDS.get(word):
        return kind
    if word.endswith("attention"):
        return "full"  # an upper bound for chunks and the like
    raise ValueError(f"a layer of the kind {word!r}, which is not understood")


def cache_layers(figures: Figures) -> tuple[Layers, ...]:
    """Return the layers as their cache sees them.

    Layers at the end that use the keys and values of earlier ones (Gemma 4) have no cache.
    """
    own = figures.layers - figures.number("num_kv_shared_layers", otherwise=0)
    return tuple(_layers(figures, kind, n) for kind, n in count_mixers(figures, own).items())


def _layers(figures: Figures, kind: str, count: int) -> Layers:
    heads, dim = figures.kv_heads, figures.head_dim
    match kind:
        case "mla":
            latent = figures.number("kv_lora_rank") + figures.number("qk_rope_head_dim")
            return Layers("mla", count, kv_heads=1, key_dim=latent)
        case "sliding":
            window = figures.number("sliding_window")
            return Layers("sliding", count, heads, dim, dim, window=window)
        case "full":
            # Gemma 4 has other heads in the layers that see everything.
            heads = figures.number("num_global_key_value_heads", otherwise=heads)
            dim = figures.number("global_head_dim", otherwise=dim)
            return Layers("full", count, heads, dim, dim)
        case _:
            return _state(figures, kind, count)


def _state(figures: Figures, kind: str, count: int) -> Layers:
    # Mamba 2 of vLLM 0.32 keeps one more block, to leave a checkpoint while it reads the prompt.
    blocks = 3 if kind == "mamba2" else 2
    convolved, recurrent = _state_elements(figures, kind)
    width = figures.text("mamba_ssm_dtype") or figures.text("mamba_ssm_cache_dtype")
    if width == "float32" or (not width and figures.name.startswith("NemotronH")):
        return Layers(
            "state", count, state_elements=convolved, state_float32=recurrent, state_blocks=blocks
        )
    return Layers(
        "state",
        count,
        state_elements=convolved + recurrent,
        state_recurrent=recurrent,
        state_blocks=blocks,
    )


def _state_elements(figures: Figures, kind: str) -> tuple[int, int]:
    """Return the elements of the convolution's and of the recurrent part of a state."""
    if kind == "conv":
        return figures.number("hidden_size") * (figures.number("conv_L_cache") - 1), 0
    if kind == "linear_attention":
        keys, values = delta_widths(figures)
        kernel = figures.number("linear_conv_kernel_dim")
        return (2 * keys + values) * (kernel - 1), values * figures.number("linear_key_head_dim")
    mamba = mamba_sizes(figures, kind)
    return mamba.convolved * (mamba.kernel - 1), mamba.inner * mamba.state


def mamba_sizes(figures: Figures, kind: str) -> Mamba:
    """Return a Mamba layer's sizes, of either generation."""
    state = figures.number("mamba_d_state", "ssm_state_size")
    kernel = figures.number("mamba_d_conv", "conv_kernel")
    expanded = figures.number("mamba_expand", "expand", otherwise=2) * figures.hidden
    if kind == "mamba1":
        return Mamba(1, expanded, state, kernel, convolved=expanded)
    heads = figures.number("mamba_n_heads", "mamba_num_heads")
    dim = figures.number("mamba_d_head", "mamba_head_dim", otherwise=expanded // heads)
    groups = figures.number("mamba_n_groups", "n_groups")
    return Mamba(heads, dim, state, kernel, convolved=heads * dim + 2 * groups * state)


def delta_widths(figures: Figures) -> tuple[int, int]:
    """Return the widths of all keys and all values of a gated delta net layer (Qwen3-Next)."""
    return (
        figures.number("linear_num_key_heads") * figures.number("linear_key_head_dim"),
        figures.number("linear_num_value_heads") * figures.number("linear_value_head_dim"),
    )
