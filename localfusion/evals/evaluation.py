"""An evaluation from its plan to its results: what is asked for, what is fixed, what runs."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from localfusion import __version__
from localfusion.errors import ConfigError, EngineUnavailableError, EvaluationError
from localfusion.evals.arms import parse_arms, served_arm
from localfusion.evals.draws import answer_from_draws, draws_of
from localfusion.evals.job import IN_FLIGHT, Calls, Job, Progress
from localfusion.evals.live import ask_live
from localfusion.evals.recording import names_of, own_name
from localfusion.evals.results import BEST, Plan, Results
from localfusion.evals.runner import Runner
from localfusion.evals.samples import Dataset, Scorer, ScoringModel
from localfusion.evals.scorers import create_scorer
from localfusion.evals.store import Store
from localfusion.fusion import prompts
from localfusion.fusion.policies import PILOT_SAMPLES
from localfusion.hardware import detect
from localfusion.runtime import Runtime

PATIENCE = 900.0
"""Seconds that a lost engine has to come back, restarts and loading included."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for, besides the suite.

    Attributes:
        preset: Its name.
        arms: Names; None: the usual ones.
        repeats: Recordings of each member and judgements of each panel, for each sample.
        live: Samples that are asked live too, one at a time.
        margin: Smallest gain that is worth the extra cost, as a share of 1.
    """

    preset: str
    arms: tuple[str, ...] | None = None
    seed: int = 0
    repeats: int = 1
    live: int = 5
    margin: float = 0.03
    at_once: int = IN_FLIGHT


def create_scorers(dataset: Dataset, scoring: ScoringModel | None) -> dict[str, Scorer]:
    """Return the scorers that a data set needs, by name.

    Raises:
        ConfigError: one of them needs a scoring model, and there is none.
    """
    names = dict.fromkeys(sample.scorer for sample in dataset.samples)
    return {name: create_scorer(name, scoring) for name in names}


def make_job(
    runtime: Runtime,
    dataset: Dataset,
    wanted: Wanted,
    scorers: Mapping[str, Scorer],
    calls: Calls,
) -> Job:
    """Fix what is to be done, with the engines of a started runtime.

    Raises:
        ConfigError: the preset cannot be evaluated, or an arm does not exist.
    """
    name, preset = runtime.fusion.resolve(wanted.preset)
    members = names_of(preset.panel)
    arms = parse_arms(wanted.arms, preset, members)
    engines = {
        model: f"{version.weights}/{version.version}"
        for model, version in runtime.engine_versions().items()
        if model in preset.models
    }
    if preset.judge is None:
        raise ConfigError(f"preset {name} has no judge; evaluate one that has")
    plan = Plan(
        suite=dataset.name,
        data=dataset.digest,
        preset=name,
        settings=preset.model_dump(mode="json"),
        members=members,
        judge=preset.judge,
        arms=tuple(arm.name for arm in arms),
        primary=(served_arm(preset), BEST),
        margin=wanted.margin,
        seed=wanted.seed,
        repeats=wanted.repeats,
        live=wanted.live,
        scoring={name: scorer.identity for name, scorer in scorers.items()},
        identity=_identity(engines),
    )
    return Job(
        plan,
        dataset,
        preset,
        tuple(arms),
        scorers,
        runtime.fusion,
        calls,
        runtime.traces.named,
        waits_for(runtime, preset.models),
        wanted.at_once,
    )


def _identity(engines: Mapping[str, str]) -> dict[str, object]:
    hardware = detect()
    device = f"{len(hardware.cpu.cores)} cores, {platform.machine()}"
    if hardware.gpus:
        device = ", ".join(gpu.name for gpu in hardware.gpus)
    return {
        "localfusion": __version__,
        "engines": dict(engines),
        "prompts": prompts.digest(),
        "device": device,
    }


def waits_for(runtime: Runtime, models: Sequence[str]) -> Callable[[], Awaitable[None]]:
    """Return a function that waits until all engines can answer.

    It raises EngineUnavailableError where one does not come back.
    """

    async def ready() -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while True:
            phases = runtime.phases()
            away = [m for m in models if phases[m].phase not in ("ready", "asleep")]
            if not away:
                return
            if clock() > until or any(phases[m].phase == "failed" for m in away):
                raise EngineUnavailableError(
                    f"{', '.join(away)} did not come back; see localfusion logs, then go on with "
                    "--resume"
                )
            await asyncio.sleep(0.5)

    return ready


def adopt(store: Store, plan: Plan, other: Results) -> None:
    """Take another evaluation's recordings, so that only the judge is asked.

    Raises:
        EvaluationError: its panels are not those that this plan would record; says what differs.
    """
    theirs = other.plan
    ours = {"data": plan.data, "seed": plan.seed, "repeats": plan.repeats}
    their = {"data": theirs.data, "seed": theirs.seed, "repeats": theirs.repeats}
    for key in ("panel", "panel_max_tokens"):
        ours[key], their[key] = plan.settings.get(key), theirs.settings.get(key)
    models = {recording.candidate.model for recording in other.recordings}
    for one, of in ((plan, ours), (theirs, their)):
        engines = one.identity.get("engines")
        versions = engines if isinstance(engines, Mapping) else {}
        of["engines"] = {model: versions.get(model) for model in sorted(models)}
    different = [key for key in ours if ours[key] != their[key]]
    if different:
        raise EvaluationError(
            f"--recordings: those panels differ from this plan's in {', '.join(different)}; use "
            "the same suite, limit, seed, repeats and panel, or leave it out"
        )
    known = {(r.sample, r.member, r.draw) for r in store.recordings.read()}
    for recording in other.recordings:
        if (recording.sample, recording.member, recording.draw) not in known:
            store.recordings.append(recording)


async def evaluate(job: Job, store: Store, progress: Progress) -> Results:
    """Do what is planned and not yet done; what is finished is on disk, whatever happens.

    Raises:
        EngineUnavailableError: an engine was lost for good; go on with the same folder later.
    """
    runner = Runner(job, store, progress)
    try:
        await _record(runner)
        await _judge(runner)
        if job.plan.live:
            await ask_live(runner, job.arms, draws_of(runner, job.arms))
    finally:
        runner.close()
    return store.read()


async def _record(runner: Runner) -> None:
    job = runner.job
    samples = job.dataset.samples
    await runner.record(job.preset, own_name, samples, stage="members answer")
    runner.member_outcomes()
    if any(arm.source == "pilot" for arm in job.arms):
        first = job.preset.panel[0].model_copy(update={"n": PILOT_SAMPLES, "seed": None})
        pilot = job.preset.model_copy(update={"panel": (first,), "quorum": None})
        name = f"pilot:{job.plan.members[0]}"
        await runner.record(
            pilot, lambda _: name, samples, stage="first member again", what="pilot"
        )


async def _judge(runner: Runner) -> None:
    others = [arm for arm in runner.job.arms if arm.source != "draws"]
    await runner.judge(others, stage="arms answer")
    await answer_from_draws(runner, [arm for arm in runner.job.arms if arm.source == "draws"])
