"""A TCP door to an engine's unix socket, for peers that speak plain HTTP; caps and counts calls.

One request per connection. What the engine answers passes as it is; only its figures are noted.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from benches.peers_meter import Counts

_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_FRAMING = re.compile(rb"^(?:content-length|connection):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_CUT = re.compile(rb'"finish_reason": *"length"')
_TOKENS = (
    re.compile(rb'"prompt_tokens": *(\d+)'),
    re.compile(rb'"cached_tokens": *(\d+)'),
    re.compile(rb'"completion_tokens": *(\d+)'),
)
_PIECE = 1 << 16


@dataclass(slots=True)
class Call:
    """One call that passes or has passed.

    Attributes:
        asked: Its own token limit, None without one.
        prompt: Its last message.
        samples: Answers asked for.
        answer: The engine's, as it came.
    """

    asked: int | None
    prompt: str
    samples: int
    answer: bytes = b""

    @property
    def cuts(self) -> int:
        """Answers that ended at the limit."""
        return len(_CUT.findall(self.answer))

    @property
    def counts(self) -> Counts:
        """Tokens by the engine's own usage; all samples of a call share one count of its prompt."""
        prompt, cached, completion = (
            float((pattern.findall(self.answer) or [b"0"])[-1]) for pattern in _TOKENS
        )
        return Counts(prompt, cached, completion, self.samples)


@dataclass(slots=True)
class Relay:
    """Leads chat requests to one engine.

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
        engine, to_engine = await asyncio.open_unix_connection(self.socket)
        with closing(to_engine):
            to_engine.write(cap_request(head, body, self.cap))
            call = read_call(body)
            self.calls.append(call)
            while piece := await engine.read(_PIECE):
                call.answer += piece  # before it is passed on: who has read the end finds it whole
                writer.write(piece)
                await writer.drain()


def cap_request(head: bytes, body: bytes, cap: int) -> bytes:
    """Return the request with at most ``cap`` tokens asked for, on a connection for it alone."""
    fields = json.loads(body)
    fields["max_tokens"] = min(fields.get("max_tokens") or cap, cap)
    body = json.dumps(fields).encode()
    framing = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return _FRAMING.sub(b"", head).removesuffix(b"\r\n") + framing + body


def read_call(body: bytes) -> Call:
    """Return what is noted of a chat request."""
    fields = json.loads(body)
    return Call(fields.get("max_tokens"), fields["messages"][-1]["content"], fields.get("n") or 1)
