"""How many parameters a model has, counted from its config.json."""

from localfusion.shape.figures import Figures
from localfusion.shape.mixers import STATES, count_mixers, delta_widths, mamba_sizes

_FOUR_NORMS = ("Gemma2", "Gemma3", "Gemma4", "Olmo2")
_GATED = ("Qwen3Next", "Qwen3_5")
_NORMED_HEADS = ("Qwen3", "Gemma3", "Gemma4")
_TWO_PARTS = ("GPT2", "PhiForCausalLM", "GPTNeoX", "Starcoder2", "OPT", "FalconForCausalLM")


def count_parameters(figures: Figures) -> int:
    """Count the elements of all weights but the embedding and a head of its own."""
    hidden, layers = figures.hidden, figures.layers
    mixers = count_mixers(figures, layers)
    mixing = sum(_mixer(figures, kind) * count for kind, count in mixers.items())
    norms = 2
    if figures.name.startswith(_FOUR_NORMS):
        norms = 4
    elif figures.text("hybrid_override_pattern"):
        norms = 1  # a layer is a mixer or a feed-forward part
    return mixing + feed_forward(figures)[0] + layers * hidden * norms + hidden


def _mixer(figures: Figures, kind: str) -> int:
    if kind == "mla":
        return _latent(figures)
    return _state(figures, kind) if kind in STATES else _attention(figures, kind)


def _attention(figures: Figures, kind: str) -> int:
    hidden, name, dim = figures.hidden, figures.name, figures.head_dim
    heads, kv_heads = figures.heads, figures.kv_heads
    parts = 2  # keys and values
    if kind == "full" and figures.number("global_head_dim", otherwise=0):
        dim = figures.number("global_head_dim")
        kv_heads = figures.number("num_global_key_value_heads", otherwise=kv_heads)
        parts = 1 if figures.flag("attention_k_eq_v") else 2
    queries, keys = heads * dim, kv_heads * dim
    total = 2 * hidden * queries + parts * hidden * keys
    if name.startswith(_GATED):
        total += hidden * queries  # a gate of the attention's output
    if figures.flag("attention_bias") or name.startswith("Qwen2"):
        total += queries + 2 * keys
    if name.startswith(_NORMED_HEADS):
        total += 2 * dim
    return total


def _latent(figures: Figures) -> int:
    """Count latent attention's parameters. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1."""
    hidden, heads, latent = figures.hidden, figures.heads, figures.number("kv_lora_rank")
    plain, rotary = figures.number("qk_nope_head_dim"), figures.number("qk_rope_head_dim")
    value, low = figures.number("v_head_dim"), figures.number("q_lora_rank", otherwise=0)
    queries = heads * (plain + rotary)
    total = low * (hidden + queries + 1) if low else hidden * queries
    total += hidden * (latent + rotary) + latent
    return total + latent * heads * (plain + value) + heads * value * hidden


def _state(figures: Figures, kind: str) -> int:
    hidden = figures.hidden
    if kind == "conv":
        return 4 * hidden * hidden + hidden * figures.number("conv_L_cache")
    if kind == "linear_attention":
        keys, values = delta_widths(figures)
        heads = figures.number("linear_num_value_heads")
        into = hidden * (2 * keys + 2 * values + 2 * heads)
        convolved = (2 * keys + values) * figures.number("linear_conv_kernel_dim")
        rest = 2 * heads + figures.number("linear_value_head_dim")
        return into + convolved + rest + values * hidden
    mamba = mamba_sizes(figures, kind)
    total = mamba.convolved * (mamba.kernel + 1) + mamba.inner * hidden
    if kind == "mamba2":
        into = hidden * (mamba.inner + mamba.convolved + mamba.heads)
        return total + into + 3 * mamba.heads + mamba.inner
    rank = figures.number("mamba_dt_rank", otherwise=-(-hidden // 16))
    steps = mamba.inner * (2 * rank + 2 * mamba.state + 1) + rank + 2 * mamba.state
    return total + 2 * hidden * mamba.inner + steps + mamba.inner * (mamba.state + 1)


def feed_forward(figures: Figures) -> tuple[int, int]:
    """Return all layers' feed-forward parameters, and the width that one token passes."""
    hidden, name = figures.hidden, figures.name
    dense = _dense_width(figures)
    shared = figures.number(
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        "shared_expert_intermediate_size",
        otherwise=0,
    )
    pattern = figures.text("hybrid_override_pattern")
    parts = 2 if name.startswith(_TWO_PARTS) or pattern else 3
    experts = figures.number("n_routed_experts", "num_local_experts", "num_experts", otherwise=0)
    if not experts:
        layers = pattern.count("-") if pattern else figures.layers
        width = shared or dense  # Granite 4 without experts has the shared one alone
        return layers * parts * hidden * width, width
    width = figures.number("moe_intermediate_size", otherwise=dense)
    shared = shared or figures.number("n_shared_experts", otherwise=0) * width
    if name.startswith(("Gemma4", "Llama4")):
        shared = dense  # every layer has both
    mixed = _expert_layers(figures)
    routed = parts * hidden * (experts * width + shared) + hidden * experts
    if name.startswith((*_GATED, "Qwen2Moe")):
        routed += hidden  # a gate of the shared expert
    used = figures.number("num_experts_per_tok", "top_k_experts", otherwise=1)
    plain = pattern.count("-") if pattern else figures.layers - mixed
    return plain * parts * hidden * dense + mixed * routed, used * width + shared


def _expert_layers(figures: Figures) -> int:
    """Return how many layers have experts."""
    layers = figures.layers
    if pattern := figures.text("hybrid_override_pattern"):
        return pattern.count("E")
    if period := figures.number("expert_layer_period", otherwise=0):  # Jamba
        return len(range(figures.number("expert_layer_offset", otherwise=0), layers, period))
    plain = figures.number("first_k_dense_replace", "num_dense_layers", otherwise=0)
    plain += len(figures.entries("mlp_only_layers"))
    return max(0, layers - plain)


def _dense_width(figures: Figures) -> int:
    """Return the width of a feed-forward part without experts."""
    dense = figures.number(
        "intermediate_size", "n_inner", "ffn_hidden_size", otherwise=4 * figures.hidden
    )
    if figures.name != "Lfm2ForCausalLM":
        return dense
    width = figures.number("block_ff_dim", otherwise=dense)
    if not figures.flag("block_auto_adjust_ff_dim", otherwise=True):
        return width
    # Source: transformers 5.19, Lfm2MLP.
    multiple = figures.number("block_multiple_of", otherwise=256)
    factor = figures.values.get("block_ffn_dim_multiplier", 1.0)
    width = int((factor if isinstance(factor, int | float) else 1.0) * (2 * width // 3))
    return multiple * -(-width // multiple)
