"""What ``localfusion eval judge`` does."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from localfusion import config
from localfusion.cli.evaluating import ProgressLines
from localfusion.cli.show import PhaseLines, printable
from localfusion.config import Config
from localfusion.durable import write_whole
from localfusion.errors import ConfigError, EngineError
from localfusion.evals.datasets.pairs import Pair, pairs_of
from localfusion.evals.evaluation import waits_for
from localfusion.evals.reliability import JudgeReport, Seen, Setting, Wanted, choose, examine_judge
from localfusion.evals.reliability.report import judge_page, judge_text, report_form
from localfusion.evals.reliability.suite import COUNT, QUICK
from localfusion.evals.store import default_folder, new_folder
from localfusion.runtime import open_runtime

__all__ = ["COUNT", "QUICK", "Asked", "run"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which judge, which tests.

    Attributes:
        tests: Names; None: all that can be run.
        count: Cases of each test.
        out: Folder for the report; None: a new one beside the evaluations.
        sim: The judge is simulated.
    """

    preset: str | None
    tests: tuple[str, ...] | None
    count: int
    seed: int
    data: Path | None
    out: Path | None
    sim: bool


def run(file: Path | None, asked: Asked, *, as_json: bool) -> None:
    """Test a judge, print its report and write it.

    Raises:
        EngineError: the judge was lost before the tests were done; what there is, is written.
    """
    loaded = config.load(file)
    pairs = [] if asked.data is None else pairs_of(asked.data.expanduser())
    choose(asked.tests, has_pairs=bool(pairs))
    report = asyncio.run(_test(loaded, asked, pairs))
    told = report_form(report)
    folder = asked.out or new_folder(default_folder(), "judge", report.preset)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "judge.json", json.dumps(told, ensure_ascii=False, indent=1).encode())
    write_whole(folder / "judge.html", judge_page(told).encode())
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else printable(judge_text(told)))
    typer.echo(f"\nreport: {folder / 'judge.html'}", err=True)
    if report.lost is not None:
        raise EngineError(f"the judge was lost before the tests were done: {report.lost}")


async def _test(loaded: Config, asked: Asked, pairs: Sequence[Pair]) -> JudgeReport:
    seen = Seen()
    names = [asked.preset] if asked.preset else []
    async with open_runtime(loaded, names, sim=asked.sim, observers=[seen.observe]) as runtime:
        await runtime.start(PhaseLines())
        name, preset = runtime.fusion.resolve(asked.preset or runtime.fusion.default_preset)
        if preset.judge is None:
            raise ConfigError(f"preset {name} has no judge; name one that has: --preset NAME")
        versions = runtime.engine_versions()
        version = versions[preset.judge]
        setting = Setting(
            runtime.fusion,
            name,
            preset,
            preset.judge,
            seen,
            waits_for(runtime, [preset.judge]),
            {"engine": version.version, "weights": version.weights},
        )
        wanted = Wanted(asked.tests, asked.count, asked.seed, pairs)
        return await examine_judge(setting, wanted, ProgressLines())
