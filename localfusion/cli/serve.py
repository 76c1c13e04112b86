"""``localfusion serve``: the HTTP gateway over engines of its own."""

import asyncio
import signal
from typing import Annotated

import typer

from localfusion import config
from localfusion.cli.show import PhaseLines
from localfusion.config import Config
from localfusion.errors import ConfigError, FusionError
from localfusion.runtime import Runtime, open_runtime
from localfusion.server.keys import KeyFile, local_key
from localfusion.server.logs import log_phase, notes_log, set_up_logs


def serve(
    context: typer.Context,
    preset: Annotated[
        list[str] | None, typer.Option(help="Preset to serve; repeat it for several.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    allow_remote: Annotated[
        bool, typer.Option(help="Let other machines call; needs a key.")
    ] = False,
    access_log: Annotated[bool, typer.Option(help="A line on stderr for each request.")] = False,
    log_format: Annotated[
        str | None, typer.Option(help="text or json: an object for each line on stderr.")
    ] = None,
    sim: Annotated[bool, typer.Option(help="Simulated engines: no weights, no models.")] = False,
) -> None:
    """Serve presets and models over HTTP until SIGTERM or Ctrl-C."""
    loaded = config.load(context.obj)
    given = {"host": host, "port": port, "log_format": log_format}
    given |= {"allow_remote": allow_remote or None, "access_log": access_log or None}
    changes = {key: value for key, value in given.items() if value is not None}
    asyncio.run(_serve(loaded.with_server(changes), preset or [], sim))


async def _serve(loaded: Config, presets: list[str], sim: bool) -> None:
    # The web framework takes a second to import, and only this command needs it.
    from localfusion.server.access import Access
    from localfusion.server.serving import check_tls, listen
    from localfusion.server.serving import serve as serve_http

    server, keys = loaded.settings.server, KeyFile(loaded.keys_file)
    if not keys.read() and not server.is_loopback:
        raise ConfigError(
            f"other machines reach {server.host}, and there is no key; make one with localfusion "
            "keys create NAME"
        )
    if loaded.tls is not None:
        check_tls(loaded.tls)
    set_up_logs(access=server.access_log, form=server.log_format)
    # The port is taken before anything is loaded: a second server fails at once, not in a minute.
    with (
        listen(server.host, server.port) as listener,
        local_key(loaded.local_key_file) as own,
    ):
        hosts = [*server.hosts, f"[{server.host}]" if ":" in server.host else server.host]
        access = Access(hosts, keys, own, is_closed=not server.is_loopback)
        async with open_runtime(loaded, presets, sim=sim) as runtime, asyncio.TaskGroup() as group:
            names = ", ".join(runtime.fusion.presets)
            notes = [f"{server.url}/v1 answers for {names} once ready"]
            if server.is_wide and not server.hosts:
                notes.append(
                    "note: other machines call by names in server.hosts, and there are none"
                )
            notes += [f"note: {line}" for line in runtime.notes]
            phases = PhaseLines() if server.log_format == "text" else log_phase
            background = [
                group.create_task(runtime.start(phases, require_all=False)),
                group.create_task(_reload_when_asked(runtime)),
            ]
            await serve_http(
                runtime,
                listener,
                access=access,
                tls=loaded.tls,
                on_listening=lambda: _note(*notes),
            )
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
                _note(f"reload: {error}")
            else:
                _note(*(f"reload: {line}" for line in changes or ["nothing has changed"]))
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _note(*lines: str) -> None:
    for line in lines:
        notes_log.info(line)
