"""``localfusion ps``, ``load``, ``unload``, ``reload``: the engines of a running server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from localfusion import config
from localfusion.cli.show import printable, wide_console
from localfusion.client import RemoteFusion
from localfusion.errors import ConfigError
from localfusion.placement import gib

Port = Annotated[int | None, typer.Option(help="The server's port; default: models.yaml's.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Entry = dict[str, object]


def ps(context: typer.Context, port: Port = None, as_json: Json = False) -> None:
    """Show what each engine of the running server does."""
    found = _call(context, port, lambda server: server.engines())
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def load(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model whose engine to start.")],
    port: Port = None,
) -> None:
    """Start an engine of the running server; returns when it is ready."""
    found = _call(context, port, lambda server: server.load(model))
    typer.echo(f"{found['engine']}: {found['phase']}")


def unload(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model whose engine to stop.")],
    port: Port = None,
) -> None:
    """Stop an engine of the running server once its calls have ended."""
    found = _call(context, port, lambda server: server.unload(model))
    typer.echo(f"{found['engine']}: {found['phase']}")


def reload(context: typer.Context, port: Port = None) -> None:
    """Have the running server read models.yaml again; an invalid file changes nothing."""
    found = _call(context, port, lambda server: server.reload())
    changes = found["changes"]
    assert isinstance(changes, list)
    for line in changes or ["nothing has changed"]:
        typer.echo(printable(str(line)))


def _call(
    context: typer.Context, port: int | None, ask: Callable[[RemoteFusion], Awaitable[Entry]]
) -> Entry:
    loaded = config.load(context.obj)
    if port is not None:
        loaded = loaded.with_server({"port": port})
    server = loaded.settings.server

    async def call() -> Entry:
        remote = await RemoteFusion.find(loaded)
        if remote is None:
            raise ConfigError(
                f"no localfusion server answers on {server.host}:{server.port}; start one with "
                "localfusion serve, or name its --port"
            )
        async with aclosing(remote):
            return await ask(remote)

    return asyncio.run(call())


def _print(found: Entry) -> None:
    console = wide_console()
    table = Table(box=None)
    columns = "engine state device memory planned kv running waiting tokens/s restarts unload"
    for column in columns.split():
        is_text = column in ("engine", "state", "device")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    entries = found["data"]
    assert isinstance(entries, list)
    for entry in entries:
        table.add_row(*_cells(entry))
    console.print(table)
    for entry in entries:
        if entry["detail"]:
            console.print(printable(f"{entry['engine']}: {entry['detail']}"))
        for line in entry["log"]:
            console.print(printable(f"  | {line}"))
    _print_list(console, "waiting", found["queue"])
    _print_list(console, "note", found["notes"])


def _print_list(console: Console, title: str, values: object) -> None:
    assert isinstance(values, list)
    for value in values:
        words = (
            ", ".join(f"{key} {part}" for key, part in value.items())
            if isinstance(value, dict)
            else value
        )
        console.print(printable(f"{title}: {words}"))


def _cells(entry: Entry) -> list[str]:
    memory = entry["memory_bytes"]
    assert isinstance(memory, dict)
    rate = entry["tokens_per_second"]
    return [
        str(entry["engine"]),
        f"{entry['phase']} {_seconds(entry['seconds'])}",
        str(entry["device"] or "-"),
        _gib(memory["actual"]),
        _gib(memory["planned"]),
        _percent(entry["kv_cache_usage"]),
        _or_dash(entry["running"]),
        _or_dash(entry["waiting"]),
        f"{rate:.1f}" if isinstance(rate, float | int) else "-",
        str(entry["restarts"]),
        _seconds(entry["unload_seconds"]),
    ]


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _gib(value: object) -> str:
    return gib(value) if isinstance(value, int) else "-"


def _percent(value: object) -> str:
    return f"{100 * value:.0f} %" if isinstance(value, float | int) else "-"


def _seconds(value: object) -> str:
    if not isinstance(value, float | int):
        return "-"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"
