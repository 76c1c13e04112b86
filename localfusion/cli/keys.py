"""``localfusion keys``: who may call the server, and who may steer it."""

import json
from typing import Annotated

import typer
from rich.table import Table

from localfusion import config
from localfusion.cli.show import wide_console
from localfusion.server.keys import KeyFile, Scope

app = typer.Typer(help="API keys of the server; once there is one, every request needs one.")


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is; stands in the access log.")],
    scope: Annotated[
        Scope, typer.Option(help="use: ask and look; admin: load, unload and reload too.")
    ] = "use",
) -> None:
    """Make a key and print it, this once; the file keeps a digest."""
    typer.echo(_keys(context).create(name, scope))


@app.command("list")
def list_keys(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show names, scopes and dates."""
    found = [key.model_dump(mode="json", exclude={"sha256"}) for key in _keys(context).read()]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(box=None)
    for column in ("name", "scope", "created"):
        table.add_column(column, no_wrap=True)
    for key in found:
        table.add_row(key["name"], key["scope"], key["created"])
    wide_console().print(table)


@app.command("revoke")
def revoke(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Of the key.")]
) -> None:
    """Remove a key; a running server refuses it from the next request on."""
    _keys(context).revoke(name)
    typer.echo(f"{name} is revoked")


def _keys(context: typer.Context) -> KeyFile:
    return KeyFile(config.load(context.obj).keys_file)
