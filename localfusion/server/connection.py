"""A connection: what uvicorn does not limit, and what ASGI hides.

Uvicorn with httptools waits for ever for a first request or the rest of its headers, and takes
headers of any size. This leans on its protocol class: the minor range is pinned in pyproject.toml.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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
        head_seconds: Until all headers have come, from the connection or a request's first byte;
            until a TLS handshake is done, too.
        write_seconds: Until a client has read what waits for it.
        read_ahead: Requests read while an earlier one is answered; then the client has to wait.
        pipelined: Requests that may wait behind another; a client that sends more is cut.
        discard: Bytes that are read and dropped behind a refusal, so that a client which still
            writes sees it.
        discard_seconds: For how long.
    """

    connections: int = 1024
    url: int = 8 << 10
    head: int = 32 << 10
    headers: int = 100
    head_seconds: float = 10.0
    write_seconds: float = 30.0
    read_ahead: int = 16
    pipelined: int = 1024
    discard: int = 16 << 20
    discard_seconds: float = 2.0


USUAL = ConnectionLimits()


class _RefusedError(Exception):
    """Ends the parser's work; what is sent stands in the connection."""


class Connection(HttpToolsProtocol):
    """Uvicorn's connection with limits before the first byte of a request's body.

    Args:
        limits: Given with ``functools.partial``, as the next; the rest is uvicorn's.
        refused: Told the code of each refusal that the application never sees.
    """

    def __init__(
        self,
        *args: object,
        limits: ConnectionLimits,
        refused: Callable[[str], None],
        **named: object,
    ) -> None:
        super().__init__(*args, **named)  # type: ignore[arg-type]  # uvicorn's own, passed on
        self._limits = limits
        self._refused = refused
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: FusionError | None = None
        self._is_in_head = False
        self._held = 0
        self._head = 0
        self._dropped = 0
        self._stall: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn takes what it gets
        if len(self.connections) > self._limits.connections:
            self.transport.abort()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)
        if self._running is not None:  # uvicorn tells the newest request alone, which may wait
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._discard(len(data))
            return
        self._held += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._refusal is not None:
            return
        # What does not end, a header or a trailer, is seen by nobody else.
        if self._held > self._limits.head + self._limits.url:
            self._refusal = _too_large(self._limits)
            self.send_400_response("")
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._timer is None and (self._is_in_head or is_idle):
            self._wait_for_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head, self._held = True, 0, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.url:
            self._refuse(
                UrlTooLongError(f"the address is longer than {self._limits.url} bytes; shorten it")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # else a trailer, which must not pass for a header
            super().on_header(name, value)
        self._head += len(name) + len(value) + 4
        if self._head > self._limits.head or len(self.headers) > self._limits.headers:
            self._refuse(_too_large(self._limits))

    def on_headers_complete(self) -> None:
        self._is_in_head, self._held = False, 0
        self._stop_waiting()
        self.scope["state"]["target"] = self.url
        super().on_headers_complete()
        if len(self.pipeline) > self._limits.pipelined:
            self._refuse(_too_large(self._limits))
        if len(self.pipeline) < self._limits.read_ahead:
            self.flow.resume_reading()  # else nobody notices that the client has left

    def on_body(self, body: bytes) -> None:
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        # One that closes stays watched until all is written.
        if self._stall is not None and not self.transport.is_closing():
            self._stall.cancel()
            self._stall = None

    def _watch_reader(self) -> None:
        """Cut a client that does not read; closing would wait for it for ever."""
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take: by its own text, or ours where we stopped it."""
        cycle = self._running
        is_answering = cycle is not None and not cycle.response_complete
        if cycle is not None and is_answering and not cycle.response_started and not self.pipeline:
            cycle.disconnected, is_answering = True, False  # its body is what cannot be parsed
            cycle.message_event.set()
        if is_answering:
            self.transport.abort()  # another answer is being written on this connection
        elif self._refusal is None:
            super().send_400_response(msg)
        else:
            self._refused(self._refusal.code)
            self._stop_waiting()
            self.transport.write(_refused(self._refusal))
            # Closed at once, a client that still writes would get a reset in its answer's place.
            self._timer = self.loop.call_later(self._limits.discard_seconds, self._close)
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _discard(self, count: int) -> None:
        self._dropped += count
        if self._dropped > self._limits.discard:
            self.transport.abort()

    def _close(self) -> None:
        self._timer = None
        self.transport.close()
        self._watch_reader()

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
