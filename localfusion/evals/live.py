"""Arms asked live, one request at a time and in turns: the only source of times and of cost."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from localfusion.config import Member
from localfusion.errors import FusionError
from localfusion.evals.arms import Arm
from localfusion.evals.results import MEMBER, Live
from localfusion.evals.runner import Runner
from localfusion.evals.samples import Json, Sample
from localfusion.events import AnswerDelta, Event
from localfusion.fusion.members import TEMPERATURE
from localfusion.types import Request, SamplingParams, Usage


async def ask_live(runner: Runner, arms: Sequence[Arm], draws: Mapping[str, Member]) -> None:
    """Ask some samples of every arm that a client could ask for; what is known is not asked again.

    Args:
        runner: Has the samples and the engines.
        arms: All of the plan; those that no client can ask for are left out.
        draws: Of arms that draw from one member: that member, with its number of draws.
    """
    requests = _requests(runner, arms, draws)
    known = {(live.arm, live.sample) for live in runner.store.live.read()}
    order = random.Random(runner.job.plan.seed)
    pieces = []
    for sample in _spread(runner.job.dataset.samples, runner.job.plan.live):
        names = [name for name in requests if (name, sample.id) not in known]
        order.shuffle(names)
        pieces += [(name, sample) for name in names]
    runner.progress.stage("live, one at a time", len(pieces))
    runner.job.calls.is_counting = False
    try:
        if pieces:
            await _ask(runner, "warm-up", pieces[0][1], requests[pieces[0][0]])
        for name, sample in pieces:
            await runner.job.ready()
            runner.store.live.append(await _ask(runner, name, sample, requests[name]))
            runner.progress.advance()
    finally:
        runner.job.calls.is_counting = True


def _requests(
    runner: Runner, arms: Sequence[Arm], draws: Mapping[str, Member]
) -> dict[str, tuple[str, Json]]:
    """Return, for each arm, the model or preset to ask and the changes of it."""
    plan = runner.job.plan
    found: dict[str, tuple[str, Json]] = {}
    for name, member in runner.job.members.items():
        found[MEMBER + name] = (member.model, {})
    for arm in arms:
        if arm.source == "alone":
            found[arm.name] = (plan.judge, {})
        elif arm.source == "draws" and arm.name in draws:
            panel = [draws[arm.name].model_dump(exclude_none=True)]
            found[arm.name] = (plan.preset, {**arm.changes, "panel": panel})
        elif arm.is_live and arm.source != "draws":
            found[arm.name] = (plan.preset, dict(arm.changes))
    return found


async def _ask(runner: Runner, name: str, sample: Sample, asked: tuple[str, Json]) -> Live:
    model, changes = asked
    clock = asyncio.get_running_loop().time
    began, first = clock(), None

    async def sink(event: Event) -> None:
        nonlocal first
        if first is None and isinstance(event, AnswerDelta):
            first = clock() - began

    # Other seeds than the recorded: the judge's marks differ, so that no cache has its prompt.
    seed = runner.seed(sample, len(name), f"live:{name}")
    sampling = replace(_sampling(runner, name), seed=seed)
    request = Request(model, sample.messages, sampling, changes=changes, watches="answer")
    try:
        answer = await runner.job.named(await runner.job.fusion.run(request, sink))
    except FusionError as error:
        took = clock() - began
        return Live(name, sample.id, took, first, (), {}, Usage(), "failed", error=str(error))
    return Live(
        name,
        sample.id,
        answer.seconds,
        first,
        tuple((step.stage, step.seconds) for step in answer.critical_path),
        answer.cost.engine_seconds,
        answer.usage,
        answer.status,
        answer.cost.joules,
        answer.cost.money,
        answer.cost.currency,
        trace=answer.trace_id,
    )


def _sampling(runner: Runner, name: str) -> SamplingParams:
    """Return how an answer is sampled: a member's as in the panel, all others the preset's."""
    preset = runner.job.preset
    member = runner.job.members.get(name.removeprefix(MEMBER))
    if member is None or not name.startswith(MEMBER):
        return SamplingParams(max_tokens=preset.answer_max_tokens)
    temperature = TEMPERATURE if member.temperature is None else member.temperature
    most = member.max_tokens or preset.panel_max_tokens
    return SamplingParams(temperature=temperature, top_p=member.top_p, max_tokens=most)


def _spread(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Return so many samples from all over the data set."""
    number = min(number, len(samples))
    return [samples[place * len(samples) // number] for place in range(number)]
