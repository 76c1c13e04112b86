"""What a vLLM server is started with: its command line, and its whole environment. Pure, but for
the look at our own environment and installed packages.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localfusion.errors import EngineStartError
from localfusion.placement import BLOCK, Slot

MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.launchers.api_server.entry")
"""vLLM's server, newest last. Its console script is missing from the CPU build: never used."""

PLUGIN = "localfusion"
"""Entry point of sleep_plugin.py; vLLM loads a plugin with routes only when it is named."""

TOOL_PARSER = "tool_call_parser"
"""vLLM's option that names how a model writes its calls; without it it is offered no function."""

_CPU_SERVER = Path(__file__).with_name("cpu_server.py")

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_HOME", "USER")

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_PLUGINS": "",  # empty: none; absent would load every installed one
    "VLLM_SERVER_DEV_MODE": "0",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_MAX_N_SEQUENCES": "8",
    "VLLM_MAX_STOP_STRINGS": "8",  # a client's four and the judge's own; vLLM's default is 4
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "PYTHONNOUSERSITE": "1",
    "NO_COLOR": "1",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "True",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that an engine uses.

    Attributes:
        run: Sockets and temporary files; 0700, and its path short: a socket's has 107 bytes.
        cache: Compiled code and model facts, kept between starts.
        logs: One file per engine.
    """

    run: Path
    cache: Path
    logs: Path


def command_line(
    name: str, weights: Path, slot: Slot, socket: Path, options: Mapping[str, object]
) -> list[str]:
    """Return vLLM's arguments for a slot; nothing is left to its defaults that the plan decides."""
    structured = {"backend": "xgrammar", "disable_any_whitespace": True}
    arguments: dict[str, object] = {
        "model": weights,
        "served-model-name": name,
        "uds": socket,
        "dtype": slot.dtype,
        "load-format": "safetensors",
        "max-model-len": slot.max_model_len,
        "max-num-seqs": slot.max_num_seqs,
        "block-size": BLOCK,
        "kv-cache-memory-bytes": slot.kv_cache_bytes,
        "gpu-memory-utilization": slot.gpu_memory_utilization,
        "scheduling-policy": "priority",
        "generation-config": "vllm",
        "seed": 0,
        "structured-outputs-config": json.dumps(structured),
        "enable-prompt-tokens-details": True,
        "enable-request-id-headers": True,
        "max-num-queued-reqs": 256,
        "shutdown-timeout": 5,
        "language-model-only": True,
        "disable-fastapi-docs": True,
        "disable-uvicorn-access-log": True,
    }
    if slot.devices:
        arguments["device-ids"] = ",".join(slot.devices)
        arguments["tensor-parallel-size"] = len(slot.devices)
        # CPUs keep vLLM's smaller default: they need no large steps, and a step is silent.
        arguments["max-num-batched-tokens"] = max(slot.max_num_batched_tokens, slot.max_num_seqs)
        if slot.sleeps:
            arguments["enable-sleep-mode"] = True
    else:
        arguments["enforce-eager"] = True
    if TOOL_PARSER in options:
        arguments["enable-auto-tool-choice"] = True
    arguments |= {
        key.replace("_", "-"): value
        for key, value in options.items()
        if key not in ("max_model_len", "max_num_seqs", "tensor_parallel_size")
    }
    return [part for key, value in arguments.items() for part in _flag(key, value)]


def _flag(key: str, value: object) -> list[str]:
    if value is True:
        return [f"--{key}"]
    if value is False:
        return [f"--no-{key}"]
    return [f"--{key}", str(value)]


def environment(slot: Slot, cache: Path, temporary: Path) -> dict[str, str]:
    """Return a child's whole environment: an allow-list of ours, and no way to the network."""
    passed = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    own = {
        "TMPDIR": str(temporary),
        "VLLM_RPC_BASE_PATH": str(temporary),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache / "vllm"),
        "HF_HOME": str(cache / "hf"),
    }
    if slot.devices and slot.sleeps:
        own["VLLM_PLUGINS"] = PLUGIN
    if not slot.devices:
        # One process computes, with a thread per planned core: engines with a worker process of
        # their own spin against each other and answer several times slower side by side.
        own["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        own["OMP_NUM_THREADS"] = str(max(1, len(slot.cores)))
        # Threads that wait give their core away soon, for another engine may be planned onto it;
        # but not at once, for then decoding takes twice as long (docs/log.md).
        own["GOMP_SPINCOUNT"] = "10000"
    return passed | _OFFLINE | own


def server_command(python: Path | None, slot: Slot) -> list[str]:
    """Return the start of vLLM's command line in the given interpreter, ours when None.

    Raises:
        EngineStartError: there is no vLLM in our own interpreter.
    """
    if python is None and importlib.util.find_spec("vllm") is None:
        raise EngineStartError("vLLM is not installed here: run scripts/install")
    how = ["-m"] if slot.devices else [str(_CPU_SERVER)]
    return [str(python or sys.executable), *how, MODULES[0]]
