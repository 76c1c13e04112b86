"""A server on a unix socket that sends exactly the bytes of the test, right or wrong."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DONE = "[DONE]"
FINISH = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; ``body`` is None where there was none."""

    path: str
    headers: Mapping[str, str]
    body: Any


Answer = bytes | Callable[[Asked], bytes]


@dataclass(slots=True)
class RawServer:
    """Answers by path, anything else with 404.

    Attributes:
        answers: Path -> whole answers, one per request, the last one stays; or what makes them.
        holds: Connections stay open after the answer until the client closes them.
        is_left: Set when a client has closed its connection.
        most: Most connections at once.
    """

    uds: Path
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    holds: bool = False
    asked: list[Asked] = field(default_factory=list)
    is_left: asyncio.Event = field(default_factory=asyncio.Event)
    most: int = 0
    _open: int = 0

    def answer(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def stream(self, *events: object) -> None:
        """Answer chat completions with these events: text as it is, the rest as JSON."""
        self.answer("/v1/chat/completions", event_stream(*events))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                asked = await _read_request(reader)
                self.asked.append(asked)
                answers = self.answers.get(asked.path) or [response(404, "{}")]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                writer.write(answer(asked) if callable(answer) else answer)
                await writer.drain()
                if self.holds:
                    await reader.read()
                    self.is_left.set()
        finally:
            self._open -= 1
            writer.close()


@asynccontextmanager
async def raw_server(uds: Path) -> AsyncGenerator[RawServer, None]:
    raw = RawServer(uds)
    async with await asyncio.start_unix_server(raw.serve, uds):
        yield raw


def response(status: int, body: str, *headers: str, kind: str = "application/json") -> bytes:
    """Return a whole HTTP answer that ends with its connection."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body.encode()


def event_stream(*events: object) -> bytes:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {text}\n\n" for text in texts)
    return response(200, body, kind="text/event-stream")


def says(text: str, **more: object) -> dict[str, object]:
    """Return a chunk with some text."""
    return {"choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": None}]}


def models(*entries: Mapping[str, object]) -> bytes:
    return response(200, json.dumps({"object": "list", "data": list(entries)}))


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    pairs: Sequence[tuple[str, str, str]] = [line.partition(": ") for line in lines if line]
    headers = {name.lower(): value for name, _, value in pairs}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(first.split()[1], headers, json.loads(raw) if raw else None)
