"""``localfusion models``: which weights are here; pull, verify and delete them."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from localfusion import weights
from localfusion.config import Config, load
from localfusion.errors import WeightsError
from localfusion.hardware import detect
from localfusion.system import choose_presets
from localfusion.weights import ModelStatus, PullProgress

app = typer.Typer(help="The weights on this machine.", no_args_is_help=True)

_Names = Annotated[Optional[list[str]], typer.Argument(help="Models of models.yaml.")]  # noqa: UP045
_Presets = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads it
    typer.Option("--preset", help="Models of this preset; default: this machine's preset."),
]


@app.command("list")
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List models with size, license, origin, revision, state and the presets that use them."""
    config = load(context.obj)
    found = [weights.find_status(config, name) for name in config.settings.models]
    if as_json:
        typer.echo(json.dumps([asdict(status) for status in found], indent=2))
        return
    table = Table(box=None)
    for column in ("name", "size", "license", "origin", "revision", "state", "presets"):
        wraps = column in ("origin", "presets")
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=not wraps)
    for status in found:
        table.add_row(*_row(status))
    # In a pipe a wide table is better than one cut to 80 columns.
    console = Console(highlight=False, markup=False)
    console.print(table, soft_wrap=not console.is_terminal)


def _row(status: ModelStatus) -> tuple[str, ...]:
    size = "-" if status.bytes is None else _size(status.bytes)
    revision = "-" if status.revision is None else status.revision[:12]
    presets = ", ".join(status.presets) or "-"
    return (
        status.name,
        size,
        status.license,
        status.origin,
        revision,
        "-" if status.state == "none" else status.state,
        presets,
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


@app.command("pull")
def pull_models(
    context: typer.Context,
    names: _Names = None,
    preset: _Presets = None,
    every: Annotated[bool, typer.Option("--all", help="All models of models.yaml.")] = False,
    fetch_only: Annotated[
        bool, typer.Option(help="Only download and verify; needs no torch. Pull again to finish.")
    ] = False,
) -> None:
    """Download, verify and convert models; what was begun is continued."""
    config = load(context.obj)
    wanted = _choose(config, names, preset, every=every)
    with _Display() as show:
        weights.pull(config, wanted, listener=show, fetch_only=fetch_only)


@app.command("verify")
def verify_models(
    context: typer.Context,
    names: _Names = None,
    preset: _Presets = None,
    every: Annotated[bool, typer.Option("--all", help="All models of models.yaml.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Read every byte of models and compare it with their manifests."""
    config = load(context.obj)
    digests: dict[str, str] = {}
    for name in _choose(config, names, preset, every=every):
        with _Display() as show:
            total = weights.find_status(config, name).bytes
            files = weights.verify(config, name, _counting(show, name, total))
        digests[name] = files.manifest.digest
        if not as_json:
            typer.echo(f"ok  {name}  {len(files.manifest.files)} files  {files.manifest.digest}")
    if as_json:
        typer.echo(json.dumps(digests, indent=2))


@app.command("rm")
def remove_model(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Model of models.yaml.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a pulled model, or what a pull began."""
    config = load(context.obj)
    if not yes:
        typer.confirm(f"Delete the weights of {name}?", abort=True, err=True)
    freed = weights.remove(config, name)
    typer.echo(f"{name} deleted, {_size(freed)} freed", err=True)


def _choose(
    config: Config, names: list[str] | None, presets: list[str] | None, *, every: bool
) -> list[str]:
    """Return the models that a command is about; those of other engines have no weights."""
    models = config.settings.models
    if names:
        if presets or every:
            raise typer.BadParameter("give names, --preset or --all, not several of them")
        return names
    if every:
        return [name for name, spec in models.items() if spec.source is not None]
    chosen = choose_presets(config, presets or [], detect()).values()
    wanted = dict.fromkeys(name for preset in chosen for name in preset.models)
    found = [name for name in wanted if models[name].source is not None]
    if not found:
        raise WeightsError("the preset has no model with weights here; name one, or use --all")
    return found


def _counting(show: "_Display", name: str, total: int | None) -> Callable[[int], None]:
    done = 0

    def count(piece: int) -> None:
        nonlocal done
        done += piece
        show(PullProgress(name, "verify", done, total))

    return count


class _Display:
    """Shows progress on stderr: bars in a terminal, one line per change elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._is_live = console.is_terminal
        self._said: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.fields[model]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._is_live,
        )

    def __enter__(self) -> "_Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, progress: PullProgress) -> None:
        text = f"{progress.phase} {progress.detail}".strip()
        if self._said.get(progress.model) != text:
            self._said[progress.model] = text
            self._begin(progress, text)
        if self._is_live:
            task = self._tasks[progress.model]
            self._bars.update(task, completed=progress.done_bytes or 0, total=progress.total_bytes)

    def _begin(self, progress: PullProgress, text: str) -> None:
        if not self._is_live:
            size = f" ({_size(progress.total_bytes)})" if progress.total_bytes else ""
            sys.stderr.write(f"{progress.model}: {text}{size}\n")
            return
        if (old := self._tasks.get(progress.model)) is not None:
            self._bars.remove_task(old)
        self._tasks[progress.model] = self._bars.add_task(text, model=progress.model, total=None)
