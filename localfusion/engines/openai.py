"""OpenAIEngine: any OpenAI-compatible server, behind a URL or a unix socket. Starts no process.

Streams always, never retries, sends fields by allow-list, and turns every failure into one of ours.
HTTP 200 proves nothing: only a finish_reason and no error event make an answer.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx2

from localfusion.engines import openai_wire as wire
from localfusion.engines.base import (
    MISCONFIGURED,
    EngineFacts,
    EngineStats,
    Phase,
    PhaseChange,
    PhaseListener,
)
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
from localfusion.types import Delta, Message, Prompt, SamplingParams

T = TypeVar("T")

CONNECT_SECONDS = 2.0
DEFAULT_MAX_MODEL_LEN = 8192
"""Of a server that does not tell its context length; give ``facts`` to say better."""
MAX_EVENT = 1 << 20
MAX_BODY = 4 << 20
"""Bytes of one event of a stream, and of an answer that is none."""

# Failures that only a change of models.yaml mends, or of the server.
_LASTING = frozenset({"engine_refused", "not_served"})

# Marks the calls of a fusion, so that a fusion server among the panel can refuse to nest.
_HEADERS = {"x-openrouter-fusion-depth": "1", "user-agent": "localfusion"}
_PROBE = Prompt((Message("user", "Hi"),), SamplingParams(temperature=0, max_tokens=1), priority=1)


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
        self._uds = uds
        self._headers = _HEADERS | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._idle_timeout = idle_timeout
        self._facts = facts or EngineFacts(DEFAULT_MAX_MODEL_LEN)
        try:
            httpx2.URL(self._base)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"base_url of {name}: {error}") from error
        self._is_ready = False
        self._client = self._new_client()

    def open(self) -> None:
        """Make it usable again after ``aclose()``; else do nothing."""
        if self._client.is_closed:
            self._client = self._new_client()

    async def aclose(self) -> None:
        """Close all connections, which aborts what runs on them; then every call is refused."""
        self._is_ready = False
        await self._client.aclose()

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
        models = (await self._json("GET", f"{self._base}/models")).get("data") or []
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
        self._facts = EngineFacts(
            max_model_len=int(model.get("max_model_len") or self._facts.max_model_len),
            version=version,
            supports_priority=bool(version) and model.get("owned_by") == "vllm",
        )
        return self._facts

    async def healthy(self) -> bool:
        """Whether ``/health`` says so now; only a look, nothing may be decided upon it."""
        with suppress(FusionError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._text("GET", f"{self._root}/health")
                return True
        return False

    async def says_dead(self) -> bool:
        """Whether ``/health`` answers 503: vLLM's word for an engine core that has died."""
        with suppress(FusionError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                try:
                    await self._text("GET", f"{self._root}/health")
                except OverloadedError:
                    return True
        return False

    async def ask(self, method: str, route: str) -> Mapping[str, object]:
        """Call a route beside the API and return the object that it answers."""
        return await self._json(method, f"{self._root}{route}")

    async def stats(self) -> EngineStats:
        return wire.parse_stats(self.name, await self._text("GET", f"{self._root}/metrics"))

    async def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count with the server's own chat template.

        Raises:
            EngineError: code ``count_unsupported`` where it has no ``/tokenize``.
        """
        body = {"model": self._model, "messages": wire.message_list(messages)}
        try:
            answer = await self._json("POST", f"{self._root}/tokenize", body)
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
        with_priority = self._facts.supports_priority
        body = wire.request_body(self._model, prompt, with_priority=with_priority)
        reader = wire.ChunkReader(self.name)
        with self._translating():
            response = await self._send("POST", f"{self._base}/chat/completions", body)
            try:
                async with aclosing(_events(response)) as events:
                    while not reader.is_done and (data := await self._next(events)) is not None:
                        if delta := reader.read(data):
                            yield delta
            finally:
                await response.aclose()
        yield reader.last()

    def _new_client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=None if self._uds is None else str(self._uds),
                trust_env=False,
                # The engine queues; a limit here would hide requests from its scheduler.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
            ),
            headers=self._headers,
            # Silence is measured on the loop's clock, by _bounded.
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
        )

    async def _generate_one_token(self) -> None:
        try:
            await self._exhaust(_PROBE)
        except RequestError:
            if not self._facts.supports_priority:
                raise
            # To vLLM a priority may be an error without --scheduling-policy priority.
            self._facts = replace(self._facts, supports_priority=False)
            await self._exhaust(_PROBE)

    async def _exhaust(self, prompt: Prompt) -> None:
        async with aclosing(self.generate(prompt)) as deltas:
            async for _ in deltas:
                pass

    async def _version(self) -> str:
        try:
            answer = await self._json("GET", f"{self._root}/version")
        except (EngineError, RequestError) as error:
            if isinstance(error, (EngineUnavailableError, EngineTimeoutError)):
                raise
            return ""  # only vLLM has it
        return str(answer.get("version") or "")

    async def _json(
        self, method: str, url: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        return wire.json_object(self.name, await self._text(method, url, body))

    async def _text(self, method: str, url: str, body: Mapping[str, object] | None = None) -> str:
        with self._translating():
            response = await self._send(method, url, body)
            try:
                return await self._bounded(_read(response, self.name))
            finally:
                await response.aclose()

    async def _send(
        self, method: str, url: str, body: Mapping[str, object] | None = None
    ) -> httpx2.Response:
        """Return a response whose status is 200 and whose body is still to be read."""
        if self._client.is_closed:
            raise EngineUnavailableError(f"{self.name} is stopped; start it first")
        request = self._client.build_request(
            method,
            url,
            content=None if body is None else json.dumps(body),
            headers={"content-type": "application/json"},
        )
        response = await self._bounded(self._client.send(request, stream=True))
        if response.status_code == httpx2.codes.OK:
            return response
        try:
            text = await self._bounded(_read(response, self.name))
        finally:
            await response.aclose()
        retry_after = response.headers.get("retry-after")
        raise wire.refusal(self.name, response.status_code, text, retry_after)

    async def _next(self, events: AsyncGenerator[str, None]) -> str | None:
        return await self._bounded(anext(events, None))

    async def _bounded(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._idle_timeout):
                return await work
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"{self.name} was silent for {self._idle_timeout:g} s; it is stuck or has too "
                "much to do"
            ) from error

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except HTTP_ERRORS as error:
            raise translate(self.name, error) from error


HTTP_ERRORS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.CookieConflict,
    httpx2.StreamError,
)
"""The roots of all that httpx2 raises."""


def translate(engine: str, error: Exception) -> EngineError:
    """Return our error for one of httpx2's; its own text may name paths and stays out."""
    kind = type(error).__name__
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            return EngineUnavailableError(f"{engine} does not accept connections; is it running?")
        case httpx2.TimeoutException():
            return EngineTimeoutError(f"{engine} took too long ({kind})")
        case httpx2.SSEError():
            return wire.malformed(engine, "no stream of events, or an endless one")
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return EngineError(f"the connection to {engine} broke ({kind})", code="engine_died")
        case _:
            return EngineError(f"{engine} cannot be asked over HTTP ({kind})")


async def _events(response: httpx2.Response) -> AsyncGenerator[str, None]:
    source = aiter(httpx2.EventSource(response, MAX_EVENT))
    # It is a generator, though declared as a mere iterator.
    async with aclosing(cast(AsyncGenerator[httpx2.ServerSentEvent, None], source)) as events:
        async for event in events:
            yield event.data


async def _read(response: httpx2.Response, engine: str) -> str:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise wire.malformed(engine, f"more than {MAX_BODY} bytes")
    return body.decode(errors="replace")
