"""``scripts/bench eval``: samples a second against one at a time, re-runs, and the statistics."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benches.table import Row
from localfusion.config import Config
from localfusion.engines.base import ignore_phase
from localfusion.evals.evaluation import Wanted, adopt, create_scorers, evaluate, make_job
from localfusion.evals.job import Calls
from localfusion.evals.report import make_report
from localfusion.evals.results import MEMBER, Outcome, Plan, Results
from localfusion.evals.samples import Dataset, Sample, Score
from localfusion.evals.store import Store
from localfusion.evals.suites import load_suite
from localfusion.runtime import Runtime, open_runtime
from localfusion.types import Message

BATCHED, ALONE = 48, 8
"""Samples of both ways; each way has its own, so that no cache helps the second."""
ARMS = ("fuse", "vote")
MANY = 10_000


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int) -> None:
        """Begin."""

    def advance(self) -> None:
        """Go on."""

    def note(self, text: str) -> None:
        print(f"  {text}")


async def measure(loaded: Config) -> list[Row]:
    """Return every figure: real engines first, then statistics of made-up scores."""
    calls = Calls()
    async with open_runtime(loaded, ["demo"], observers=[calls.observe]) as runtime:
        await runtime.start(ignore_phase)
        rows = await _rates(runtime, calls)
    return [*rows, statistics()]


async def _rates(runtime: Runtime, calls: Calls) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        whole = load_suite("small", limit=BATCHED + ALONE + 2)
        warm, few, many = _cut(whole, 0, 2), _cut(whole, 2, 2 + ALONE), _cut(whole, 2 + ALONE, None)
        await _run(runtime, calls, warm, Path(folder, "warm"), at_once=2)
        alone = await _run(runtime, calls, few, Path(folder, "alone"), at_once=1)
        batched = await _run(runtime, calls, many, Path(folder, "many"), at_once=32)
        before = calls.panel
        again = Path(folder, "again")
        await _run(runtime, calls, many, again, at_once=32, of=Path(folder, "many"))
    slow, fast = len(few.samples) / alone, len(many.samples) / batched
    print(f"  one at a time {slow:.2f} samples/s, batched {fast:.2f}; each: panel, fuse, vote")
    return [
        Row("samples/s, batched / one at a time", fast / slow, "x", 3.0, at_least=True),
        Row("panel calls of a re-run with another judge prompt", calls.panel - before, "", 0.0),
    ]


def _cut(dataset: Dataset, first: int, last: int | None) -> Dataset:
    return replace(dataset, samples=dataset.samples[first:last])


async def _run(
    runtime: Runtime,
    calls: Calls,
    dataset: Dataset,
    folder: Path,
    *,
    at_once: int,
    of: Path | None = None,
) -> float:
    """Evaluate, and return the seconds it took.

    Args:
        of: Another run whose panels are judged, by the arm ``fuse:none``.
    """
    arms = ARMS if of is None else (*ARMS, "fuse:none")
    wanted = Wanted("demo", arms, live=0, at_once=at_once)
    job = make_job(runtime, dataset, wanted, create_scorers(dataset, None), calls)
    store = Store(folder)
    store.begin(job.plan, job.dataset)
    if of is not None:
        adopt(store, job.plan, Store(of).read())
    began = time.perf_counter()
    await evaluate(job, store, Silent())
    return time.perf_counter() - began


def statistics() -> Row:
    """Make the report of 10,000 samples, four members and eight arms."""
    results = _made_up(MANY)
    began = time.perf_counter()
    make_report(results)
    return Row("report of 10,000 samples, 12 arms", time.perf_counter() - began, "s", 10.0)


def _made_up(count: int) -> Results:
    rng = np.random.default_rng(0)
    members = ("a", "b", "c", "d")
    arms = ("fuse", "judge", "self_fusion", "self_vote", "vote", "select", "fuse:none", "auto")
    samples = tuple(
        Sample(f"s{place}", f"task{place % 8}", (Message("user", "?"),), "number", {"answer": "1"})
        for place in range(count)
    )
    outcomes = [
        Outcome(arm, sample.id, 0, Score(float(right), extracted="1"))
        for arm in (*(MEMBER + name for name in members), *arms)
        for sample, right in zip(samples, rng.random(count) < 0.6, strict=True)
    ]
    plan = Plan(
        suite="made-up",
        data="",
        preset="p",
        settings={},
        members=members,
        judge="a",
        arms=arms,
        primary=("fuse", "best"),
        margin=0.03,
        seed=0,
        repeats=1,
        live=0,
        scoring={},
        identity={},
    )
    return Results(plan, Dataset("made-up", samples, "made up"), (), tuple(outcomes))
