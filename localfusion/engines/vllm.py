"""VLLMEngine: one ``vllm serve`` child behind a unix socket, spoken to as OpenAIEngine."""

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from localfusion.engines.base import (
    MISCONFIGURED,
    EngineFacts,
    EngineStats,
    Phase,
    PhaseChange,
    PhaseListener,
)
from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.process import POLL_SECONDS, ChildProcess, Command
from localfusion.engines.rundir import temporary_folder
from localfusion.engines.vllm_command import (
    MODULES,
    TOOL_PARSER,
    Places,
    command_line,
    environment,
    server_command,
)
from localfusion.errors import (
    ASLEEP,
    STARTING,
    EngineError,
    EngineStartError,
    EngineUnavailableError,
    FusionError,
    WeightsError,
)
from localfusion.functions import Tools
from localfusion.placement import Slot
from localfusion.types import Delta, Message, Prompt

_log = logging.getLogger(__name__)

__all__ = ["MODULES", "PHASE_SECONDS", "Places", "VLLMEngine", "server_command"]

START_SECONDS = 3600.0
"""A start that takes longer has failed, however much progress it makes."""

PHASE_SECONDS: Mapping[Phase, float] = MappingProxyType(
    {
        "launching": 300.0,  # imports, on a disk that is cold
        "loading": 900.0,  # one shard of the weights, over a network
        "sizing": 900.0,  # a trial run, and compilation
        "graphs": 600.0,  # one step of those
        "listening": 60.0,
        "checking": 300.0,  # one token, kernels compiled for it
    }
)
"""A start has failed after so long without progress in a phase: another phase, or more per cent."""

IDLE_SECONDS = 300.0
"""Silence after which a call has failed; a long prompt is read that long on a slow CPU."""

STOP_SECONDS = 2.0
"""From SIGTERM to SIGKILL. Whoever stops an engine that has calls waits for those before."""

WATCH_SECONDS = 1.0
"""Between two looks at a running engine."""

SLEEP_ROUTE = "/localfusion"
"""Of the routes that sleep_plugin.py adds to an engine."""


