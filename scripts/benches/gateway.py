"""What our HTTP adds, beside a bare echo on the same server: processor, latency, memory.

Servers are processes of their own, and their processor seconds are counted: a rate per core is the
same however busy the load generator is.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from benches.gateway_server import CHAT, MEMBERS, PRESET, TOKENS, engine
from benches.table import Row
from localfusion.types import Message, Prompt

REQUESTS = 100_000
"""For memory."""
SPEED_REQUESTS = 1000
"""For each rate; a tenth for streams, which are a hundred tokens each."""
AT_ONCE = 8
GAP = 0.02
"""Seconds between two tokens where gaps are measured: a fast engine's."""
WARM = 0.2
"""Share of the requests after which memory counts."""
SINGLE = MEMBERS[0]


@dataclass(frozen=True)
class Server:
    """A server process."""

    port: int
    process: psutil.Process

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


async def measure(requests: int = REQUESTS, speed_requests: int = SPEED_REQUESTS) -> list[Row]:
    """Return every figure."""
    simulation = await simulation_seconds(max(20, speed_requests // 20))
    streams = max(8, speed_requests // 10)
    async with serving("ours") as ours, serving("echo") as echo:
        whole = await cpu_seconds(ours, SINGLE, speed_requests)
        bare = await cpu_seconds(echo, SINGLE, speed_requests)
        streamed = await cpu_seconds(ours, SINGLE, streams, stream=True)
        bare_streamed = await cpu_seconds(echo, SINGLE, streams, stream=True)
        panel = await cpu_seconds(ours, PRESET, streams)
        panel_streamed = await cpu_seconds(ours, PRESET, streams, stream=True)
        growth = await memory_growth(ours, requests)
    _tell("one model, requests", 1, whole, simulation, bare)
    _tell("one model, streamed tokens", TOKENS, streamed, simulation, bare_streamed)
    calls = len(MEMBERS) + 1
    _tell("a panel of three, requests", 1, panel, calls * simulation, bare)
    _tell("a panel of three, streamed tokens", TOKENS, panel_streamed, calls * simulation, bare)
    added = await added_gap(streams=max(8, speed_requests // 50))
    return [
        Row("requests/s per core / a bare echo's", bare / (whole - simulation), "x", 0.5, True),
        Row(
            "streamed tokens/s per core / a bare echo's",
            bare_streamed / (streamed - simulation),
            "x",
            0.5,
            at_least=True,
        ),
        Row("a panel of three, our code", (panel - calls * simulation) * 1e3, "ms", 6.0),
        Row("longest gap between tokens of 100 beside the echo's", added * 1e3, "ms", 5.0),
        Row(f"memory after {requests} requests / after a fifth", growth, "x", 1.1),
    ]


@asynccontextmanager
async def serving(kind: str, gap: float = 0.0) -> AsyncGenerator[Server, None]:
    """Run a server process for the length of a block."""
    arguments = ("-m", "benches.gateway_server", kind, str(gap))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert child.stdout is not None  # a pipe
        port = int(await child.stdout.readline())
        yield Server(port, psutil.Process(child.pid))
    finally:
        child.terminate()
        await child.wait()


async def simulation_seconds(calls: int) -> float:
    """Return processor seconds of one call of a simulated engine, which is none of our HTTP."""
    simulated = engine(SINGLE)
    prompt = Prompt((Message("user", "How many pens?"),))
    began = time.process_time()
    for _ in range(calls):
        async with aclosing(simulated.generate(prompt)) as deltas:
            async for _ in deltas:
                pass
    return (time.process_time() - began) / calls


async def cpu_seconds(server: Server, model: str, count: int, *, stream: bool = False) -> float:
    """Return the server's processor seconds for each of many requests."""
    await load(server, model, max(AT_ONCE, count // 10), stream=stream)  # warm
    before = server.cpu
    await load(server, model, count, stream=stream)
    return (server.cpu - before) / count


async def added_gap(streams: int) -> float:
    """Return by how much the 99th percentile of gaps between tokens is longer than the echo's."""
    longest = []
    for kind in ("ours", "echo"):
        async with serving(kind, GAP) as server:
            arrivals = await load(server, SINGLE, streams, stream=True)
        gaps = [late - early for times in arrivals for early, late in pairwise(times)]
        longest.append(statistics.quantiles(gaps, n=100)[-1])
        print(f"  gaps of {kind}: median {statistics.median(gaps) * 1e3:.1f} ms", flush=True)
    ours, echo = longest
    return ours - echo


async def memory_growth(server: Server, requests: int) -> float:
    """Return how memory grew from a fifth of the requests to all of them; one in ten streams."""
    first = int(requests * WARM)
    sizes = []
    for count in (first, requests - first):
        await load(server, SINGLE, count - count // 10)
        await load(server, SINGLE, count // 10, stream=True)
        sizes.append(server.process.memory_info().rss)
        print(f"  {sizes[-1] / 2**20:.0f} MiB after {count} more requests", flush=True)
    return sizes[-1] / sizes[0]


async def load(
    server: Server, model: str, count: int, *, stream: bool = False
) -> Sequence[Sequence[float]]:
    """Ask ``count`` times over ``AT_ONCE`` connections; return when the pieces of each came."""
    left = iter(range(count))
    arrivals: list[Sequence[float]] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in left:
            writer.write(_request(model, number, stream))
            arrivals.append(await _response(reader))
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(connection())
    return arrivals


def _request(model: str, number: int, stream: bool) -> bytes:
    message = {"role": "user", "content": f"What do {number} pens cost?"}
    body = json.dumps({"model": model, "messages": [message], "stream": stream}).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _response(reader: asyncio.StreamReader) -> Sequence[float]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 "), head
    if b"content-length: " in head:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        return [time.perf_counter()]
    times = []
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
        times.append(time.perf_counter())
    await reader.readline()
    return times


def _tell(what: str, units: int, ours: float, simulation: float, echo: float) -> None:
    rates = (units / ours, units / (ours - simulation), units / echo)
    print(
        "  {}: {:.0f}/s per core, {:.0f} without the simulation, echo {:.0f}".format(what, *rates),
        flush=True,
    )
