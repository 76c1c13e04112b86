"""What our HTTP adds, beside a bare echo on the same server: processor, latency, memory.

Servers are processes of their own, and their processor seconds are counted: a rate per core is the
same however busy the load generator is.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from benches.gateway_server import CHAT, MEMBERS, PRESET, USUAL, WORDS, engine
from benches.table import Row
from localfusion.fusion.calls import INTERVAL
from localfusion.types import Message, Prompt, SamplingParams

REQUESTS = 100_000
"""For memory, each of a few tokens."""
SPEED_REQUESTS = 1000
"""For each rate; a tenth for answers of ``LONG`` tokens."""
TURNS = 3
"""Of requests with traces and without."""
AT_ONCE = 8
GAP = 0.02
"""Seconds between two tokens where gaps are measured: a fast engine's."""
WARM = 0.2
"""Share of the requests after which memory counts."""
SINGLE = MEMBERS[0]
FEW, LONG = 8, 1000
"""Tokens of other answers than the usual ones."""


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


@dataclass(frozen=True)
class Load:
    """Requests of one kind.

    Attributes:
        tokens: Of each answer.
    """

    model: str
    tokens: int
    is_stream: bool = True

    def request(self, number: int) -> bytes:
        """Return one as it is sent."""
        message = {"role": "user", "content": f"What do {number} pens cost?"}
        asked = {"model": self.model, "messages": [message], "max_tokens": self.tokens}
        body = json.dumps({**asked, "stream": self.is_stream}).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def measure(requests: int = REQUESTS, speed_requests: int = SPEED_REQUESTS) -> list[Row]:
    """Return every figure."""
    few = max(8, speed_requests // 10)
    async with serving("ours") as ours, serving("echo") as echo:
        streamed = await _compare(ours, echo, Load(SINGLE, USUAL), speed_requests)
        long = await _compare(ours, echo, Load(SINGLE, LONG), few)
        whole = await _compare(ours, echo, Load(SINGLE, USUAL, is_stream=False), speed_requests)
        panel, traced = await _panel(ours, few)
        growth = await memory_growth(ours, requests)
    added = await added_gap(streams=max(8, speed_requests // 50))
    print(f"  an answer that is not streamed / a constant's: {whole:.2f} x", flush=True)
    return [
        Row("requests/s per core / a bare SSE echo's", streamed, "x", 0.5, at_least=True),
        Row("streamed tokens/s per core / a bare SSE echo's", long, "x", 0.5, at_least=True),
        Row("a panel of three, our code", panel * 1e3, "ms", 6.0),
        Row("a panel of three, our code with traces / without", traced / panel, "x", 2.0),
        Row("longest gap between tokens of 100 beside the echo's", added * 1e3, "ms", 5.0),
        Row(f"memory after {requests} requests / after a fifth", growth, "x", 1.1),
    ]


async def _panel(ours: Server, count: int) -> tuple[float, float]:
    """Return our processor seconds of a panel, without traces and with; engines' do not count.

    In turns, so that whatever else the machine does meets both.
    """
    drafts = len(MEMBERS) * USUAL
    engines = len(MEMBERS) * await simulation_seconds(USUAL, count, watched=False)
    engines += await simulation_seconds(USUAL, count, watched=False, read=drafts)
    load = Load(PRESET, USUAL, is_stream=False)
    spent: tuple[list[float], list[float]] = ([], [])
    async with serving("kept") as kept:
        for _ in range(TURNS):
            for server, seconds in zip((ours, kept), spent, strict=True):
                seconds.append(await cpu_seconds(server, load, count))
    # What is less than a tick of that clock for all requests together cannot be told from nothing.
    least = 1 / os.sysconf("SC_CLK_TCK") / count
    plain, traced = (max(least, statistics.median(seconds) - engines) for seconds in spent)
    print(f"  a panel with traces: {traced * 1e3:.1f} ms, without {plain * 1e3:.1f}", flush=True)
    return plain, traced


async def _compare(ours: Server, echo: Server, load: Load, count: int) -> float:
    """Return our rate by the echo's; the simulated engine's own work does not count."""
    simulation = await simulation_seconds(load.tokens, count // 5, watched=load.is_stream)
    mine = await cpu_seconds(ours, load, count) - simulation
    bare = await cpu_seconds(echo, load, count)
    kind = "streamed" if load.is_stream else "whole"
    print(
        f"  {load.tokens} tokens, {kind}: {1 / mine:.0f} requests/s per core, echo {1 / bare:.0f}; "
        f"without the engine's own work, {simulation * 1e3:.1f} ms a request",
        flush=True,
    )
    return bare / mine


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


async def simulation_seconds(tokens: int, calls: int, *, watched: bool, read: int = 4) -> float:
    """Return processor seconds of one call of a simulated engine, which is none of our HTTP.

    As many calls at once as the load has, for they share the engine's steps.

    Args:
        tokens: Of the answer.
        calls: Over which to take the mean.
        watched: Somebody reads every token as it comes.
        read: Words of the prompt; they are counted before the call, as every run does.
    """
    simulated = engine(SINGLE)
    prompt = Prompt(
        (Message("user", " ".join(WORDS[:read])),),
        SamplingParams(max_tokens=tokens),
        interval=1 if watched else INTERVAL,
    )
    left = iter(range(calls))

    async def ask() -> None:
        for _ in left:
            await simulated.count_tokens(prompt.messages)
            async with aclosing(simulated.generate(prompt)) as deltas:
                async for _ in deltas:
                    pass

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(ask())
    return (time.process_time() - began) / calls


async def cpu_seconds(server: Server, load: Load, count: int) -> float:
    """Return the server's processor seconds for each of many requests."""
    await send(server, load, max(AT_ONCE, count // 10))  # warm
    before = server.cpu
    await send(server, load, count)
    return (server.cpu - before) / count


async def added_gap(streams: int) -> float:
    """Return by how much the 99th percentile of gaps between tokens is longer than the echo's."""
    longest = []
    for kind in ("ours", "echo"):
        async with serving(kind, GAP) as server:
            arrivals = await send(server, Load(SINGLE, USUAL), streams)
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
        await send(server, Load(SINGLE, FEW, is_stream=False), count - count // 10)
        await send(server, Load(SINGLE, FEW), count // 10)
        sizes.append(server.process.memory_info().rss)
        print(f"  {sizes[-1] / 2**20:.0f} MiB after {count} more requests", flush=True)
    return sizes[-1] / sizes[0]


async def send(server: Server, load: Load, count: int) -> Sequence[Sequence[float]]:
    """Ask ``count`` times over ``AT_ONCE`` connections; return when the pieces of each came."""
    left = iter(range(count))
    arrivals: list[Sequence[float]] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in left:
            writer.write(load.request(number))
            arrivals.append(await _response(reader))
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(connection())
    return arrivals


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
