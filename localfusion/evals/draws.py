"""Self-fusion and self-consistency at equal tokens: is it the panel's diversity, or more sampling?

The best member's own draws take the place of the panel, as many as make the tokens match those of
the arm that is served. A number of draws that lies between two whole ones is interpolated: both are
judged, and a sample's score lies between theirs. Idea: arXiv 2502.00674.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from localfusion.config import MAX_CANDIDATES, Member, Preset
from localfusion.evals.arms import Arm, settings_of
from localfusion.evals.patience import at_once
from localfusion.evals.recording import Place, places_of
from localfusion.evals.report.table import mean_score
from localfusion.evals.results import MEMBER, Outcome
from localfusion.evals.runner import Runner
from localfusion.evals.samples import Sample, Score, fold_of
from localfusion.evals.stats.paired import chosen_members
from localfusion.types import Usage

HALF = 0.5
CLOSE = 0.1
"""A token ratio within this of 1 counts as equal."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How many draws of whom stand for the panel.

    Attributes:
        wanted: Draws that would make the tokens equal, a fraction.
        low, high: Whole numbers of draws around it, or the same one where that is close enough.
    """

    member: Member
    name: str
    wanted: float
    low: int
    high: int

    def kept_as(self, _: Place | None = None) -> str:
        """Return the name under which they are recorded."""
        return f"draws:{self.name}"

    @property
    def share(self) -> float:
        """Weight of ``high``, 0 to 1."""
        if self.high == self.low:
            return 0.0
        return min(1.0, max(0.0, (self.wanted - self.low) / (self.high - self.low)))


def best_member(runner: Runner, fold: int) -> str:
    """Return the member that is best outside a fold, by the rule of the report's ``best``."""
    members, samples = runner.job.plan.members, runner.job.dataset.samples
    found: dict[tuple[str, str], list[Outcome]] = {}
    for (arm, sample, _), outcome in runner.done.items():
        found.setdefault((arm, sample), []).append(outcome)
    scores = np.array(
        [[mean_score(found.get((MEMBER + m, s.id), ())) for m in members] for s in samples]
    )
    folds = np.array([fold_of(sample) for sample in samples])
    return members[chosen_members(scores, folds)[fold]]


def plan_draws(runner: Runner, arm: Arm, fold: int) -> Draws:
    """Return how many draws of the best member match the served arm's tokens.

    Args:
        runner: Has recorded the members and judged the served arm.
        arm: Has a judge read the draws, as it reads the panel; or has them counted.
        fold: Whose samples the draws are for.
    """
    job = runner.job
    name = best_member(runner, fold)
    member = job.members[name]
    each = _mean_tokens(o.panel_usage for o in _outcomes(runner, MEMBER + name))
    served = _outcomes(runner, job.plan.primary[0])
    tokens = _mean_tokens(o.panel_usage for o in served)
    if settings_of(arm, job.preset).policy == "vote":  # nobody reads them
        tokens += _mean_tokens(o.judge_usage for o in served)
    wanted = max(1.0, tokens / each if each else 1.0)
    if wanted >= MAX_CANDIDATES:
        return Draws(member, name, wanted, MAX_CANDIDATES, MAX_CANDIDATES)
    whole = round(wanted)
    if abs(whole / wanted - 1) <= CLOSE:
        return Draws(member, name, wanted, whole, whole)
    return Draws(member, name, wanted, math.floor(wanted), math.ceil(wanted))


async def answer_from_draws(runner: Runner, arms: Sequence[Arm]) -> None:
    """Record the draws that arms need, shared between them, and have them answer from these."""
    for fold in (0, 1):
        samples = [s for s in runner.job.dataset.samples if fold_of(s) == fold]
        planned = [(arm, plan_draws(runner, arm, fold)) for arm in arms]
        if not samples or not planned:
            continue
        most = max((draws for _, draws in planned), key=lambda draws: draws.high)
        await runner.record(
            _panel(runner.job.preset, most, most.high),
            most.kept_as,
            samples,
            stage=f"{most.high} draws of {most.name}",
            what="draws",
        )
        for arm, draws in planned:
            await _answer(runner, arm, samples, draws)
            runner.notes[_note(arm, draws, fold)] = None


