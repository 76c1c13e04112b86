"""``localfusion audit``: who asked for what, and whether the log is as it was written."""

import json
from pathlib import Path
from typing import Annotated

import typer

from localfusion.audit import GENESIS, Entry, read_lines, verify
from localfusion.cli.show import printable
from localfusion.config import load
from localfusion.errors import AuditError

app = typer.Typer(help="Who asked for what.", no_args_is_help=True)

_File = Annotated[Path | None, typer.Option("--file", help="Log; default: this user's.")]


def _find(context: typer.Context, file: Path | None) -> Path:
    return file if file is not None else load(context.obj).audit_file


@app.command("verify")
def verify_log(
    context: typer.Context,
    file: _File = None,
    head: Annotated[
        str | None,
        typer.Option(help="Digest noted at an earlier verify: it must still be in the log."),
    ] = None,
) -> None:
    """Name each line that is not as it was written; exit code 1 if there is one."""
    path = _find(context, file)
    report = verify(read_lines(path))
    for fault in report.faults:
        typer.echo(f"{path}:{fault.line}: {fault.text}", err=True)
    known = {GENESIS, *(entry.digest for entry in report.entries)}
    is_cut = head is not None and head not in known
    if is_cut:
        typer.echo(f"{path}: the end is cut off: no entry has digest {head}", err=True)
    if is_cut or not report.is_intact:
        raise typer.Exit(1)
    typer.echo(f"ok  {len(report.entries)} entries  head {report.head}")


@app.command("show")
def show_log(
    context: typer.Context,
    file: _File = None,
    last: Annotated[int, typer.Option(min=1, help="So many entries.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each line.")] = False,
) -> None:
    """Print the newest entries, the last one at the end; says so when the log was changed."""
    path = _find(context, file)
    report = verify(read_lines(path))
    for entry in report.entries[-last:]:
        fields = {**entry.fields, "digest": entry.digest}
        typer.echo(json.dumps(fields) if as_json else _line(entry))
    if not report.is_intact:
        raise AuditError(f"{path}: not as it was written: localfusion audit verify names the lines")


def _line(entry: Entry) -> str:
    fields = dict(entry.fields)
    first = [str(fields.pop(key, "-")) for key in ("at", "event", "run", "preset")]
    rest = [f"{k}={json.dumps(v)}" for k, v in fields.items() if k not in ("before", "policy")]
    return printable("  ".join([*first, *rest]))
