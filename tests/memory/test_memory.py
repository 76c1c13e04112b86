"""Parameters and KV bytes from config.json alone: golden rows, limits, properties."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.memory import (
    Architecture,
    Layers,
    activation_bytes,
    kv_bytes_per_token,
    kv_pool_bytes,
    weight_bytes,
)
from localfusion.shape import read_architecture
from tests.memory.configs import CONFIGS

LLAMA = CONFIGS["Llama-3.1-8B"]
SMOLLM2 = {
    **LLAMA,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
# Per token in bf16. Llama, Qwen: public tables; DeepSeek-V2-Lite: 27 layers x (512 + 64) x 2.
BYTES_PER_TOKEN = {
    "Llama-3.1-8B": 131_072,
    "Qwen2.5-7B": 57_344,
    "DeepSeek-V2-Lite": 31_104,
    "Qwen3-30B-A3B": 98_304,
}
# As their makers state them, in billions.
PARAMETERS = {
    "Llama-3.1-8B": 8.03,
    "Qwen2.5-7B": 7.62,
    "Mixtral-8x7B": 46.7,
    "Qwen3-30B-A3B": 30.5,
    "DeepSeek-V2-Lite": 15.7,
    "LFM2-1.2B": 1.17,
    "Qwen3-Next-80B-A3B": 79.7,
}


@pytest.mark.parametrize("name", BYTES_PER_TOKEN)
def test_kv_bytes_per_token_are_the_public_figures(name: str) -> None:
    assert kv_bytes_per_token(read_architecture(CONFIGS[name])) == BYTES_PER_TOKEN[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_public_figures(name: str) -> None:
    shape = read_architecture(CONFIGS[name])
    assert shape.parameters / 1e9 == pytest.approx(PARAMETERS[name], rel=0.005)


@pytest.mark.parametrize(
    ("layers", "heads", "dim", "blocks"), [(30, 3, 64, 728), (24, 2, 64, 1365), (28, 2, 128, 585)]
)
def test_pool_has_the_blocks_that_running_engines_reported(
    layers: int, heads: int, dim: int, blocks: int
) -> None:
    """SmolLM2-135M, Qwen2.5-Coder 0.5B and 1.5B with 512 MiB, block size 32, bf16."""
    shape = Architecture("x", (Layers("full", layers, heads, dim, dim),), 1, 1, 1, 8192, 1)
    needed = kv_pool_bytes(
        shape, tokens=32, requests=blocks - 1, block=32, batch_tokens=2048, batches=1
    )
    one_more = kv_pool_bytes(
        shape, tokens=32, requests=blocks, block=32, batch_tokens=2048, batches=1
    )
    assert needed <= 512 << 20 < one_more


def test_a_model_that_sees_images_counts_by_its_language_part() -> None:
    nested = {"architectures": ["XForConditionalGeneration"], "text_config": LLAMA}
    assert read_architecture(nested).layers == read_architecture(LLAMA).layers


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_figure_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        read_architecture({k: v for k, v in LLAMA.items() if k != key})


@pytest.mark.parametrize(
    "unknown",
    [
        {"layer_types": ["full_attention", "hyena"] * 16},
        {"linear_attn_config": {"full_attn_layers": [4]}},
        {"mamba_d_state": 128},
    ],
)
def test_layers_that_are_no_attention_and_not_understood_are_refused(
    unknown: dict[str, object],
) -> None:
    with pytest.raises(ValueError, match="understood"):
        read_architecture({**LLAMA, **unknown})


def test_attention_of_an_unknown_kind_counts_as_full_attention() -> None:
    chunked = {**LLAMA, "layer_types": ["chunked_attention"] * 32}
    assert read_architecture(chunked).layers == read_architecture(LLAMA).layers


def test_older_configs_say_by_index_which_layers_attend() -> None:
    old = {k: v for k, v in CONFIGS["LFM2-1.2B"].items() if k != "layer_types"}
    old["full_attn_idxs"] = [2, 5, 8, 10, 12, 14]
    assert set(read_architecture(old).layers) == set(read_architecture(CONFIGS["LFM2-1.2B"]).layers)


def test_granite_4_without_mamba_is_plain_attention() -> None:
    dense = {**CONFIGS["Granite-4.0-H-Micro"], "layer_types": ["attention"] * 40}
    assert [layers.kind for layers in read_architecture(dense).layers] == ["full"]


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({"quant_method": "fp8"}, 8.16),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4.156),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, 8.16),
        ({"quant_method": "mxfp4"}, 4.25),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
            },
            4.5,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, 8.16),
    ],
)
def test_quantized_weights_take_their_bits_and_their_scales(
    config: dict[str, object], bits: float
) -> None:
    shape = read_architecture({**LLAMA, "quantization_config": config})
    assert shape.bits == pytest.approx(bits, abs=0.01)
    linear = shape.parameters - shape.embeddings
    assert weight_bytes(shape) == pytest.approx(linear * bits / 8 + 2 * shape.embeddings, rel=0.01)


def test_tied_embeddings_count_once() -> None:
    tied = read_architecture(SMOLLM2)
    apart = read_architecture({**SMOLLM2, "tie_word_embeddings": False})
    assert apart.parameters - tied.parameters == 576 * 49152
    assert weight_bytes(tied) == 269_030_016  # the header's sum of the converted file


SIZES = st.integers(1, 16_384)
SHAPES = st.sampled_from(sorted(CONFIGS)).map(lambda name: read_architecture(CONFIGS[name]))


@given(SHAPES, SIZES, st.integers(1, 64), st.sampled_from([16, 32, 128]), st.integers(1, 8))
def test_more_tokens_or_requests_never_need_less(
    shape: Architecture, tokens: int, requests: int, block: int, ranks: int
) -> None:
    def pool(tokens: int, requests: int) -> int:
        return kv_pool_bytes(
            shape, tokens=tokens, requests=requests, block=block, batch_tokens=2048, ranks=ranks
        )

    assert pool(tokens, requests) <= pool(tokens + 1, requests)
    assert pool(tokens, requests) < pool(tokens, requests + 1)
    assert pool(tokens, requests) >= requests * tokens * kv_bytes_per_token(shape, ranks=ranks)


@given(SHAPES, st.sampled_from([1, 2, 4, 8]))
def test_more_gpus_never_need_more_on_each(shape: Architecture, ranks: int) -> None:
    assert kv_bytes_per_token(shape, ranks=2 * ranks) <= kv_bytes_per_token(shape, ranks=ranks)
    sizes: dict[str, Any] = {"batch_tokens": 2048, "requests": 8}
    assert activation_bytes(shape, ranks=2 * ranks, **sizes) <= activation_bytes(
        shape, ranks=ranks, **sizes
    )


def test_latent_attention_is_held_whole_by_every_gpu() -> None:
    shape = read_architecture(CONFIGS["DeepSeek-V2-Lite"])
    assert kv_bytes_per_token(shape, ranks=8) == kv_bytes_per_token(shape)


def test_layers_that_use_the_cache_of_others_have_none() -> None:
    """Gemma 4 E2B: the last 20 of 35 layers."""
    config = {
        **CONFIGS["Gemma-4-26B-A4B"],
        "num_hidden_layers": 35,
        "num_kv_shared_layers": 20,
        "layer_types": [*["sliding_attention"] * 4, "full_attention"] * 7,
    }
    counts = {layers.kind: layers.count for layers in read_architecture(config).layers}
    assert counts == {"sliding": 12, "full": 3}


@pytest.mark.parametrize("name", ["Granite-4.0-H-Micro", "Nemotron-H-8B", "Qwen3-Next-80B-A3B"])
def test_a_quantized_cache_does_not_narrow_states(name: str) -> None:
    state = next(each for each in read_architecture(CONFIGS[name]).layers if each.kind == "state")
    shape = Architecture("x", (state,), 1, 1, 1, 8192, 1)

    def pool(element_bytes: int) -> int:
        return kv_pool_bytes(
            shape,
            tokens=4096,
            requests=4,
            block=32,
            batch_tokens=2048,
            element_bytes=element_bytes,
        )

    assert pool(1) == pool(2) < pool(4)


def test_states_kept_in_float32_take_more() -> None:
    config = CONFIGS["Qwen3-Next-80B-A3B"]
    sizes: dict[str, Any] = {"tokens": 4096, "requests": 4, "block": 32, "batch_tokens": 2048}
    plain = kv_pool_bytes(read_architecture(config), **sizes)
    wide = kv_pool_bytes(read_architecture({**config, "mamba_ssm_dtype": "float32"}), **sizes)
    widened = kv_pool_bytes(read_architecture(config), **sizes, wide_states=True)
    assert wide > 1.3 * plain
    assert widened == wide


def test_sliding_layers_stop_growing_with_the_prompt() -> None:
    shape = read_architecture(CONFIGS["Gemma-3-4B"])
    plain = read_architecture({**CONFIGS["Gemma-3-4B"], "layer_types": ["full_attention"] * 34})
    sizes: dict[str, Any] = {"requests": 4, "block": 32, "batch_tokens": 2048}
    long, short = 65_536, 4096
    assert kv_pool_bytes(shape, tokens=long, **sizes) < 6 * kv_pool_bytes(
        shape, tokens=short, **sizes
    )
    assert (
        kv_pool_bytes(shape, tokens=long, **sizes) < kv_pool_bytes(plain, tokens=long, **sizes) / 3
    )
