"""HTTP to one engine: bounded in time and size, and every failure is one of ours."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx2

from localfusion.engines import openai_wire as wire
from localfusion.errors import EngineError, EngineTimeoutError, EngineUnavailableError

T = TypeVar("T")

CONNECT_SECONDS = 2.0
MAX_EVENT = 1 << 20
MAX_BODY = 4 << 20
"""Bytes of one event of a stream, and of an answer that is none."""

HTTP_ERRORS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.CookieConflict,
    httpx2.StreamError,
)
"""The roots of all that httpx2 raises."""


class Connection:
    """The way to one server; it queues nothing and repeats nothing.

    Args:
        name: The engine's, for messages.
        uds: Unix socket to connect to, whatever the URL's host is; None: the host.
        headers: Of every request.
        idle_timeout: Seconds of silence after which a request has failed.
    """

    def __init__(
        self, name: str, *, uds: Path | None, headers: Mapping[str, str], idle_timeout: float
    ) -> None:
        self._name = name
        self._uds = uds
        self._headers = headers
        self._idle_timeout = idle_timeout
        self._client = self._new_client()

    def open(self) -> None:
        """Make it usable again after ``aclose()``; else do nothing."""
        if self._client.is_closed:
            self._client = self._new_client()

    async def aclose(self) -> None:
        """Close all connections, which aborts what runs on them; then every request is refused."""
        await self._client.aclose()

    async def text(self, method: str, url: str, body: Mapping[str, object] | None = None) -> str:
        """Return the body of an answer whose status is 200.

        Raises:
            FusionError: there is none.
        """
        with self._translating():
            response = await self._send(method, url, body)
            try:
                return await self._bounded(_read(response, self._name))
            finally:
                await response.aclose()

    async def json(
        self, method: str, url: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Return the object that such an answer is."""
        return wire.json_object(self._name, await self.text(method, url, body))

    async def events(self, url: str, body: Mapping[str, object]) -> AsyncGenerator[str, None]:
        """Stream the data of the events that answer a POST."""
        with self._translating():
            response = await self._send("POST", url, body)
            try:
                source = aiter(httpx2.EventSource(response, MAX_EVENT))
                # It is a generator, though declared as a mere iterator.
                generator = cast(AsyncGenerator[httpx2.ServerSentEvent, None], source)
                async with aclosing(generator) as events:
                    while event := await self._bounded(anext(events, None)):
                        yield event.data
            finally:
                await response.aclose()

    def _new_client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=None if self._uds is None else str(self._uds),
                trust_env=False,
                # The engine queues; a limit here would hide requests from its scheduler.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
            ),
            headers=dict(self._headers),
            # Silence is measured on the loop's clock, by _bounded.
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
        )

    async def _send(
        self, method: str, url: str, body: Mapping[str, object] | None = None
    ) -> httpx2.Response:
        """Return a response whose status is 200 and whose body is still to be read."""
        if self._client.is_closed:
            raise EngineUnavailableError(f"{self._name} is stopped; start it first")
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
            text = await self._bounded(_read(response, self._name))
        finally:
            await response.aclose()
        retry_after = response.headers.get("retry-after")
        raise wire.refusal(self._name, response.status_code, text, retry_after)

    async def _bounded(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._idle_timeout):
                return await work
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"{self._name} was silent for {self._idle_timeout:g} s; it is stuck or has too "
                "much to do"
            ) from error

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except HTTP_ERRORS as error:
            raise translate(self._name, error) from error


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


async def _read(response: httpx2.Response, engine: str) -> str:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise wire.malformed(engine, f"more than {MAX_BODY} bytes")
    return body.decode(errors="replace")
