"""A model's shape from its public config.json: which layers, how many parameters.

Families are told apart by what their configs say (``kv_lora_rank``, ``layer_types``, experts, Mamba
sizes), not by name; an attention model that says nothing unusual is plain grouped-query attention.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from localfusion.memory import Architecture, Layers

_WINDOWED = ("sliding_attention", "sliding")
_STATES = ("mamba", "mamba2", "conv", "linear_attention", "recurrent")
_FOUR_NORMS = ("Gemma2", "Gemma3", "Olmo2")
_GATED = ("Qwen3Next", "Qwen3_5")
_PLAIN_MLP = ("GPT2", "Phi", "GPTNeoX", "Starcoder2", "Opt", "Falcon")


@dataclass(frozen=True, slots=True)
class _Config:
    values: Mapping[str, object]

    def number(self, *keys: str, otherwise: int | None = None) -> int:
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        if otherwise is None:
            raise ValueError(f"no usable {keys[0]}")
        return otherwise

    def flag(self, key: str, otherwise: bool) -> bool:
        value = self.values.get(key)
        return value if isinstance(value, bool) else otherwise

    def words(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        return tuple(map(str, value)) if isinstance(value, list) else ()


def read_architecture(config: Mapping[str, object]) -> Architecture:
    """Read a model's shape from its config.json.

    A model that also sees images keeps its language model in ``text_config``: that alone counts.

    Raises:
        ValueError: a figure that is needed is missing; the message names it.
    """
    inner, name = _inner(config), _name(config)
    hidden, vocabulary = inner.number("hidden_size", "n_embd"), inner.number("vocab_size")
    kinds = _kinds(inner)
    feed, passed = _feed_forward(inner, name)
    mixing = sum(_mixer_parameters(inner, name, kind) * n for kind, n in kinds.items())
    layers = sum(kinds.values())
    norms = layers * hidden * (4 if name.startswith(_FOUR_NORMS) else 2) + hidden
    embeddings = vocabulary * hidden * (1 if is_tied(config) else 2)
    quantization, bits = _quantization(config)
    return Architecture(
        name=name,
        layers=tuple(_layers(inner, kind, count) for kind, count in kinds.items()),
        hidden_size=hidden,
        intermediate_size=passed,
        vocab_size=vocabulary,
        max_position_embeddings=inner.number(
            "max_position_embeddings", "n_positions", "max_sequence_length", "model_max_length"
        ),
        parameters=embeddings + mixing + feed + norms,
        embeddings=embeddings,
        heads=_heads(inner),
        quantization=quantization,
        bits=bits,
    )


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether head and embedding are one tensor."""
    return _inner(config).flag("tie_word_embeddings", _name(config).startswith("Gemma"))


def _inner(config: Mapping[str, object]) -> _Config:
    nested = config.get("text_config")
    return _Config({**config, **nested} if isinstance(nested, dict) else config)


