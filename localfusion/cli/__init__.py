"""The command line. Answers and data go to stdout; progress, notes and errors to stderr.

Exit codes: 0 done, 1 the run failed, 2 configuration, arguments or environment, 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from localfusion import __version__
from localfusion.cli import (
    ask,
    audit,
    bundle,
    doctor,
    engines,
    evals,
    keys,
    logs,
    mcp,
    models,
    plan,
    replay,
    serve,
    traces,
)
from localfusion.errors import FusionError

app = typer.Typer(
    name="localfusion",
    help="One prompt to several local models, a local judge, one streamed answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("ask")(ask.ask)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("plan")(plan.show_plan)
app.command("doctor")(doctor.doctor)
app.command("ps")(engines.ps)
app.command("logs")(logs.logs)
app.command("load")(engines.load)
app.command("unload")(engines.unload)
app.command("reload")(engines.reload)
app.add_typer(models.app, name="models")
app.add_typer(bundle.app, name="bundle")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(traces.app, name="traces")
app.add_typer(evals.app, name="eval")
app.command("replay")(replay.replay)
app.command("explain")(replay.explain)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"localfusion {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="models.yaml to use.", envvar="LOCALFUSION_CONFIG"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Answer with several local models and a judge."""
    context.obj = config


def main() -> None:
    """Run the command line; every error of ours is one line and an exit code."""
    try:
        app()
    except FusionError as error:
        sys.stderr.write(f"localfusion: {error}\n")
        sys.exit(error.exit_code)
