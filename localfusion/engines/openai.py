"""OpenAIEngine: any OpenAI-compatible server, behind a URL or a unix socket. Starts no process.

Streams always, never retries, sends fields by allow-list, and turns every failure into one of ours.
HTTP 200 proves nothing: only a finish_reason and no error event make an answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from localfusion.engines import openai_wire as wire
from localfusion.engines import turns, vllm_metrics
from localfusion.engines.base import (
    MISCONFIGURED,
    EngineFacts,
    EngineStats,
    Phase,
    PhaseChange,
    PhaseListener,
)
from localfusion.engines.connection import CONNECT_SECONDS, Connection
from localfusion.engines.openai_stream import ChunkReader
from localfusion.errors import (
    ConfigError,
    EngineError,
    EngineStartError,
    EngineTimeoutError,
    EngineUnavailableError,
    FusionError,
    OverloadedError,
    RequestError,
)
from localfusion.functions import Tools
from localfusion.types import Delta, Message, Prompt, SamplingParams

DEFAULT_MAX_MODEL_LEN = 8192
"""Of a server that does not tell its context length; give ``facts`` to say better."""

# Failures that only a change of models.yaml mends, or of the server.
_LASTING = frozenset({"engine_refused", "not_served"})

# Marks the calls of a fusion, so that a fusion server among the panel can refuse to nest.
_HEADERS = {"x-openrouter-fusion-depth": "1", "user-agent": "localfusion"}
_PROBE = Prompt(
    (Message("user", "Hi"),),
    SamplingParams(temperature=0, max_tokens=1),
    priority=1,
    effort="none",
)


class OpenAIEngine:
    """A server that runs already; also the client half of the engines that are started here.

    Args:
        name: For messages, and the model's name at the server.
        base_url: Up to and including ``/v1``. Over a socket its host means nothing.
        uds: Unix socket to connect to instead.
        remote_name: The model's name at the server, if another.
        idle_timeout: Seconds without an event of the stream after which it has failed.
        facts: What holds until ``probe()``, and for what the server does not tell.

    Raises:
        ConfigError: base_url is no URL.
    """

    def __init__(  # noqa: PLR0913  a name and what a connection consists of, all optional
        self,
        name: str,
        *,
        base_url: str = "http://localhost/v1",
        uds: Path | None = None,
        api_key: str | None = None,
        remote_name: str | None = None,
        idle_timeout: float = 60.0,
        facts: EngineFacts | None = None,
    ) -> None:
        self.name = name
        self._model = remote_name or name
        self._base = base_url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        # Whether its models call functions a server does not tell: it refuses where they do not.
        self._facts = facts or EngineFacts(DEFAULT_MAX_MODEL_LEN, calls_tools=True)
        self._dialect = wire.Dialect(takes_priority=self._facts.supports_priority)
        try:
            httpx2.URL(self._base)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"base_url of {name}: {error}") from error
        self._is_ready = False
        key = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._server = Connection(name, uds=uds, headers=_HEADERS | key, idle_timeout=idle_timeout)

    def open(self) -> None:
        """Make it usable again after ``aclose()``; else do nothing."""
        self._server.open()

    async def aclose(self) -> None:
        """Close all connections, which aborts what runs on them; then every call is refused."""
        self._is_ready = False
        await self._server.aclose()

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def is_ready(self) -> bool:
        """Whether ``start()`` found it good; it is not watched afterwards."""
        return self._is_ready

    async def start(self, listener: PhaseListener) -> None:
        """Check that the server is there, has the model and generates one real token."""
        clock = asyncio.get_running_loop().time
        began = clock()

        def enter(phase: Phase) -> None:
            listener(PhaseChange(self.name, phase, clock() - began))

        self.open()
        enter("checking")
        try:
            await self.check()
        except FusionError as error:
            enter("failed")
            code = MISCONFIGURED if error.code in _LASTING else None
            raise EngineStartError(f"{error}; {self.name} cannot be used", code=code) from error
        self._is_ready = True
        enter("ready")

    async def check(self) -> None:
        """Learn what the server is, and hear one real token of it.

        Raises:
            FusionError: it does not answer as it should.
        """
        await self.probe()
        await self._generate_one_token()

    async def stop(self) -> None:
        await self.aclose()

    @property
    def pid(self) -> None:
        """None: its process is somebody else's."""

    @property
    def last_lines(self) -> Sequence[str]:
        """Nothing: its log is somebody else's."""
        return ()

    async def died(self) -> str:
        """Wait for ever: that it does not answer is all that can be known of it."""
        await asyncio.Event().wait()
        raise AssertionError  # nobody sets that event

    @property
    def can_sleep(self) -> bool:
        return False

    async def sleep(self) -> None:
        raise EngineError(f"{self.name} runs elsewhere and cannot be put to sleep")

    async def wake(self) -> None:
        raise EngineError(f"{self.name} runs elsewhere and cannot be woken")

    async def probe(self) -> EngineFacts:
        """Ask the server what it is, and remember that as ``facts``.

        Raises:
            EngineError: it does not answer as it should, or has no such model.
        """
        models = (await self._server.json("GET", f"{self._base}/models")).get("data") or []
        found = [m for m in models if isinstance(m, dict) and m.get("id") == self._model]
        if models and not found:
            known = ", ".join(str(m.get("id")) for m in models if isinstance(m, dict))
            raise EngineError(
                f"{self.name}: the server has no model {self._model!r}; it has {known}: set "
                "remote_name",
                code="not_served",
            )
        model: dict[str, Any] = found[0] if found else {}
        version = await self._version()
        is_vllm = bool(version) and model.get("owned_by") == "vllm"
        self._facts = replace(
            self._facts,
            max_model_len=int(model.get("max_model_len") or self._facts.max_model_len),
            version=version,
            block_size=await self._block_size() if is_vllm else 0,
            turns=await self._turn_rules(),
        )
        self._speak(wire.Dialect(is_vllm=is_vllm, takes_priority=is_vllm))
        return self._facts

    async def healthy(self) -> bool:
        """Whether ``/health`` says so now; only a look, nothing may be decided upon it."""
        with suppress(FusionError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._server.text("GET", f"{self._root}/health")
                return True
        return False

    async def says_dead(self) -> bool:
        """Whether ``/health`` answers 503: vLLM's word for an engine core that has died."""
        with suppress(FusionError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                try:
                    await self._server.text("GET", f"{self._root}/health")
                except OverloadedError:
                    return True
        return False

    async def ask(self, method: str, route: str) -> Mapping[str, object]:
        """Call a route beside the API and return the object that it answers."""
        return await self._server.json(method, f"{self._root}{route}")

    async def stats(self) -> EngineStats:
        return vllm_metrics.parse_stats(
            self.name, await self._server.text("GET", f"{self._root}/metrics")
        )

    async def count_tokens(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """Count with the server's own chat template.

        Raises:
            EngineError: code ``count_unsupported`` where it has no ``/tokenize``.
        """
        return await self._count(turns.shape(messages, self._facts.turns), tools)

    async def _turn_rules(self) -> turns.TurnRules:
        """Find out what the chat template takes; where nothing can be counted, all is assumed."""
        refused: dict[str, bool] = {}
        try:
            await self._count(turns.PLAIN, None)
            for rule, conversation in turns.PROBES.items():
                try:
                    await self._count(conversation, None)
                except RequestError:
                    refused[rule] = False
        except (EngineError, RequestError):
            return turns.TurnRules()
        return turns.TurnRules(**refused)

    async def _count(self, messages: Sequence[Message], tools: Tools | None) -> int:
        body: dict[str, object] = {"model": self._model, "messages": wire.message_list(messages)}
        if tools is not None:
            body["tools"] = wire.tool_list(tools)
        try:
            answer = await self._server.json("POST", f"{self._root}/tokenize", body)
        except EngineError as error:
            if error.code != "not_served":
                raise
            raise EngineError(
                f"{self.name} cannot count tokens: its server has no /tokenize",
                code="count_unsupported",
            ) from error
        if not isinstance(answer.get("count"), int):
            raise wire.malformed(self.name, "a token count without a count")
        return int(answer["count"])

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """Stream the answer; see Engine. Closing it closes the connection, so the server aborts."""
        prompt = replace(prompt, messages=turns.shape(prompt.messages, self._facts.turns))
        body = wire.request_body(self._model, prompt, self._dialect)
        stop = prompt.sampling.stop if wire.keeps_stop_words(prompt, self._dialect) else ()
        reader = ChunkReader(self.name, with_logprobs=prompt.logprobs is not None, stop=stop)
        url = f"{self._base}/{'chat/completions' if prompt.raw is None else 'completions'}"
        async with aclosing(self._server.events(url, body)) as events:
            async for data in events:
                if delta := reader.read(data):
                    yield delta
                if reader.is_done:
                    break
        yield reader.last()

    def _speak(self, dialect: wire.Dialect) -> None:
        self._dialect = dialect
        self._facts = replace(self._facts, supports_priority=dialect.takes_priority)

    async def _generate_one_token(self) -> None:
        """Hear a token, in the richest dialect that the server takes."""
        *richer, plainest = self._dialect.plainer()
        for dialect in richer:
            self._speak(dialect)
            with suppress(RequestError):
                await self._exhaust(_PROBE)
                return
        self._speak(plainest)
        await self._exhaust(_PROBE)

    async def _exhaust(self, prompt: Prompt) -> None:
        async with aclosing(self.generate(prompt)) as deltas:
            async for _ in deltas:
                pass

    async def _version(self) -> str:
        page = await self._page("/version")
        with suppress(EngineError):
            return str(wire.json_object(self.name, page).get("version") or "")
        return ""  # only vLLM has it

    async def _block_size(self) -> int:
        # Whatever stands before an engine may keep its figures back.
        return vllm_metrics.parse_block_size(await self._page("/metrics"))

    async def _page(self, route: str) -> str:
        """Return an answer, empty where the server has none; being away is an error still."""
        try:
            return await self._server.text("GET", f"{self._root}{route}")
        except (EngineUnavailableError, EngineTimeoutError):
            raise
        except (EngineError, RequestError):
            return ""
