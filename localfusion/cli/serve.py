"""``localfusion serve``: the HTTP gateway over engines of its own."""

import asyncio
import signal
import sys
from typing import Annotated

import typer

from localfusion import config
from localfusion.cli.show import PhaseLines
from localfusion.config import Config
from localfusion.errors import FusionError
from localfusion.runtime import Runtime, open_runtime


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
    asyncio.run(_serve(loaded.with_server(changes), preset or [], sim))


async def _serve(loaded: Config, presets: list[str], sim: bool) -> None:
    # The web framework takes a second to import, and only this command needs it.
    from localfusion.server.serving import listen
    from localfusion.server.serving import serve as serve_http

    server = loaded.settings.server
    # The port is taken before anything is loaded: a second server fails at once, not in a minute.
    with listen(server.host, server.port) as listener:
        async with open_runtime(loaded, presets, sim=sim) as runtime, asyncio.TaskGroup() as group:
            names = ", ".join(runtime.fusion.presets)
            note = f"http://{server.host}:{server.port}/v1 answers for {names} once ready\n"
            note += "".join(f"note: {line}\n" for line in runtime.notes)
            background = [
                group.create_task(runtime.start(PhaseLines(), require_all=False)),
                group.create_task(_reload_when_asked(runtime)),
            ]
            await serve_http(runtime, listener, on_listening=lambda: _note(note))
            for task in background:
                task.cancel()


async def _reload_when_asked(runtime: Runtime) -> None:
    """Reload models.yaml on SIGHUP; what is wrong with it is printed and changes nothing."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        while await asked.wait():
            asked.clear()
            try:
                changes = await runtime.reload()
            except FusionError as error:
                _note(f"reload: {error}\n")
            else:
                _note("".join(f"reload: {line}\n" for line in changes or ["nothing has changed"]))
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _note(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
