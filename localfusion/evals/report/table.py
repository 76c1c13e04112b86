"""Scores as arrays: a row for each sample, a column for each arm; partial scores have two ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from localfusion.evals.results import BEST, MEMBER, Outcome, Results
from localfusion.evals.samples import fold_of
from localfusion.evals.stats.intervals import Interval
from localfusion.evals.stats.paired import (
    Array,
    Difference,
    Resampling,
    best_on_other_fold,
    chosen_members,
    difference,
    difference_to_best,
)

COMPUTED = (BEST, "placebo", "first", "longest", "oracle")
"""Arms that cost no call, for they are made of the members' answers."""


@dataclass(frozen=True)
class Table:
    """All scores of an evaluation.

    Attributes:
        low, high: Scores by arm, for each sample; NaN: unscored or not there. They differ where a
            scoring model left criteria unscored.
        folds: 0 or 1 for each sample.
        outcomes: By arm, and by sample in the data set's order.
    """

    results: Results
    low: Mapping[str, Array]
    high: Mapping[str, Array]
    folds: npt.NDArray[np.int_]
    outcomes: Mapping[str, Sequence[Sequence[Outcome]]]
    resampling: Resampling
    _known: dict[tuple[str, str], Difference] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        return self.results.plan.members

    @property
    def member_scores(self) -> Array:
        """(samples, members)."""
        return np.column_stack([self.low[MEMBER + name] for name in self.members])

    @property
    def best_members(self) -> tuple[str, str]:
        """The member that is best on the other fold, for the samples of each fold."""
        chosen = chosen_members(self.member_scores, self.folds)
        return self.members[chosen[0]], self.members[chosen[1]]

    def compare(self, first: str, second: str) -> Difference:
        """Return one arm minus another; a comparison holds at both ends of partial scores."""
        if (first, second) not in self._known:
            self._known[first, second] = self._compare(first, second)
        return self._known[first, second]

    def _compare(self, first: str, second: str) -> Difference:
        ends = []
        for a, b in ((self.low[first], self.high[second]), (self.high[first], self.low[second])):
            if second == BEST:
                ends.append(difference_to_best(a, self.member_scores, self.folds, self.resampling))
            else:
                ends.append(difference(a, b, self.resampling))
        low, high = ends
        return Difference(
            (low.mean + high.mean) / 2,
            Interval(low.interval.low, high.interval.high),
            low.n,
            max(low.detectable, high.detectable),
        )


def make_table(results: Results) -> Table:
    """Arrange results; arms without any outcome are left out."""
    samples = [sample.id for sample in results.dataset.samples]
    rows = {id: row for row, id in enumerate(samples)}
    found: dict[str, list[list[Outcome]]] = {}
    for outcome in results.outcomes:
        if outcome.sample in rows:
            if outcome.arm not in found:
                found[outcome.arm] = [[] for _ in samples]
            found[outcome.arm][rows[outcome.sample]].append(outcome)
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    for name, rows_of in found.items():
        low[name] = np.array([mean_score(each) for each in rows_of])
        high[name] = np.array([mean_score(each, is_high=True) for each in rows_of])
    for name in results.plan.members:
        low.setdefault(MEMBER + name, np.full(len(samples), np.nan))
        high.setdefault(MEMBER + name, np.full(len(samples), np.nan))
        found.setdefault(MEMBER + name, [[] for _ in samples])
    folds = np.array([fold_of(sample) for sample in results.dataset.samples])
    for scores in (low, high):
        _add_computed(scores, results, folds, found)
    names = [sample.group or sample.id for sample in results.dataset.samples]
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    groups = np.array([places[name] for name in names]) if len(places) < len(names) else None
    resampling = Resampling(len(samples), results.plan.seed, groups=groups)
    resampling.prepare([*low.values()], folds)
    return Table(results, low, high, folds, found, resampling)


def mean_score(outcomes: Sequence[Outcome], *, is_high: bool = False) -> float:
    """Average inside a sample; NaN if any of it is unscored, or there is none."""
    values = []
    for outcome in outcomes:
        score = outcome.score
        value = score.high if is_high and score.high is not None else score.value
        if value is None:
            return float("nan")
        values.append(value)
    return sum(values) / len(values) if values else float("nan")


def _add_computed(
    scores: dict[str, Array],
    results: Results,
    folds: npt.NDArray[np.int_],
    found: Mapping[str, Sequence[Sequence[Outcome]]],
) -> None:
    members = np.column_stack([scores[MEMBER + name] for name in results.plan.members])
    scores[BEST] = best_on_other_fold(members, folds)
    draws = _draws(results, found)
    scores["placebo"] = np.array([_nanmean(row) for row in draws.values()])
    scores["oracle"] = np.array([max(row, default=float("nan")) for row in draws.values()])
    by_sample: dict[str, list[tuple[float, int, float]]] = {id: [] for id in draws}
    for recording in results.recordings:
        value = recording.score.value
        if recording.sample in by_sample and recording.member in results.plan.members:
            candidate = recording.candidate
            told = float("nan") if value is None else value
            by_sample[recording.sample].append((candidate.seconds, len(candidate.text), told))
    rows = by_sample.values()
    scores["first"] = np.array([min(row)[2] if row else float("nan") for row in rows])
    scores["longest"] = np.array(
        [max(row, key=lambda one: one[1])[2] if row else float("nan") for row in rows]
    )


def _draws(
    results: Results, found: Mapping[str, Sequence[Sequence[Outcome]]]
) -> dict[str, list[float]]:
    """Return the scores of every candidate, by sample; a sample with one unscored has NaN."""
    draws: dict[str, list[float]] = {}
    for place, sample in enumerate(results.dataset.samples):
        row = [
            float("nan") if outcome.score.value is None else outcome.score.value
            for name in results.plan.members
            for outcome in found[MEMBER + name][place]
        ]
        draws[sample.id] = [float("nan")] if any(value != value for value in row) else row
    return draws


def _nanmean(row: Sequence[float]) -> float:
    return sum(row) / len(row) if row else float("nan")
