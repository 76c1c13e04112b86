"""``localfusion serve``: the HTTP gateway over engines of its own."""

import asyncio
from typing import Annotated

import typer

from localfusion import config
from localfusion.cli.show import PhaseLines
from localfusion.config import Config
from localfusion.runtime import open_runtime


def serve(
    context: typer.Context,
    preset: Annotated[
        list[str] | None, typer.Option(help="Preset to serve; repeat it for several.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Loopback address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    sim: Annotated[bool, typer.Option(help="Simulated engines: no weights, no models.")] = False,
) -> None:
    """Serve presets and models over HTTP until SIGTERM or Ctrl-C."""
    loaded = config.load(context.obj)
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    loaded = loaded.with_server(changes)
    asyncio.run(_serve(loaded, preset or [], sim))


async def _serve(loaded: Config, presets: list[str], sim: bool) -> None:
    # The web framework takes a second to import, and only this command needs it.
    from localfusion.server.app import serve as serve_http

    lines = PhaseLines()
    async with open_runtime(loaded, presets, sim=sim) as runtime, asyncio.TaskGroup() as group:
        starting = group.create_task(runtime.start(lines))
        await serve_http(runtime)
        starting.cancel()
