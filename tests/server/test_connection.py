"""Connections that send too much, too slowly, or what is no HTTP; over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from localfusion.server.connection import USUAL
from tests.server.system import CHAT, Served, body, gateway, served, stalled

IMPATIENT = replace(USUAL, head_seconds=0.2)
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@asynccontextmanager
async def connected(
    server: Served,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(server: Served, *pieces: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    async with connected(server) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), 10)


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, content = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(content)["error"]["code"]


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.malformed("M01")
@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        GET + b"A: b\r\n folded\r\n\r\n",
        GET + b"A: b\rc\r\n\r\n",
        GET + b"A: b\x00c\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: -1\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
async def test_what_is_no_http_is_refused_by_the_parser(request_: bytes) -> None:
    async with served() as server:
        answer = await exchange(server, request_)
        health = await server.http.get("/health")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert health.status_code == 200


@pytest.mark.malformed("M02")
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (GET + b"A: " + b"x" * (40 << 10) + b"\r\n\r\n", (431, "headers_too_large")),
        (
            GET + b"".join(b"A%d: b\r\n" % n for n in range(101)) + b"\r\n",
            (431, "headers_too_large"),
        ),
        (
            b"GET /" + b"x" * (9 << 10) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            (414, "url_too_long"),
        ),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 1000])
async def test_large_head_is_refused_in_one_piece_or_many(
    head: bytes, expected: tuple[int, str], size: int
) -> None:
    async with served() as server:
        pieces = [head[at : at + size] for at in range(0, len(head), size)]
        answer = await exchange(server, *pieces)

    assert refusal(answer) == expected


@pytest.mark.malformed("M02")
async def test_header_without_end_is_cut_before_it_fills_the_memory() -> None:
    async with served() as server, connected(server) as (reader, writer):
        writer.write(GET + b"A: ")
        sent = 0
        while not reader.at_eof() and sent < 64 << 20:
            try:
                writer.write(b"x" * 65536)
                await writer.drain()
            except ConnectionError:
                break
            sent += 65536

    assert sent < 32 << 20


@pytest.mark.malformed("M02")
@pytest.mark.parametrize("size", [8 << 20, 15 << 20])
async def test_client_that_still_writes_its_large_head_gets_the_refusal(size: int) -> None:
    async with served() as server, connected(server) as (reader, writer):
        writer.write(GET + b"A: " + b"x" * size + b"\r\n\r\n")
        await writer.drain()  # all of it, before a word of the answer is read
        answer = await reader.read()

    assert refusal(answer) == (431, "headers_too_large")


async def test_head_within_its_limits_is_answered() -> None:
    head = GET + b"".join(b"A%d: %s\r\n" % (n, b"x" * 300) for n in range(98)) + b"\r\n"
    async with served() as server, connected(server) as (reader, writer):
        writer.write(head)
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 200 ")


@pytest.mark.threat(11)
@pytest.mark.malformed("M03")
@pytest.mark.parametrize("start", [b"", b"\r\n", b"GET /health HTT", GET, POST + b"A: b"])
async def test_connection_that_stalls_before_its_headers_end_is_closed(start: bytes) -> None:
    async with served(connections=IMPATIENT) as server:
        answer = await exchange(server, start)

    assert answer == b""


@pytest.mark.malformed("M03")
async def test_wait_for_headers_is_as_models_yaml_says() -> None:
    async with served(gateway(limits={"head_wait": "200ms"})) as server:
        answer = await exchange(server, GET)

    assert answer == b""


@pytest.mark.malformed("M03")
async def test_later_request_that_stalls_is_closed_too() -> None:
    async with served(connections=IMPATIENT) as server, connected(server) as (reader, writer):
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"}")
        writer.write(GET)
        rest = await asyncio.wait_for(reader.read(), 10)

    assert rest == b""


async def test_long_run_is_not_cut_by_the_time_for_headers() -> None:
    slow = gateway(server={"keepalive": "0.1s"}, a=stalled(), preset={"deadline": "600ms"})
    async with served(slow, connections=IMPATIENT) as server:
        answer = await server.http.post(CHAT, json=body(fusion={"deadline_ms": 600}))

    assert answer.status_code == 200


@pytest.mark.threat(11)
async def test_good_request_is_served_beside_200_half_open_connections() -> None:
    async with served() as server:
        held = []
        for _ in range(200):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int(server.url.rpartition(":")[2])
            )
            writer.write(POST)
            held.append((reader, writer))
        answer = await server.http.post(CHAT, json=body())
        for _, writer in held:
            writer.close()

    assert answer.status_code == 200


@pytest.mark.malformed("M46")
@pytest.mark.parametrize("is_set", [True, False], ids=["in models.yaml", "by hand"])
async def test_connection_over_the_limit_is_closed(*, is_set: bool) -> None:
    limits = None if is_set else replace(USUAL, connections=8)
    async with (
        served(gateway(limits={"connections": 8}), connections=limits) as server,
        AsyncExitStack() as held,
    ):
        for _ in range(8):
            reader, writer = await held.enter_async_context(connected(server))
        writer.write(GET + b"\r\n")
        served_one = await reader.readline()
        try:
            refused = await exchange(server, GET + b"\r\n")
        except ConnectionError:
            refused = b""

    assert served_one.startswith(b"HTTP/1.1 200 ")
    assert refused == b""


@pytest.mark.malformed("M46")
async def test_pipelined_requests_are_answered_in_order() -> None:
    paths = [b"/health", b"/nothing"] * 500
    requests = [b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths]
    async with served() as server, connected(server) as (reader, writer):
        writer.write(b"".join(requests))
        statuses = []
        for _ in paths:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            statuses.append(int(head.split()[1]))
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))

    assert statuses == [200, 404] * 500


def post(content: bytes, *, chunked: bool = False) -> bytes:
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content)
    return POST + b"Content-Type: application/json\r\n" + length + b"\r\n\r\n"


ASK = json.dumps(body(model="a")).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n" % (len(ASK), ASK)


@pytest.mark.malformed("M02")
async def test_trailer_without_end_is_cut_before_it_fills_the_memory() -> None:
    async with served() as server, connected(server) as (reader, writer):
        writer.write(post(b"", chunked=True) + CHUNKED + b"A: ")
        sent = 0
        while not reader.at_eof() and sent < 64 << 20:
            try:
                writer.write(b"x" * 65536)
                await writer.drain()
            except ConnectionError:
                break
            sent += 65536

    assert sent < 32 << 20


@pytest.mark.threat(14)
async def test_trailer_is_no_header() -> None:
    without_host = post(b"", chunked=True).replace(b"Host: localhost\r\n", b"")
    async with served() as server, connected(server) as (reader, writer):
        writer.write(without_host + CHUNKED + b"Host: localhost\r\n\r\n")
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 403 ")
    assert server.gateway.calls == 0


@pytest.mark.promise(5)
async def test_client_that_leaves_with_a_request_behind_its_run_is_noticed() -> None:
    system = gateway(a=stalled())
    async with served(system) as server:
        async with connected(server) as (_, writer):
            writer.write(post(ASK) + ASK)
            await system.wait_for_calls("a")
            writer.write(GET + b"\r\n")
            await writer.drain()
        await system.wait_for_aborts("a")

    assert system.aborts == {"a": 1}


async def test_body_that_ends_where_the_next_request_begins_is_answered() -> None:
    padded = ASK + b" " * (60 << 10)
    async with served() as server, connected(server) as (reader, writer):
        writer.write(post(padded))
        await writer.drain()
        writer.write(padded + b"GET /health HTTP/1.1\r\nHo")
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 200 ")


@pytest.mark.malformed("M01")
async def test_broken_chunk_is_refused_with_a_word() -> None:
    async with served() as server, connected(server) as (reader, writer):
        writer.write(post(b"", chunked=True))
        await writer.drain()
        writer.write(b"zz\r\n")
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 400 ")


@pytest.mark.malformed("M46")
async def test_client_that_queues_without_end_is_cut() -> None:
    system = gateway(a=stalled())
    limits = replace(USUAL, pipelined=20)
    async with served(system, connections=limits) as server, connected(server) as (reader, writer):
        writer.write(post(ASK) + ASK)
        await system.wait_for_calls("a")
        writer.write((GET + b"\r\n") * 1000)
        rest = b""
        with suppress(ConnectionError):
            rest = await asyncio.wait_for(reader.read(), 10)
        await system.wait_for_aborts("a")

    assert rest == b""


@pytest.mark.threat(11)
@pytest.mark.malformed("M44")
async def test_answers_that_nobody_reads_do_not_hold_the_connection() -> None:
    limits = replace(USUAL, write_seconds=0.2)
    async with served(connections=limits) as server:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        held.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        held.setblocking(False)
        with pytest.raises(ConnectionError):
            await ask_on(held)
        held.close()


async def ask_on(held: socket.socket) -> None:
    """Ask without reading, until it is no longer possible."""
    loop = asyncio.get_running_loop()
    while True:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await asyncio.wait_for(loop.sock_sendall(held, request * 50), 10)
