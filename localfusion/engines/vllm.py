"""VLLMEngine: one ``vllm serve`` child behind a unix socket, spoken to as OpenAIEngine."""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from localfusion.engines.base import EngineFacts, EngineStats, PhaseChange, PhaseListener
from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.process import POLL_SECONDS, ChildProcess, Command
from localfusion.errors import (
    STARTING,
    EngineStartError,
    EngineUnavailableError,
    FusionError,
)
from localfusion.placement import BLOCK, Slot
from localfusion.types import Delta, Message, Prompt, SamplingParams

START_SECONDS = 600.0
"""A start that takes longer has failed."""

IDLE_SECONDS = 300.0
"""Silence after which a call has failed; a long prompt is read that long on a slow CPU."""

MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.launchers.api_server.entry")
"""vLLM's server, newest last. Its console script is missing from the CPU build: never used."""

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
    else:
        arguments["enforce-eager"] = True
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


def environment(slot: Slot, places: Places) -> dict[str, str]:
    """Return a child's whole environment: an allow-list of ours, and no way to the network."""
    passed = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    temporary = str(places.run / "t")
    own = {
        "TMPDIR": temporary,
        "VLLM_RPC_BASE_PATH": temporary,
        "VLLM_CACHE_ROOT": str(places.cache / "vllm"),
        "VLLM_CONFIG_ROOT": str(places.cache / "vllm"),
        "HF_HOME": str(places.cache / "hf"),
    }
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


class VLLMEngine:
    """A vLLM server of our own: started, watched and ended here.

    Args:
        weights: Folder with safetensors and tokenizer, verified by the caller.
        server: Start of the command line; tests put a simulated server here.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: Path,
        slot: Slot,
        options: Mapping[str, object],
        places: Places,
        server: Sequence[str],
    ) -> None:
        self.name = name
        self._socket = places.run / f"{name[:40]}.sock"
        self._slot = slot
        self._phase = PhaseChange(name, "waiting", 0.0)
        argv = [*server, *command_line(name, weights, slot, self._socket, options)]
        command = Command(argv, environment(slot, places), slot.cores, slot.niceness)
        self.process = ChildProcess(name, command, places.logs / f"{name}.log", places.run)
        self._client = OpenAIEngine(
            name,
            uds=self._socket,
            facts=EngineFacts(slot.max_model_len),
            idle_timeout=IDLE_SECONDS,
        )

    @property
    def facts(self) -> EngineFacts:
        """The plan's figures before the start, the engine's own afterwards."""
        return self._client.facts

    @property
    def is_ready(self) -> bool:
        return self._phase.phase == "ready" and self.process.is_running

    async def start(self, listener: PhaseListener) -> None:
        """Launch the child and return when it has generated one real token."""
        clock = asyncio.get_running_loop().time
        began = clock()

        def enter(phase: PhaseChange) -> None:
            self._phase = replace(phase, seconds=clock() - began)
            listener(self._phase)

        try:
            async with asyncio.timeout(START_SECONDS):
                await self._start(enter)
        except TimeoutError as error:
            await self._fail(enter)
            raise EngineStartError(
                f"{self.name} was not ready after {START_SECONDS:g} s; see {self.process.log_file}"
            ) from error
        except EngineStartError:
            await self._fail(enter)
            raise

    async def _start(self, enter: PhaseListener) -> None:
        self._socket.unlink(missing_ok=True)
        enter(PhaseChange(self.name, "launching", 0.0))
        await self.process.start()
        while not await self._client.healthy():
            if not self.process.is_running:
                raise EngineStartError(f"{self.name} did not start: {self.process.explain()}")
            if found := self.process.new_phase():
                enter(PhaseChange(self.name, found[0], 0.0, found[1]))
            await asyncio.sleep(POLL_SECONDS)
        enter(PhaseChange(self.name, "checking", 0.0))
        try:
            await self._client.probe()
            await self._generate_one_token()
        except FusionError as error:
            raise EngineStartError(f"{self.name} starts but does not answer: {error}") from error
        enter(PhaseChange(self.name, "ready", 0.0))

    async def _generate_one_token(self) -> None:
        prompt = Prompt((Message("user", "Hi"),), SamplingParams(temperature=0, max_tokens=1))
        async with aclosing(self._client.generate(prompt)) as deltas:
            async for _ in deltas:
                pass

    async def _fail(self, enter: PhaseListener) -> None:
        enter(PhaseChange(self.name, "failed", 0.0))
        await self.process.stop(patience=2.0)

    async def stop(self) -> None:
        """End the child with all its descendants and remove its socket."""
        self._phase = replace(self._phase, phase="stopped")
        await self._client.aclose()
        await self.process.stop()
        self._socket.unlink(missing_ok=True)

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the answer; a child that is not there fails at once."""
        self._require_ready()
        return self._client.generate(prompt)

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        self._require_ready()
        return await self._client.count_tokens(messages)

    async def stats(self) -> EngineStats:
        self._require_ready()
        return await self._client.stats()

    def _require_ready(self) -> None:
        if self.is_ready:
            return
        if self._phase.phase == "ready":
            raise EngineUnavailableError(f"{self.name} has died: {self.process.explain()}")
        if self._phase.phase in ("stopped", "failed"):
            raise EngineUnavailableError(f"{self.name} cannot answer: it has {self._phase.phase}")
        raise EngineUnavailableError(
            f"{self.name} is starting ({self._phase.phase}); ask again soon", code=STARTING
        )
