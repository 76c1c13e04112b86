"""Run in the engines' interpreter: what vLLM's own code says of each config, as one JSON document.

It builds vLLM's model class on torch's meta device, asks each of its layers for its cache spec and
lets vLLM divide a KV pool among them. Nothing is loaded and no engine is started.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel, parallel_state
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.core.kv_cache_utils import (
    get_kv_cache_configs,
    get_max_concurrency_for_kv_cache_config,
)
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec

# vLLM looks at each model class in a process of its own, ten seconds each; one process is enough.
registry._run_in_subprocess = lambda fn: fn()


def main() -> None:
    # Models print; the answer alone goes to stdout.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        found = {
            name: look(config, asked["pool_bytes"], meeting)
            for name, config in asked["configs"].items()
        }
    json.dump(found, answer)
    answer.close()


def look(config: Mapping[str, Any], pool: int, meeting: str) -> dict[str, float]:
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
        model = build(engine, meeting)
    kind: Any = AttentionLayerBase
    layers = get_layers_from_vllm_config(engine, kind)
    specs = {name: spec for name, each in layers.items() if (spec := own_spec(each, engine))}
    engine.cache_config.kv_cache_layout = "LBNHC"
    found = get_kv_cache_configs(engine, [specs], [pool])[0]
    growing = [s for s in specs.values() if type(s) in (FullAttentionSpec, MLAAttentionSpec)]
    return {
        "blocks": found.num_blocks,
        # By the processor's kind: on some vLLM widens them.
        "wide_states": engine.cache_config.mamba_ssm_cache_dtype == "float32",
        "requests": get_max_concurrency_for_kv_cache_config(engine, found),
        "bytes_per_token": sum(s.page_size_bytes / s.block_size for s in growing),
        "parameters": sum({id(each): each.numel() for each in model.parameters()}.values()),
    }


def build(engine: Any, meeting: str) -> Any:
    with set_current_vllm_config(engine):
        if torch.distributed.is_initialized():
            leave: Any = parallel_state.destroy_model_parallel
            leave()  # a mixture of experts needs a group that others lack
        else:
            init_distributed_environment(1, 0, meeting, 0, "gloo")
        initialize_model_parallel()
        with set_default_torch_dtype(torch.bfloat16), torch.device("meta"):
            return initialize_model(vllm_config=engine)


def own_spec(layer: Any, engine: Any) -> Any:
    """Return the layer's cache spec; None if it uses the cache of another."""
    if getattr(layer, "kv_sharing_target_layer_name", None):
        return None
    return layer.get_kv_cache_spec(engine)


if __name__ == "__main__":
    main()
