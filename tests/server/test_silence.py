"""Silence, slow panels and stalled readers, to the second, in virtual time and in process."""

import asyncio
import json
from collections.abc import MutableMapping
from dataclasses import dataclass, field

import pytest
from starlette.types import ASGIApp, Message

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.server.app import create_app
from tests.server.system import CHAT, SimGateway, body, gateway

pytestmark = pytest.mark.virtual_time


@dataclass
class Connection:
    """One request as ASGI sees it; every message is kept with its time.

    Attributes:
        pieces: Of the body, with the seconds to wait before each.
        leaves_at: When the client closes the connection.
        reads: Messages that the client takes; then it stalls.
        app: Shared with other connections; None: one of its own.
    """

    system: SimGateway
    request: dict[str, object]
    leaves_at: float = 1e6
    reads: float = float("inf")
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    sent: list[tuple[float, MutableMapping[str, object]]] = field(default_factory=list)
    app: ASGIApp | None = None

    async def run(self) -> "Connection":
        self.pieces = self.pieces or [(0, json.dumps(self.request).encode())]
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": CHAT,
            "query_string": b"",
            "headers": headers,
        }
        await (self.app or create_app(self.system))(scope, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        if self.pieces:
            delay, piece = self.pieces.pop(0)
            await asyncio.sleep(delay)
            return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}
        await asyncio.sleep(self.leaves_at - self.now)
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if len(self.sent) >= self.reads:
            await asyncio.Event().wait()
        self.sent.append((self.now, message))

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def start(self) -> tuple[float, int, dict[str, str]]:
        at, message = self.sent[0]
        headers = message["headers"]
        assert isinstance(headers, list)
        assert isinstance(message["status"], int)
        return at, message["status"], {k.decode(): v.decode() for k, v in headers}

    @property
    def comments(self) -> list[tuple[float, str]]:
        frames = [(at, str(message.get("body", b""), "utf-8")) for at, message in self.sent]  # type: ignore[call-overload]  # bytes
        return [(at, frame.strip()) for at, frame in frames if frame.startswith(":")]


def ask(system: SimGateway, **options: float) -> Connection:
    return Connection(system, body(stream=True), **options)  # type: ignore[arg-type]  # two floats


async def test_headers_wait_for_the_panel_and_then_tell_the_status() -> None:
    system = gateway(c=SimEngine(failure=SimFailure("refuse")), b=SimEngine(delay=6))

    connection = await ask(system).run()

    at, status, headers = connection.start
    assert (at, status) == (6, 200)
    assert headers["x-localfusion-status"] == "degraded"
    assert connection.comments == []


async def test_silence_is_broken_with_phase_and_counts() -> None:
    system = gateway(preset={"quorum": 3}, c=SimEngine(delay=25), d=SimEngine(delay=12))

    connection = await ask(system).run()

    at, _, headers = connection.start
    assert (at, headers["x-localfusion-status"]) == (10, "pending")
    assert connection.comments == [
        (10, ": localfusion panel 2/3"),
        (20, ": localfusion panel 2/3"),
        (30, ": localfusion analysis"),
        (40, ": localfusion synthesis"),
    ]


async def test_a_busy_panel_is_no_sign_of_life_to_the_client() -> None:
    dripping = SimEngine("word " * 12, failure=SimFailure("drip", seconds=1))

    connection = await ask(gateway(preset={"quorum": 3}, a=dripping)).run()

    assert connection.comments == [(10, ": localfusion panel 2/3")]


async def test_keep_alive_is_the_settings() -> None:
    system = gateway(server={"keepalive": "2s"}, preset={"quorum": 3}, c=SimEngine(delay=5))

    connection = await ask(system).run()

    assert [at for at, _ in connection.comments] == [2, 4]


async def test_run_of_a_reader_that_stalls_ends_with_its_connection() -> None:
    system = gateway(d=SimEngine("word " * 1900))

    connection = await ask(system, reads=4, leaves_at=30).run()

    assert connection.now == 30
    assert len(connection.sent) == 4
    assert system.aborts == {"d": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_departure_ends_the_run_at_once(stream: bool) -> None:
    system = gateway(d=SimEngine(delay=100))
    connection = Connection(system, body(stream=stream), leaves_at=3)

    await connection.run()

    assert connection.now == 3
    assert system.aborts == {"d": 1}


async def test_body_that_stalls_is_refused() -> None:
    connection = Connection(gateway(), {}, pieces=[(0, b"{"), (11, b"}")])

    await connection.run()

    at, status, headers = connection.start
    assert (at, status) == (10, 408)
    assert headers["connection"] == "close"


async def test_body_that_drips_is_refused() -> None:
    connection = Connection(gateway(), {}, pieces=[(9, b" ")] * 10)

    await connection.run()

    assert connection.start[:2] == (60, 408)


@pytest.mark.malformed("M44")
async def test_client_that_leaves_the_line_is_forgotten() -> None:
    system = gateway(a=SimEngine("8", delay=20), limits={"runs": 1, "queued": 1})
    app = create_app(system)

    def ask_one(model: str, **more: float) -> Connection:
        return Connection(system, body(model=model), app=app, **more)  # type: ignore[arg-type]  # a float

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_one("a").run())
        await asyncio.sleep(1)
        leaving = group.create_task(ask_one("b", leaves_at=5).run())
        await asyncio.sleep(1)
        refused = await ask_one("c").run()
        await asyncio.sleep(5)
        waiting = group.create_task(ask_one("d").run())

    assert leaving.result().sent == []
    assert refused.start[1] == 503
    assert (waiting.result().start[0], waiting.result().start[1]) == (20, 200)
    assert [len(system.engines[name].calls) for name in "abcd"] == [1, 0, 0, 1]
