"""A TCP door to an engine's unix socket, for peers that speak plain HTTP; caps and counts calls.

One request per connection. What the engine answers passes unread, but for how often it was cut.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_FRAMING = re.compile(rb"^(?:content-length|connection):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_CUT = re.compile(rb'"finish_reason": *"length"')
_PIECE = 1 << 16


@dataclass(slots=True)
class Call:
    """One call that passes or has passed.

    Attributes:
        asked: Its own token limit, None without one.
        prompt: Its last message.
        samples: Answers asked for.
        cuts: Answers that ended at the limit, so far.
    """

    asked: int | None
    prompt: str
    samples: int
    cuts: int = 0


@dataclass(slots=True)
class Relay:
    """Leads to one engine.

    Attributes:
        cap: Most tokens of any answer, whatever a call asks for.
        calls: What passed so far, for the caller to read and to clear.
    """

    socket: Path
    cap: int
    calls: list[Call] = field(default_factory=list)

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[str, None]:
        """Yield the URL up to and including /v1; closed at the end."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                await self._forward(head, body, writer)
            except (asyncio.IncompleteReadError, OSError):
                pass  # one of the two has gone, and the other is told by the closed connection

    async def _forward(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        call = read_call(body) if body else Call(None, "", 0)
        if body:
            self.calls.append(call)
        engine, to_engine = await asyncio.open_unix_connection(self.socket)
        answer = b""
        with closing(to_engine):
            to_engine.write(cap_request(head, body, self.cap))
            while piece := await engine.read(_PIECE):
                answer += piece
                # Counted before it is passed on: who has read the end finds the call complete.
                call.cuts = len(_CUT.findall(answer))
                writer.write(piece)
                await writer.drain()


def cap_request(head: bytes, body: bytes, cap: int) -> bytes:
    """Return the request with at most ``cap`` tokens asked for, on a connection for it alone."""
    if body:
        fields = json.loads(body)
        fields["max_tokens"] = min(fields.get("max_tokens") or cap, cap)
        body = json.dumps(fields).encode()
    framing = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return _FRAMING.sub(b"", head).removesuffix(b"\r\n") + framing + body


def read_call(body: bytes) -> Call:
    """Return what is noted of a chat request."""
    fields = json.loads(body)
    return Call(fields.get("max_tokens"), fields["messages"][-1]["content"], fields.get("n") or 1)
