"""``localfusion mcp``: the tools for an MCP client that starts us, by stdin and stdout."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import httpx2
import typer

from localfusion import config
from localfusion.cli.show import PhaseLines
from localfusion.client import CONNECT_SECONDS, RemoteFusion, http_client
from localfusion.config import Config
from localfusion.errors import RequestError
from localfusion.runtime import Runtime, open_runtime


def mcp(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Option(help="Preset that answers where a call names none.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Use the server at this address, such as http://127.0.0.1:8000."),
    ] = None,
    own: Annotated[
        bool, typer.Option("--own-engines", help="Start engines even if a server is running.")
    ] = False,
    sim: Annotated[
        bool, typer.Option(help="Simulated engines of our own: no weights, no models.")
    ] = False,
) -> None:
    """Serve MCP by stdin and stdout until the client closes them; uses a running server, if any."""
    loaded = config.load(context.obj)
    asyncio.run(_mcp(loaded, _Wanted(preset, server, own or sim, sim)))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whose engines answer: a certain server's, our own for certain; else as found."""

    preset: str | None
    server: str | None
    own: bool
    sim: bool


async def _mcp(loaded: Config, wanted: _Wanted) -> None:
    # Clients end us with SIGTERM; as a Ctrl-C it lets the engines end before us.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    url = await _find(loaded, wanted)
    if url is None:
        await _serve_own(loaded, wanted)
    else:
        await _serve_theirs(loaded, url, wanted.preset)


async def _find(loaded: Config, wanted: _Wanted) -> str | None:
    """Return the address of the server to use; None: our own engines.

    Raises:
        RequestError: a server was named, and none of ours answers there.
    """
    if wanted.server is not None:
        url = wanted.server.rstrip("/")
        if not await _answers(url):
            raise RequestError(
                "--server: no localfusion server answers there; start one with localfusion serve, "
                "or leave out --server"
            )
        return url
    remote = None if wanted.own else await RemoteFusion.find(loaded)
    if remote is None:
        return None
    await remote.aclose()
    return remote.base_url


async def _answers(url: str) -> bool:
    try:
        async with httpx2.AsyncClient(timeout=CONNECT_SECONDS, trust_env=False) as http:
            health = (await http.get(f"{url}/health")).json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return False
    return isinstance(health, dict) and health.get("service") == "localfusion"


async def _serve_theirs(loaded: Config, url: str, preset: str | None) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    from localfusion.server.mcp_stdio import forward, serve_stdio

    _note(f"using the server at {url}\n")

    @asynccontextmanager
    async def connect() -> AsyncGenerator[Client, None]:
        async with (
            http_client(url, loaded) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            yield client

    await serve_stdio(forward(connect, preset), loaded.settings.limits.body_bytes)


async def _serve_own(loaded: Config, wanted: _Wanted) -> None:
    from localfusion.server.admission import Runs
    from localfusion.server.mcp_stdio import serve_stdio
    from localfusion.server.mcp_tools import create_mcp_server

    presets = [wanted.preset] if wanted.preset else []
    limits = loaded.settings.limits
    async with (
        open_runtime(loaded, presets, sim=wanted.sim) as runtime,
        asyncio.TaskGroup() as group,
    ):
        _note("".join(f"note: {line}\n" for line in runtime.notes))
        # Clients wait for our first words only seconds, so the engines start meanwhile.
        started = asyncio.Event()
        starting = group.create_task(_start(runtime, started))
        runs = Runs(limits)
        server = create_mcp_server(runtime, runs, preset=wanted.preset, started=started)
        await serve_stdio(server, limits.body_bytes)
        starting.cancel()


async def _start(runtime: Runtime, started: asyncio.Event) -> None:
    await runtime.start(PhaseLines(), require_all=False)
    started.set()


def _note(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