def draws_of(runner: Runner, arms: Iterable[Arm]) -> dict[str, Member]:
    """Return whom arms draw from, with the number of draws that comes nearest to equal tokens."""
    found = {}
    for arm in arms:
        if arm.source == "draws":
            draws = plan_draws(runner, arm, 0)
            number = draws.high if draws.share >= HALF else draws.low
            found[arm.name] = draws.member.model_copy(update={"n": number, "seed": None})
    return found


async def _answer(runner: Runner, arm: Arm, samples: Sequence[Sample], draws: Draws) -> None:
    most = _panel(runner.job.preset, draws, draws.high)
    numbers = sorted({draws.low, draws.high})
    pieces = [
        (sample, repeat)
        for sample in samples
        for repeat in range(runner.job.plan.repeats)
        if (arm.name, sample.id, repeat) not in runner.done
    ]
    runner.progress.stage(f"{arm.name}: judging", len(pieces))
    places = places_of(most.panel)

    async def one(sample: Sample, repeat: int) -> None:
        drawn = runner.panel(sample, repeat, places, draws.kept_as)
        assert drawn is not None  # recorded above
        found = []
        for number in numbers:
            is_one = len(numbers) == 1
            settings = settings_of(arm, _panel(runner.job.preset, draws, number))
            own = arm.name if is_one else f"{arm.name}@{number}"
            key = (own, sample.id, repeat)
            known = runner.done.get(key)
            found.append(
                known or await runner.answer(own, sample, repeat, drawn[:number], settings)
            )
        if len(found) == 2:
            runner.add(between(arm.name, found[0], found[1], draws.share))
        runner.advance()

    await at_once((partial(one, *piece) for piece in pieces), runner.job.at_once)


def _panel(preset: Preset, draws: Draws, number: int) -> Preset:
    member = draws.member.model_copy(update={"n": number, "seed": None})
    return preset.model_copy(update={"panel": (member,), "quorum": None, "fallback_judge": None})


def between(arm: str, low: Outcome, high: Outcome, share: float) -> Outcome:
    """Return the outcome that lies between those of two numbers of draws."""
    values = (low.score.value, high.score.value)
    value = None
    if values[0] is not None and values[1] is not None:
        value = (1 - share) * values[0] + share * values[1]
    detail = f"between {low.arm} and {high.arm}, at {share:.2f}"
    return replace(
        low,
        arm=arm,
        score=Score(value, extracted=low.score.extracted, detail=detail),
        judge_usage=_mixed(low.judge_usage, high.judge_usage, share),
        panel_usage=_mixed(low.panel_usage, high.panel_usage, share),
    )


def _mixed(low: Usage, high: Usage, share: float) -> Usage:
    def mix(a: int, b: int) -> int:
        return round((1 - share) * a + share * b)

    return Usage(
        mix(low.prompt_tokens, high.prompt_tokens),
        mix(low.completion_tokens, high.completion_tokens),
        mix(low.cached_tokens, high.cached_tokens),
        mix(low.reasoning_tokens, high.reasoning_tokens),
        mix(low.calls, high.calls),
    )


def _outcomes(runner: Runner, arm: str) -> list[Outcome]:
    return [outcome for (name, _, _), outcome in runner.done.items() if name == arm]


def _mean_tokens(usages: Iterable[Usage]) -> float:
    found = [usage.completion_tokens for usage in usages]
    return sum(found) / len(found) if found else 0.0


def _note(arm: Arm, draws: Draws, fold: int) -> str:
    numbers = str(draws.low) if draws.low == draws.high else f"{draws.low} and {draws.high}"
    achieved = ((1 - draws.share) * draws.low + draws.share * draws.high) / draws.wanted
    capped = "; no panel has more" if draws.wanted > MAX_CANDIDATES + CLOSE else ""
    return (
        f"{arm.name}, fold {fold + 1}: {numbers} draws of {draws.name} for {draws.wanted:.2f} that "
        f"match the tokens, ratio {achieved:.2f}{capped}"
    )
