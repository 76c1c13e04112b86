"""Run in the engines' interpreter: what vLLM's own code says of each config, as one JSON document.

Sums and blocks come from its config objects and KV cache specs, parameters from the model that
transformers builds on torch's meta device. Nothing is loaded and no engine is started.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.models import ModelRegistry, registry
from vllm.platforms import current_platform
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.core.kv_cache_utils import (
    get_kv_cache_configs,
    get_max_concurrency_for_kv_cache_config,
)
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)

# vLLM looks at each model class in a process of its own, ten seconds each; one process is enough.
registry._run_in_subprocess = lambda fn: fn()

STATES = ("mamba", "conv", "linear_attention")


def main() -> None:
    asked = json.load(sys.stdin)
    pool, configs = asked["pool_bytes"], asked["configs"]
    json.dump({name: look(config, pool) for name, config in configs.items()}, sys.stdout)


def look(config: Mapping[str, Any], pool: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({**config, "torch_dtype": "bfloat16"})
        Path(folder, "config.json").write_text(text)
        engine = AsyncEngineArgs(
            model=folder,
            max_model_len=4096,
            block_size=32,
            max_num_seqs=16,
            max_num_batched_tokens=2048,
            enforce_eager=True,
            skip_tokenizer_init=True,
            kv_cache_memory_bytes=pool,
            gpu_memory_utilization=0.05,
            dtype="bfloat16",
        ).create_engine_config()
    if engine.model_config.is_hybrid:
        # What the engine core does once it knows its attention backend.
        current_platform._align_hybrid_block_size(engine, CPUAttentionBackend)
    specs = {str(i): spec(engine, config, kind) for i, kind in enumerate(kinds(engine, config))}
    engine.cache_config.kv_cache_layout = "LBNHC"
    found = get_kv_cache_configs(engine, [specs], [pool])[0]
    growing = [s for s in specs.values() if type(s) in (FullAttentionSpec, MLAAttentionSpec)]
    return {
        "blocks": found.num_blocks,
        "block_size": engine.cache_config.block_size,
        "requests": get_max_concurrency_for_kv_cache_config(engine, found),
        "bytes_per_token": sum(s.page_size_bytes / s.block_size for s in growing),
        "parameters": parameters(config),
    }


def kinds(engine: Any, config: Mapping[str, Any]) -> list[str]:
    count = engine.model_config.get_num_layers(engine.parallel_config)
    if interval := config.get("full_attention_interval"):
        return ["linear_attention" if (i + 1) % interval else "full" for i in range(count)]
    return list(config.get("layer_types") or ["full"] * count)


def spec(engine: Any, config: Mapping[str, Any], kind: str) -> Any:
    model, cache = engine.model_config, engine.cache_config
    if kind in STATES:
        architecture, _ = ModelRegistry.resolve_model_cls(config["architectures"], model)
        return MambaSpec(
            shapes=architecture.get_mamba_state_shape_from_config(engine),
            dtypes=architecture.get_mamba_state_dtype_from_config(engine),
            block_size=cache.mamba_block_size or 4096,
            page_size_padded=cache.mamba_page_size_padded,
            mamba_cache_mode=cache.mamba_cache_mode,
        )
    sizes = {
        "block_size": cache.block_size,
        "num_kv_heads": model.get_num_kv_heads(engine.parallel_config),
        "head_size": model.get_head_size(),
        "dtype": model.dtype,
    }
    if model.use_mla:
        return MLAAttentionSpec(**sizes)
    if kind == "sliding_attention":
        window = model.hf_text_config.sliding_window
        return SlidingWindowSpec(sliding_window=window, dcp_sharded=False, **sizes)
    return FullAttentionSpec(**sizes)


def parameters(config: Mapping[str, Any]) -> int:
    rest = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **rest))
    model.tie_weights()
    return sum({id(each): each.numel() for each in model.parameters()}.values())


if __name__ == "__main__":
    main()
