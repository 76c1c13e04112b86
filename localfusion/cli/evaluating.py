"""What the commands of ``localfusion eval`` do."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from localfusion import config
from localfusion.cli.show import PhaseLines, printable, wide_console
from localfusion.config import Config, nearest
from localfusion.errors import ConfigError
from localfusion.evals.arms import parse_arms
from localfusion.evals.evaluation import Wanted, adopt, create_scorers, evaluate, make_job
from localfusion.evals.gate import fit_gates, gate_text
from localfusion.evals.inspect_logs import write_logs
from localfusion.evals.job import Calls
from localfusion.evals.recording import names_of
from localfusion.evals.report import (
    compare,
    compare_text,
    html_page,
    make_report,
    terminal_text,
)
from localfusion.evals.results import Results
from localfusion.evals.samples import Dataset, Json
from localfusion.evals.scorers import check_scorers
from localfusion.evals.scoring_model import EngineScoring, check_kin
from localfusion.evals.store import (
    PAGE,
    REPORT,
    Store,
    default_folder,
    find_folder,
    new_folder,
    newest,
    read_results,
    summaries,
)
from localfusion.evals.suites import load_suite
from localfusion.runtime import Runtime, open_runtime

EVERY = 5.0
"""Seconds between lines of progress where there is no terminal."""


class ProgressLines:
    """Says on stderr how far a run is and when it will be done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._began = self._told = 0.0
        self._name, self._total, self._done = "", 0, 0

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._began = self._told = time.monotonic()
        if total:
            self._console.print(f"{name}: {total} to do")

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done == self._total or now - self._told >= EVERY:
            self._told = now
            took = now - self._began
            left = took / self._done * (self._total - self._done)
            self._console.print(
                f"{self._name}: {self._done}/{self._total}, {took:.0f} s, {left:.0f} s left"
            )

    def note(self, text: str) -> None:
        self._console.print(f"note: {printable(text)}", style="yellow")


@dataclass(frozen=True, slots=True)
class SuiteOf:
    """Which samples are asked."""

    name: str
    limit: int | None
    seed: int
    data: Path | None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a run is to be done, besides what is evaluated.

    Attributes:
        out: Folder of evaluations; None: the default.
        recordings: Name of the evaluation whose panels are judged.
        sim: Engines are simulated.
    """

    out: Path | None
    resume: bool
    recordings: str | None
    scoring_model: str | None
    allow_kin: bool
    sim: bool

    @property
    def parent(self) -> Path:
        return self.out or default_folder()


def run(file: Path | None, suite: SuiteOf, wanted: Wanted, asked: Asked, *, as_json: bool) -> None:
    """Evaluate, and report."""
    loaded = config.load(file)
    dataset = load_suite(suite.name, limit=suite.limit, seed=suite.seed, data=suite.data)
    _check(loaded, dataset, wanted, asked)
    try:
        folder, results = asyncio.run(_run(loaded, dataset, wanted, asked))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command with --resume goes on from here", err=True)
        raise
    _report(folder, results, as_json=as_json)


def _check(loaded: Config, dataset: Dataset, wanted: Wanted, asked: Asked) -> None:
    """Refuse before any engine starts what would be refused when all of them have.

    Raises:
        ConfigError: no such arm, or no scoring model where one is needed.
    """
    check_scorers((s.scorer for s in dataset.samples), has_model=asked.scoring_model is not None)
    models = loaded.settings.models
    if asked.scoring_model is not None and asked.scoring_model not in models:
        known = nearest(asked.scoring_model, models)
        raise ConfigError(f"--scoring-model: no model {asked.scoring_model[:64]!r}; {known}")
    preset = loaded.settings.presets.get(wanted.preset)
    if preset is not None:
        parse_arms(wanted.arms, preset, names_of(preset.panel))


async def _run(
    loaded: Config, dataset: Dataset, wanted: Wanted, asked: Asked
) -> tuple[Path, Results]:
    calls = Calls()
    names = [wanted.preset] if wanted.preset else []
    async with open_runtime(loaded, names, sim=asked.sim, observers=[calls.observe]) as runtime:
        phases = PhaseLines()
        await runtime.start(phases)
        preset = wanted.preset or runtime.fusion.default_preset
        scoring = await _scoring(runtime, preset, asked, phases)
        scorers = create_scorers(dataset, scoring)
        job = make_job(runtime, dataset, replace(wanted, preset=preset), scorers, calls)
        if asked.resume:
            folder = newest(asked.parent, job.plan)
        else:
            folder = new_folder(asked.parent, job.plan.suite, job.plan.preset)
        store = Store(folder)
        with store.owned():
            store.begin(job.plan, job.dataset)
            if asked.recordings is not None:
                adopt(store, job.plan, read_results(find_folder(asked.parent, asked.recordings)))
            return folder, await evaluate(job, store, ProgressLines())


async def _scoring(
    runtime: Runtime, preset: str, asked: Asked, phases: PhaseLines
) -> EngineScoring | None:
    name = asked.scoring_model
    if name is None:
        return None
    await runtime.load(name, phases)
    versions = runtime.engine_versions()
    if not asked.allow_kin:
        _, found = runtime.fusion.resolve(preset)
        check_kin(name, found.models, {model: v.weights for model, v in versions.items()})
    version = versions[name]
    return EngineScoring(runtime.fusion, name, f"{version.weights}/{version.version}")


def _report(folder: Path, results: Results, *, as_json: bool) -> None:
    report = make_report(results)
    Store(folder).write_report(report, html_page(report))
    logs = write_logs(results, folder)
    _print(report, as_json=as_json)
    if as_json:
        return
    typer.echo(f"\nreport: {folder / PAGE}", err=True)
    if logs is not None:
        typer.echo(f"logs for inspect view: {logs}", err=True)


def _print(report: Json, *, as_json: bool) -> None:
    told = json.dumps(report, ensure_ascii=False) if as_json else terminal_text(report)
    typer.echo(told if as_json else printable(told))


def report(name: str, out: Path | None, *, as_json: bool) -> None:
    """Make a report anew."""
    folder = find_folder(out or default_folder(), name)
    results = read_results(folder)
    if (folder / REPORT).exists():
        _report(folder, results, as_json=as_json)
        return
    _print(make_report(results), as_json=as_json)
    typer.echo("\nunfinished: nothing is written; go on with --resume", err=True)


def compare_two(first: str, second: str, out: Path | None, *, as_json: bool) -> None:
    """Print two evaluations beside each other."""
    parent = out or default_folder()
    before, after = (
        make_report(read_results(find_folder(parent, name))) for name in (first, second)
    )
    told = compare(before, after)
    typer.echo(json.dumps(told) if as_json else printable(compare_text(told)))


def gate(name: str, out: Path | None) -> None:
    """Fit thresholds, print them and write them beside the evaluation."""
    folder = find_folder(out or default_folder(), name)
    text = gate_text(fit_gates(read_results(folder)))
    typer.echo(printable(text))
    file = folder / "gate.yaml"
    file.write_text(text)
    typer.echo(f"written to {file}; put the options into the preset of models.yaml", err=True)


def list_evaluations(out: Path | None) -> None:
    """Print what there is."""
    parent = out or default_folder()
    table = Table(box=None, pad_edge=False)
    for column in ("evaluation", "samples", "preset", "verdict"):
        table.add_column(column)
    for one in summaries(parent):
        table.add_row(one.name, str(one.samples), one.preset, printable(one.verdict))
    if not table.row_count:
        typer.echo(f"no evaluation in {parent}; begin with: localfusion eval run small", err=True)
        return
    wide_console().print(table)
