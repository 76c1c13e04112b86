"""``localfusion eval``: does a panel pay here, and what does it cost. The commands' options.

What they do is in ``evaluating``, which loads numerical libraries: nothing but an evaluation needs
them, so each command imports it when it runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from localfusion.errors import ConfigError
from localfusion.evals import INSTALL

app = typer.Typer(
    help="Measure panels and judges on this machine: recorded once, judged by every arm.",
    no_args_is_help=True,
)
Arms = Annotated[
    Optional[str],  # noqa: UP045  typer reads no other form here
    typer.Option(help="Names with commas: judge, vote, select, fuse, fuse:none, auto, subsets …"),
]
Folder = Annotated[
    Path | None, typer.Option(help="Folder of evaluations; default: evals in the cache folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@contextmanager
def _extra() -> Iterator[None]:
    """Say what to install where the libraries of an evaluation are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("numpy", "scipy"):
            raise
        raise ConfigError(f"{error.name} is not installed; run {INSTALL}") from error


@app.command("run")
def run(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="Name; see: localfusion eval suites")],
    preset: Annotated[str | None, typer.Option(help="Default: this machine's.")] = None,
    arms: Arms = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples.")] = None,
    data: Annotated[Path | None, typer.Option(help="Your file, for suites that read one.")] = None,
    seed: Annotated[int, typer.Option(help="Of samples, draws and judges.")] = 0,
    repeats: Annotated[
        int, typer.Option(min=1, max=8, help="Recordings and judgements of each sample.")
    ] = 1,
    live: Annotated[
        int, typer.Option(min=0, help="Samples asked live too, for times and cost; 0: none.")
    ] = 5,
    margin: Annotated[
        float, typer.Option(min=0.0, max=50.0, help="Smallest gain worth the cost, in points.")
    ] = 3.0,
    scoring_model: Annotated[
        str | None, typer.Option(help="Model that grades open answers; no judge, no member.")
    ] = None,
    allow_kin: Annotated[
        bool, typer.Option("--allow-kin", help="Let a judge or member grade; the report says so.")
    ] = False,
    recordings: Annotated[
        str | None,
        typer.Option(help="Another evaluation whose recorded panels are judged: no panel call."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last run of this plan stopped.")
    ] = False,
    out: Folder = None,
    sim: Annotated[bool, typer.Option("--sim", help="Simulated models: try it out.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a suite of a panel once, let every arm answer from the recordings, and report."""
    with _extra():
        from localfusion.cli import evaluating
        from localfusion.evals.evaluation import Wanted

    names = None if arms is None else tuple(n.strip() for n in arms.split(",") if n.strip())
    wanted = Wanted(preset or "", names, seed, repeats, live, margin / 100)
    asked = evaluating.Asked(out, resume, recordings, scoring_model, allow_kin, sim)
    suite_of = evaluating.SuiteOf(suite, limit, seed, data)
    evaluating.run(context.obj, suite_of, wanted, asked, as_json=as_json)


@app.command("report")
def report(
    name: Annotated[str, typer.Argument(help="Folder or name of an evaluation.")] = "latest",
    out: Folder = None,
    as_json: Json = False,
) -> None:
    """Make an evaluation's report from what is recorded, finished or not."""
    with _extra():
        from localfusion.cli import evaluating

    evaluating.report(name, out, as_json=as_json)


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="Folder or name of an evaluation.")],
    second: Annotated[str, typer.Argument(help="Folder or name of another.")],
    out: Folder = None,
    as_json: Json = False,
) -> None:
    """Compare two evaluations of the same samples, arm by arm; the second minus the first."""
    with _extra():
        from localfusion.cli import evaluating

    evaluating.compare_two(first, second, out, as_json=as_json)


@app.command("judge")
def judge(
    context: typer.Context,
    preset: Annotated[str | None, typer.Option(help="Default: this machine's.")] = None,
    tests: Annotated[
        str | None, typer.Option(help="Names with commas; inject: all of them. Default: all.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="60 cases a test instead of 200.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many cases a test.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Pairs with a known better one: LLMBar, JudgeBench.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of questions, plants and the judge.")] = 0,
    out: Folder = None,
    sim: Annotated[bool, typer.Option("--sim", help="A simulated judge: try it out.")] = False,
    as_json: Json = False,
) -> None:
    """Test a preset's judge with planted faults: whom it believes, what it obeys, what it loses."""
    with _extra():
        from localfusion.cli import testing

    names = None if tests is None else tuple(n.strip() for n in tests.split(",") if n.strip())
    count = limit or (testing.QUICK if quick else testing.COUNT)
    asked = testing.Asked(preset, names, count, seed, data, out, sim)
    testing.run(context.obj, asked, as_json=as_json)


@app.command("gate")
def gate(
    name: Annotated[str, typer.Argument(help="Folder or name of an evaluation.")] = "latest",
    out: Folder = None,
) -> None:
    """Fit the thresholds of auto and cascade to an evaluation, and write what justifies them."""
    with _extra():
        from localfusion.cli import evaluating

    evaluating.gate(name, out)


@app.command("list")
def list_evaluations(out: Folder = None) -> None:
    """List evaluations, youngest first, with their verdicts."""
    with _extra():
        from localfusion.cli import evaluating

    evaluating.list_evaluations(out)


@app.command("suites")
def list_suites() -> None:
    """List the suites that can be run."""
    from localfusion.evals.suites import SUITES

    width = max(map(len, SUITES))
    for name, what in SUITES.items():
        typer.echo(f"{name:{width}}  {what}")