class VLLMEngine:
    """A vLLM server of our own: started, watched and ended here.

    Args:
        weights: Folder with safetensors and tokenizer, verified by the caller.
        server: Start of the command line; tests put a simulated server here.
        phase_seconds: Longest time without progress in each phase of a start.
        check: Called in a thread before every start; a WeightsError of it ends the start.
    """

    def __init__(  # noqa: PLR0913  what a child consists of; nobody passes it on
        self,
        name: str,
        *,
        weights: Path,
        slot: Slot,
        options: Mapping[str, object],
        places: Places,
        server: Sequence[str],
        phase_seconds: Mapping[Phase, float] = PHASE_SECONDS,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self._check = check
        self._phase_seconds = phase_seconds
        self._socket = places.run / f"{name[:40]}.sock"
        self._slot = slot
        self._phase = PhaseChange(name, "waiting", 0.0)
        self._can_sleep = self._is_asleep = self._is_dead = False
        self._is_up = asyncio.Event()
        argv = [*server, *command_line(name, weights, slot, self._socket, options)]
        self._temporary = temporary_folder(places.run, name)
        env = environment(slot, places.cache, self._temporary)
        command = Command(argv, env, slot.cores, slot.niceness)
        self.process = ChildProcess(name, command, places.logs / f"{name}.log", places.run)
        self._client = OpenAIEngine(
            name,
            uds=self._socket,
            facts=EngineFacts(
                slot.max_model_len,
                devices=len(slot.devices or slot.cores) or 1,
                device="gpu" if slot.devices else "cpu",
                calls_tools=TOOL_PARSER in options,
            ),
            idle_timeout=IDLE_SECONDS,
        )

    @property
    def facts(self) -> EngineFacts:
        """The plan's figures before the start, the engine's own afterwards."""
        return self._client.facts

    @property
    def is_ready(self) -> bool:
        return self._phase.phase == "ready" and self.process.is_running and not self._is_dead

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def last_lines(self) -> Sequence[str]:
        return self.process.log.last_lines()

    async def start(self, listener: PhaseListener) -> None:
        """Launch the child and return when it has generated one real token."""
        clock = asyncio.get_running_loop().time
        began = clock()

        def enter(phase: Phase, detail: str) -> None:
            self._phase = PhaseChange(self.name, phase, clock() - began, detail)
            listener(self._phase)

        try:
            async with asyncio.timeout(START_SECONDS):
                await self._start(enter)
        except (TimeoutError, EngineStartError) as error:
            enter("failed", "")
            await self._shut(patience=STOP_SECONDS)
            if isinstance(error, EngineStartError):
                raise
            raise EngineStartError(
                f"{self.name} was not ready after {START_SECONDS:g} s; see {self.process.log.file}"
            ) from error
        self._is_up.set()
        enter("ready", "")

    async def _start(self, enter: Callable[[Phase, str], None]) -> None:
        self._can_sleep = self._is_asleep = self._is_dead = False
        self._clean()
        try:
            await asyncio.to_thread(self._check)
        except WeightsError as error:
            raise EngineStartError(f"{self.name}: {error}", code=MISCONFIGURED) from error
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineStartError(f"{self.name}: no folder for its sockets: {error}") from error
        self._client.open()
        enter("launching", "")
        await self.process.start()
        await self._until_it_listens(enter)
        enter("checking", "")
        try:
            async with asyncio.timeout(self._phase_seconds["checking"]):
                await self._client.check()
                if self._slot.devices and self._slot.sleeps:
                    self._can_sleep = await self._knows_how_to_sleep()
        except TimeoutError as error:
            raise self._is_stuck("checking") from error
        except FusionError as error:
            raise EngineStartError(f"{self.name} starts but does not answer: {error}") from error

    async def _until_it_listens(self, enter: Callable[[Phase, str], None]) -> None:
        clock = asyncio.get_running_loop().time
        phase: Phase = "launching"
        seen: tuple[Phase, str] | None = None
        since = clock()
        while not await self._client.healthy():
            if not self.process.is_running:
                cause = self.process.explain()
                raise EngineStartError(
                    f"{self.name} did not start: {cause.text} (log: {self.process.log.file})",
                    code=MISCONFIGURED if cause.is_configuration else None,
                )
            if (found := self.process.log.new_phase()) and found != seen:
                seen, since = found, clock()
                phase = found[0]
                enter(*found)
            if clock() > since + self._phase_seconds[phase]:
                raise self._is_stuck(phase)
            await asyncio.sleep(POLL_SECONDS)

    def _is_stuck(self, phase: Phase) -> EngineStartError:
        return EngineStartError(
            f"{self.name} made no progress in {self._phase_seconds[phase]:g} s of {phase}; "
            f"see {self.process.log.file}"
        )

    async def _knows_how_to_sleep(self) -> bool:
        try:
            return (await self._client.ask("GET", f"{SLEEP_ROUTE}/state")).get("can_sleep") is True
        except EngineError as error:
            _log.warning("%s will be stopped where it could sleep: %s", self.name, error)
            return False

    async def died(self) -> str:
        """Return why, once its processes have ended or vLLM says that its core has.

        Keeps its log small meanwhile.
        """
        while True:
            await self._is_up.wait()
            if await self.process.ended(within=WATCH_SECONDS) or await self._client.says_dead():
                if self._is_up.is_set():
                    self._is_dead = True
                    return self.process.explain().text
            else:
                await asyncio.to_thread(self.process.log.trim)

    async def stop(self) -> None:
        """End the child with all its descendants and remove its socket."""
        self._phase = replace(self._phase, phase="stopped")
        await self._shut(patience=0.0 if self._is_dead else STOP_SECONDS)

    async def _shut(self, patience: float) -> None:
        self._is_up.clear()
        self._is_asleep = False
        await self._client.aclose()
        await self.process.stop(patience=patience)
        self._clean()

    def _clean(self) -> None:
        """Remove what a killed engine leaves: sockets, and whatever else it kept in files."""
        self._socket.unlink(missing_ok=True)
        shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def can_sleep(self) -> bool:
        """Whether the plan wants it to, and the engine has learned how."""
        return self._can_sleep

    async def sleep(self) -> None:
        self._require_ready()
        await self._swap("sleep", asleep=True)

    async def wake(self) -> None:
        await self._swap("wake", asleep=False)
        try:
            await self._client.check()
        except FusionError as error:
            raise EngineError(f"{self.name} woke and does not answer: {error}") from error

    async def _swap(self, verb: str, *, asleep: bool) -> None:
        try:
            state = await self._client.ask("POST", f"{SLEEP_ROUTE}/{verb}")
        except FusionError as error:
            raise EngineError(f"{self.name} cannot {verb}: {error}") from error
        if state.get("is_asleep") is not asleep:
            raise EngineError(f"{self.name} did not {verb}")
        self._is_asleep = asleep

    def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the answer; a child that is not there fails at once."""
        self._require_ready()
        return self._client.generate(prompt)

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        self._require_ready()
        return await self._client.count_tokens(messages, tools)

    async def stats(self) -> EngineStats:
        self._require_ready()
        return await self._client.stats()

    def _require_ready(self) -> None:
        if self._is_asleep:
            raise EngineUnavailableError(f"{self.name} sleeps; wake it", code=ASLEEP)
        if self.is_ready:
            return
        if self._phase.phase == "ready":
            raise EngineUnavailableError(f"{self.name} has died: {self.process.explain().text}")
        if self._phase.phase in ("stopped", "failed"):
            raise EngineUnavailableError(f"{self.name} cannot answer: it has {self._phase.phase}")
        raise EngineUnavailableError(
            f"{self.name} is starting ({self._phase.phase}); ask again soon", code=STARTING
        )
