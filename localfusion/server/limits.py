"""How a body comes in: its type, its size, its pace."""

import asyncio
import hashlib
import re

from fastapi import Request

from localfusion.errors import BodyTooLargeError
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
    """Read a JSON object of at most ``limit`` bytes; its digest is noted for idempotency keys.

    Raises:
        FusionError: as ``read_body`` and ``parse_body`` say.
    """
    raw = await read_body(request, limit)
    if "idempotency-key" in request.headers:
        request.scope["state"]["digest"] = hashlib.sha256(raw).hexdigest()
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
