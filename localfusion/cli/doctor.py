"""``localfusion doctor``: is everything here that answering needs, and if not, what mends it."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from localfusion.cli.show import printable
from localfusion.doctor import Finding, examine

_STYLES = {"ok": "green", "warn": "yellow", "problem": "red"}


def doctor(
    context: typer.Context,
    preset: Annotated[
        list[str] | None, typer.Option(help="Preset to check for; default: this machine's.")
    ] = None,
    deep: Annotated[bool, typer.Option(help="Read every byte of the weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check what answering needs: a line and a remedy each; exit code 1 if there is a problem."""
    found: list[Finding] = []
    console = Console(highlight=False)

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not as_json:
            console.print(_line(finding), soft_wrap=True)

    asyncio.run(examine(context.obj, preset or [], tell, deep=deep))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    if any(finding.verdict == "problem" for finding in found):
        raise typer.Exit(1)


def _line(finding: Finding) -> Text:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    text = " ".join(f"{finding.check}: {finding.text}{remedy}".split())  # one line, whatever it is
    line = Text(f"{finding.verdict:8}", style=_STYLES[finding.verdict])
    return line.append(printable(text), style="default")
