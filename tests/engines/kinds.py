"""The kinds of engine under contract. A new kind is one function and one line in ``KINDS``."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from localfusion.engines.base import Engine, ManagedEngine, Phase, PhaseChange
from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.sim import DEFAULT_TEXT, FailureKind, SimEngine, SimFailure, StartFailure
from localfusion.engines.sim_latency import PROFILES
from localfusion.engines.vllm import PHASE_SECONDS, Places, VLLMEngine
from localfusion.placement import Slot
from localfusion.types import Delta, Message, Prompt

SERVER = (sys.executable, "-m", "localfusion.engines.sim_server")
NAME = "model-a"


@dataclass(frozen=True, slots=True)
class Script:
    """What a simulated engine does in a case, whichever way it is reached.

    A planned failure must come after the first token: an engine that starts generates one.
    """

    text: str = DEFAULT_TEXT
    echo: bool = False
    reasoning: str = ""
    verdict: Mapping[str, float] | None = None
    caches_prefixes: bool = True
    profile: str = "instant"
    failure: FailureKind | None = None
    at_token: int = 2
    max_model_len: int = 4096
    can_sleep: bool = False
    has_core: bool = False
    start_failure: StartFailure | None = None

    def flags(self) -> list[str]:
        """Return it as options of sim_server."""
        flags = ["--text", self.text, "--reasoning", self.reasoning, "--profile", self.profile]
        if self.verdict is not None:
            flags += ["--verdict", json.dumps(self.verdict)]
        if not self.caches_prefixes:
            flags.append("--no-enable-prefix-caching")
        if self.echo:
            flags.append("--echo")
        if self.failure is not None:
            flags += ["--failure", self.failure, "--at-token", str(self.at_token)]
        if self.has_core:
            flags.append("--core")
        if self.start_failure is not None:
            flags += ["--start-failure", self.start_failure]
        return flags


Open = Callable[[Script, Path], AbstractAsyncContextManager[ManagedEngine]]
MakeEngine = Callable[[Script], AbstractAsyncContextManager[ManagedEngine]]


@asynccontextmanager
async def open_sim(script: Script, _: Path) -> AsyncGenerator[ManagedEngine, None]:
    profile = replace(
        PROFILES[script.profile],
        sleep_seconds=0.0 if script.can_sleep else None,
        caches_prefixes=script.caches_prefixes,
    )
    engine = SimEngine(
        _echo if script.echo else script.text,
        name=NAME,
        reasoning=script.reasoning,
        verdict=script.verdict,
        profile=profile,
        failure=None if script.failure is None else SimFailure(script.failure, script.at_token),
        max_model_len=script.max_model_len,
    )
    await engine.start(ignore)
    try:
        yield engine
    finally:
        await engine.stop()


@asynccontextmanager
async def open_openai(script: Script, run: Path) -> AsyncGenerator[ManagedEngine, None]:
    sizes = ["--max-model-len", str(script.max_model_len)]
    async with sim_server(run / "a.sock", *script.flags(), *sizes) as uds:
        engine = OpenAIEngine(NAME, uds=uds)
        if script.failure != "overloaded":
            await engine.start(ignore)
        try:
            yield engine
        finally:
            await engine.stop()


@asynccontextmanager
async def open_vllm(script: Script, run: Path) -> AsyncGenerator[ManagedEngine, None]:
    """VLLMEngine with all its machinery, its command alone put in the place of vLLM's."""
    engine = vllm_engine(script, run)
    try:
        await engine.start(ignore)
        yield engine
    finally:
        await engine.stop()


def vllm_engine(
    script: Script,
    run: Path,
    *,
    server: Sequence[str] = SERVER,
    logs: Path | None = None,
    phase_seconds: Mapping[Phase, float] = PHASE_SECONDS,
    options: Mapping[str, object] = MappingProxyType({}),
) -> VLLMEngine:
    """Build one that is not started; ``server`` begins its command line."""
    return VLLMEngine(
        NAME,
        weights=run,
        slot=make_slot(script.max_model_len, can_sleep=script.can_sleep),
        options=options,
        places=Places(run=run, cache=run, logs=logs or run),
        server=[*server, *script.flags()],
        phase_seconds=phase_seconds,
    )


KINDS: dict[str, Open] = {"sim": open_sim, "openai": open_openai, "vllm": open_vllm}


PROMPT = Prompt((Message("system", "Be brief."), Message("user", "Say hello.")))


async def collect(engine: Engine, prompt: Prompt = PROMPT) -> list[Delta]:
    """Read a whole stream."""
    async with aclosing(engine.generate(prompt)) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def ignore(_: PhaseChange) -> None:
    """Listen to an engine's phases, and forget them."""


@asynccontextmanager
async def sim_child(*flags: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """Run ``python -m localfusion.engines.sim_server`` until the end; its log is ``stderr``."""
    process = await asyncio.create_subprocess_exec(*SERVER, *flags, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def sim_server(uds: Path, *flags: str) -> AsyncGenerator[Path, None]:
    """Run a simulated server behind a socket; it listens when this returns."""
    looker = OpenAIEngine(NAME, uds=uds)
    try:
        async with sim_child("--uds", str(uds), "--served-model-name", NAME, *flags) as child:
            await listening(looker, child)
            yield uds
    finally:
        await looker.aclose()
        os.unlink(uds)


async def listening(engine: OpenAIEngine, child: asyncio.subprocess.Process) -> None:
    """Wait until the child answers the engine's calls."""
    async with asyncio.timeout(60):
        while not await engine.healthy():
            assert child.returncode is None, "sim_server ended at once"
            await asyncio.sleep(0.05)


def _echo(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def make_slot(max_model_len: int = 4096, *, can_sleep: bool = False) -> Slot:
    return Slot(
        model=NAME,
        roles=("member",),
        devices=("GPU-0",) if can_sleep else (),  # vLLM's CPU engines cannot
        sleeps=can_sleep,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        dtype="bfloat16",
        max_model_len=max_model_len,
        max_num_seqs=8,
        weight_bytes=1,
        kv_cache_bytes=1 << 20,
        bytes=1 << 21,
        gpu_memory_utilization=0.05,
        is_on_disk=True,
    )
