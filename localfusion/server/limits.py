"""What a body may be and how many runs go at once. Decided before the first byte."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from localfusion.errors import BodyTooLargeError, OverloadedError
from localfusion.pace import Pace
from localfusion.server.body import parse_body
from localfusion.server.envelope import (
    ClientGoneError,
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

_JSON_TYPE = re.compile(r"application/json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?", re.IGNORECASE)


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
