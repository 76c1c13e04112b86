"""Who may call, what a body may be, how many runs go at once. Decided before the first byte."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.types import Scope

from localfusion.errors import BodyTooLargeError, OverloadedError
from localfusion.pace import Pace
from localfusion.server.body import parse_body
from localfusion.server.envelope import (
    ClientGoneError,
    HostNotAllowedError,
    OriginNotAllowedError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)

BODY_GAP = 10.0
"""Seconds between two pieces of a body."""
BODY_SECONDS = 60.0
"""Seconds for a whole body."""
OFF_LOOP_BYTES = 256 << 10
"""Larger bodies are parsed in a thread, so that other streams go on."""
MAX_DISCARDED = 32 << 20
"""Bytes over the limit that are read and dropped: a client that still writes when the connection
closes never sees the 413."""

_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
_ABSOLUTE_TARGET = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_JSON_TYPE = re.compile(r"application/json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?", re.IGNORECASE)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def check_source(scope: Scope) -> None:
    """Refuse what a web page elsewhere, or a name that someone pointed at us, makes a browser send.

    Raises:
        HostNotAllowedError: any Host value, or the target's own, is not a loopback name (DNS
            rebinding, CVE-2024-28224).
        OriginNotAllowedError: another site's page posts to us.
    """
    hosts = _header(scope, b"host")
    target = _ABSOLUTE_TARGET.match(scope.get("state", {}).get("target", b"").decode("latin-1"))
    named = [*hosts, *([target[1]] if target else [])]
    if len(hosts) != 1 or not all(_HOST.fullmatch(host) for host in named):
        raise HostNotAllowedError(
            "the Host header names no address of this server; use localhost, 127.0.0.1 or [::1]"
        )
    if scope["method"] in _SAFE_METHODS:
        return
    own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
    sites = _header(scope, b"sec-fetch-site")
    if any(origin.lower() not in own for origin in _header(scope, b"origin")) or any(
        site not in ("same-origin", "none") for site in sites
    ):
        raise OriginNotAllowedError(
            "a page of another site sent this request; call the server from a program"
        )


async def read_json(request: Request, limit: int) -> dict[str, object]:
    """Read a JSON object of at most ``limit`` bytes.

    Raises:
        FusionError: as ``read_body`` and ``parse_body`` say.
    """
    raw = await read_body(request, limit)
    if len(raw) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(parse_body, raw)
    return parse_body(raw)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a JSON body of at most ``limit`` bytes.

    Raises:
        UnsupportedMediaTypeError: it is declared as anything but plain JSON in UTF-8.
        BodyTooLargeError: what exceeds the limit is never kept.
        RequestTimeoutError: it stopped coming.
        ClientGoneError: the client left in the middle.
    """
    types = request.headers.getlist("content-type")
    encodings = request.headers.getlist("content-encoding")
    if len(types) != 1 or not _JSON_TYPE.fullmatch(types[0]) or encodings not in ([], ["identity"]):
        raise UnsupportedMediaTypeError(
            "the body must be uncompressed JSON in UTF-8; send the header "
            "content-type: application/json"
        )
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit + MAX_DISCARDED:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _receive_all(request, limit)
    except TimeoutError as error:
        raise RequestTimeoutError("the body stopped coming; send it without a pause") from error


async def _receive_all(request: Request, limit: int) -> bytes:
    body = bytearray()
    size = 0
    while True:
        async with asyncio.timeout(BODY_GAP):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            body += piece
        is_last = not message.get("more_body", False)
        if size > limit + (0 if is_last else MAX_DISCARDED):
            raise _too_large(limit)
        if is_last:
            return bytes(body)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"the body is larger than {limit} bytes; shorten it, or raise limits.body_bytes"
    )


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


class Runs:
    """The runs that go now, at most ``limit``; waits for their end or aborts them.

    Attributes:
        aborted: Set when every run has to end now.
    """

    def __init__(self, limit: int) -> None:
        self.aborted = asyncio.Event()
        self._limit = limit
        self._running = 0
        self._pace = Pace()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def admit(self, *, is_draining: bool) -> Iterator[None]:
        """Count a run while it goes.

        Raises:
            OverloadedError: the server stops, or is full.
        """
        if is_draining:
            raise OverloadedError(
                "the server is stopping; ask again when it is back", code="draining"
            )
        if self._running >= self._limit:
            wait = self._pace.wait(self._limit)
            raise OverloadedError(
                f"{self._limit} runs are going, as many as limits.runs allows; "
                f"ask again in {wait:.0f} s",
                code="queue_full",
                retry_after=wait,
            )
        began = time.monotonic()
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            self._pace.note(time.monotonic() - began)
            if self._running == 0:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no run goes."""
        await self._idle.wait()