def _name(config: Mapping[str, object]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else "unknown"


def _heads(config: _Config) -> int:
    return config.number("num_attention_heads", "n_head")


def _head_dim(config: _Config) -> int:
    return config.number(
        "head_dim", otherwise=config.number("hidden_size", "n_embd") // _heads(config)
    )


def _kv_heads(config: _Config) -> int:
    return config.number("num_key_value_heads", otherwise=_heads(config))


def _kinds(config: _Config) -> Counter[str]:
    """Count the layers by kind: full, sliding, mla, or the name of a state layer."""
    count = config.number("num_hidden_layers", "n_layer")
    if config.values.get("kv_lora_rank"):
        return Counter({"mla": count})
    if types := config.words("layer_types")[:count]:
        return Counter(_kind(word) for word in types)
    if interval := config.number("full_attention_interval", otherwise=0):
        return Counter({"linear_attention": count - count // interval, "full": count // interval})
    window = config.number("sliding_window", otherwise=0)
    if not window or not config.flag("use_sliding_window", True):
        return Counter({"full": count})
    pattern = config.number("sliding_window_pattern", otherwise=0)
    if pattern:
        full = count // pattern
        return Counter({"sliding": count - full, "full": full})
    return Counter({"sliding": count})


def _kind(word: str) -> str:
    if word in _WINDOWED:
        return "sliding"
    return word if word in _STATES else "full"


def _layers(config: _Config, kind: str, count: int) -> Layers:
    if kind == "mla":
        latent = config.number("kv_lora_rank") + config.number("qk_rope_head_dim")
        return Layers("mla", count, kv_heads=1, key_dim=latent)
    if kind in _STATES:
        return Layers("state", count, state_elements=_state_elements(config, kind))
    heads, dim = _kv_heads(config), _head_dim(config)
    if kind == "sliding":
        window = config.number("sliding_window")
        return Layers("sliding", count, heads, dim, dim, window=window)
    # Gemma 4 has other heads in the layers that see everything.
    heads = config.number("num_global_key_value_heads", otherwise=heads)
    dim = config.number("global_head_dim", otherwise=dim)
    return Layers("full", count, heads, dim, dim)


def _state_elements(config: _Config, kind: str) -> int:
    if kind == "conv":
        return config.number("hidden_size") * (config.number("conv_L_cache") - 1)
    if kind == "linear_attention":
        keys, values = _delta(config)
        convolved = (2 * keys + values) * (config.number("linear_conv_kernel_dim") - 1)
        return convolved + values * config.number("linear_key_head_dim")
    heads, dim, state = _mamba(config)
    convolved = heads * dim + 2 * config.number("mamba_n_groups") * state
    return convolved * (config.number("mamba_d_conv") - 1) + heads * dim * state


def _mamba(config: _Config) -> tuple[int, int, int]:
    heads = config.number("mamba_n_heads")
    expanded = config.number("mamba_expand", otherwise=2) * config.number("hidden_size")
    return (
        heads,
        config.number("mamba_d_head", otherwise=expanded // heads),
        config.number("mamba_d_state"),
    )


def _delta(config: _Config) -> tuple[int, int]:
    """Return the widths of all keys and all values of a gated delta net layer (Qwen3-Next)."""
    keys = config.number("linear_num_key_heads") * config.number("linear_key_head_dim")
    return keys, config.number("linear_num_value_heads") * config.number("linear_value_head_dim")


def _mixer_parameters(config: _Config, name: str, kind: str) -> int:
    """Count the parameters of what mixes tokens in one layer: attention, convolution, Mamba."""
    hidden = config.number("hidden_size", "n_embd")
    if kind == "mla":
        return _latent_parameters(config, hidden)
    if kind == "conv":
        return 4 * hidden * hidden + hidden * config.number("conv_L_cache")
    if kind == "linear_attention":
        keys, values = _delta(config)
        heads = config.number("linear_num_value_heads")
        into = hidden * (2 * keys + 2 * values + 2 * heads)
        convolved = (2 * keys + values) * config.number("linear_conv_kernel_dim")
        rest = 2 * heads + config.number("linear_value_head_dim")
        return into + convolved + rest + values * hidden
    if kind in _STATES:
        heads, dim, state = _mamba(config)
        inner = heads * dim
        convolved = inner + 2 * config.number("mamba_n_groups") * state
        into = hidden * (inner + convolved + heads)
        return (
            into
            + convolved * (config.number("mamba_d_conv") + 1)
            + 3 * heads
            + inner
            + inner * hidden
        )
    queries, keys = _heads(config) * _head_dim(config), _kv_heads(config) * _head_dim(config)
    total = 2 * hidden * queries + 2 * hidden * keys
    if name.startswith(_GATED):
        total += hidden * queries  # a gate of the attention's output
    if config.flag("attention_bias", False) or name.startswith("Qwen2"):
        total += queries + 2 * keys
    if name.startswith(("Qwen3", "Gemma3")):
        total += 2 * _head_dim(config)  # norms of queries and keys
    return total


def _latent_parameters(config: _Config, hidden: int) -> int:
    """Count latent attention's parameters. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1."""
    heads, latent = _heads(config), config.number("kv_lora_rank")
    plain, rotary = config.number("qk_nope_head_dim"), config.number("qk_rope_head_dim")
    value, low = config.number("v_head_dim"), config.number("q_lora_rank", otherwise=0)
    queries = heads * (plain + rotary)
    total = low * (hidden + queries + 1) if low else hidden * queries
    total += hidden * (latent + rotary) + latent
    return total + latent * heads * (plain + value) + heads * value * hidden


def _feed_forward(config: _Config, name: str) -> tuple[int, int]:
    """Return all layers' feed-forward parameters, and the width that one token passes."""
    hidden = config.number("hidden_size", "n_embd")
    layers = config.number("num_hidden_layers", "n_layer")
    dense = config.number("intermediate_size", "n_inner", otherwise=4 * hidden)
    parts = 2 if name.startswith(_PLAIN_MLP) and not name.startswith("Phi3") else 3
    experts = config.number("n_routed_experts", "num_local_experts", "num_experts", otherwise=0)
    shared = config.number(
        "shared_intermediate_size", "shared_expert_intermediate_size", otherwise=0
    )
    if not experts:
        width = shared or dense
        if name.startswith("Lfm2"):
            width = _lfm2_width(config, dense)
        return layers * parts * hidden * width, width
    width = config.number("moe_intermediate_size", otherwise=dense)
    shared = shared or config.number("n_shared_experts", otherwise=0) * width
    first = min(config.number("first_k_dense_replace", otherwise=0), layers)
    routed = 3 * hidden * (experts * width + shared) + hidden * experts
    if name.startswith(_GATED):
        routed += hidden  # a gate of the shared expert
    used = config.number("num_experts_per_tok", otherwise=1)
    return first * 3 * hidden * dense + (layers - first) * routed, used * width + shared


def _lfm2_width(config: _Config, dense: int) -> int:
    """Return LFM2's feed-forward width. Source: transformers, Lfm2MLP."""
    width = config.number("block_ff_dim", otherwise=dense)
    if not config.flag("block_auto_adjust_ff_dim", True):
        return width
    multiple = config.number("block_multiple_of", otherwise=256)
    factor = config.values.get("block_ffn_dim_multiplier", 1.0)
    width = int((factor if isinstance(factor, int | float) else 1.0) * (2 * width // 3))
    return multiple * -(-width // multiple)


def _quantization(config: Mapping[str, object]) -> tuple[str, float]:
    """Return the method, and the bits of a weight with its scales; 16 when it stays as it is."""
    given = config.get("quantization_config")
    if not isinstance(given, dict):
        return "", 16.0
    method = str(given.get("quant_method", ""))
    groups = given.get("config_groups")
    first: object = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    source = weights if isinstance(weights, dict) else given
    bits = source.get("num_bits", source.get("bits", source.get("w_bit")))
    if method in ("fp8", "fbgemm_fp8", "modelopt") or not isinstance(bits, int):
        bits = 4 if method == "mxfp4" else 8
    size = source.get("group_size", source.get("q_group_size", 128))
    size = size if isinstance(size, int) and size > 0 else 128
    # A scale of 16 bits for each group; zero points of as many bits as a weight.
    scales = 16 / size if bits < 8 else 0.16
    zeros = (
        bits / size if bits < 8 and (source.get("zero_point") or source.get("sym") is False) else 0
    )
    return method, bits + scales + zeros
