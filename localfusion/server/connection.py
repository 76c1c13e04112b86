"""A connection: what uvicorn does not limit, and what ASGI hides.

Uvicorn with httptools waits for ever for a first request or the rest of its headers, and takes
headers of any size. This leans on its protocol class: the minor range is pinned in pyproject.toml.
"""

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from localfusion.errors import FusionError
from localfusion.server.envelope import HeadersTooLargeError, UrlTooLongError, error_object


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may do.

    Attributes:
        connections: At once; a further one is closed.
        url: Bytes of the target.
        head: Bytes of all headers.
        headers: How many.
        head_seconds: Until all headers have come, from the connection or a request's first byte.
    """

    connections: int = 1024
    url: int = 8 << 10
    head: int = 32 << 10
    headers: int = 100
    head_seconds: float = 10.0


USUAL = ConnectionLimits()


class _RefusedError(Exception):
    """Ends the parser's work; what is sent stands in the connection."""


class Connection(HttpToolsProtocol):
    """Uvicorn's connection with limits before the first byte of a request's body.

    Args:
        limits: Given with ``functools.partial``; the rest is uvicorn's.
    """

    def __init__(self, *args: object, limits: ConnectionLimits, **named: object) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]  # uvicorn's own, passed on
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: FusionError | None = None
        self._is_in_head = False
        self._received = 0
        self._head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn takes what it gets
        if len(self.connections) > self._limits.connections:
            self.transport.abort()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        # A header that does not end is seen by nobody else.
        self._received = self._received + len(data) if self._is_in_head else 0
        if self._received > self._limits.head + self._limits.url:
            self._refusal = _too_large(self._limits)
            self.send_400_response("")
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._timer is None and (self._is_in_head or is_idle):
            self._wait_for_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.url:
            self._refuse(
                UrlTooLongError(f"the address is longer than {self._limits.url} bytes; shorten it")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head += len(name) + len(value) + 4
        if self._head > self._limits.head or len(self.headers) > self._limits.headers:
            self._refuse(_too_large(self._limits))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_waiting()
        self.scope["state"]["target"] = self.url
        self.scope["state"]["abort"] = self.transport.abort
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take: by its own text, or ours where we stopped it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # another answer is being written on this connection
        elif self._refusal is None:
            super().send_400_response(msg)
        else:
            self.transport.write(_refused(self._refusal))
            self.transport.close()

    def _refuse(self, refusal: FusionError) -> None:
        self._refusal = refusal
        raise _RefusedError

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self._limits.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _too_large(limits: ConnectionLimits) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"the headers have more than {limits.headers} lines or {limits.head} bytes; send fewer"
    )


def _refused(error: FusionError) -> bytes:
    body = json.dumps({"error": error_object(error, stage="parse")}).encode()
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
