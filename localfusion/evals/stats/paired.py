"""Differences between two arms on the same samples: bootstrap, McNemar, power.

Resampling is over samples, for these are what a user would have others of.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from localfusion.evals.stats.intervals import Interval

Array = npt.NDArray[np.floating]
DRAWS = 10_000
MOST_CELLS = 200_000_000
"""Bytes of kept weights; with more samples there are fewer draws."""
POWER = 0.8
ALIKE = 1e-6
"""Differences below are rounding: sums are made of 32-bit numbers."""
_CHUNK = 500
_MOST_WEIGHT = 9


def _poisson_table() -> npt.NDArray[np.uint8]:
    """Return the weight of each 16-bit random number, so that weights are Poisson of mean 1."""
    edges = np.floor(stats.poisson.cdf(np.arange(_MOST_WEIGHT + 1), 1.0) * 65536).astype(int)
    table = np.full(65536, _MOST_WEIGHT, dtype=np.uint8)
    for weight in range(_MOST_WEIGHT, -1, -1):
        table[: edges[weight]] = weight
    return table


@dataclass
class Resampling:
    """Bootstrap draws over n samples, the same for all that is compared.

    Each draw gives every sample a Poisson weight of mean 1 (Chamandy et al. 2012, "Estimating
    uncertainty for massive data streams"), in place of counting indices: sums of all draws are then
    matrix products. Means are weighted sums over the sum of weights. What was summed once is kept,
    so that an arm that is compared with ten others costs as much as one.

    Args:
        n: Samples.
        seed: The same draws for the same seed.
        draws: Fewer where n is so large that they would not fit in memory.
        groups: Number of the group of each sample: those of one group are drawn together, such as
            a pair of answers in both orders. None: each by itself.
    """

    n: int
    seed: int = 0
    draws: int = DRAWS
    groups: npt.NDArray[np.int_] | None = None
    _weights: npt.NDArray[np.uint8] = field(init=False, repr=False)
    _kept: dict[bytes, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.draws = max(1000, min(self.draws, MOST_CELLS // max(1, self.n)))
        rng = np.random.default_rng(self.seed)
        table = _poisson_table()
        self._weights = np.empty((self.draws, self.n), dtype=np.uint8)
        drawn = self.n if self.groups is None else int(self.groups.max(initial=-1)) + 1
        for start in range(0, self.draws, _CHUNK):
            rows = self._weights[start : start + _CHUNK]
            weights = table[rng.integers(0, 65536, size=(len(rows), drawn), dtype=np.uint16)]
            rows[:] = weights if self.groups is None else weights[:, self.groups]

    def count(self, mask: npt.NDArray[np.bool_]) -> int:
        """Return how many samples of a choice are drawn by themselves: groups count once."""
        if self.groups is None:
            return int(mask.sum())
        return int(np.unique(self.groups[mask]).size)

    def sums(self, columns: Array) -> Array:
        """Return each draw's weighted sum of each column: (n, k) in, (draws, k) out."""
        keys = [hashlib.sha256(column.tobytes()).digest() for column in columns.T]
        new = {key: place for place, key in enumerate(keys) if key not in self._kept}
        if new:
            wide = np.ascontiguousarray(columns[:, [*new.values()]], dtype=np.float32)
            found = np.empty((self.draws, wide.shape[1]), dtype=np.float64)
            for start in range(0, self.draws, _CHUNK):
                rows = self._weights[start : start + _CHUNK].astype(np.float32)
                found[start : start + _CHUNK] = rows @ wide
            self._kept |= {key: found[:, place] for place, key in enumerate(new)}
        return np.column_stack([self._kept[key] for key in keys])

    def prepare(self, scores: Sequence[Array], folds: npt.NDArray[np.int_]) -> None:
        """Sum at once what the comparisons of these arms will need."""
        whole = [column for column in scores if not np.isnan(column).any()]
        ones = np.ones(self.n)
        parts = [np.where(folds == fold, column, 0.0) for fold in (0, 1) for column in whole]
        masks = [(folds == fold).astype(float) for fold in (0, 1)]
        self.sums(np.column_stack([*whole, *parts, *masks, ones, 0 * ones]))

    def means(self, columns: Array) -> Array:
        """Return each draw's mean of each column, over the samples where it is no NaN."""
        known = ~np.isnan(columns)
        both = self.sums(np.hstack([np.where(known, columns, 0.0), known.astype(float)]))
        width = columns.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(both[:, :width] / both[:, width:])


def percentile_interval(draws: Array, n: int, level: float = 0.95) -> Interval:
    """Return the interval between two percentiles of bootstrap draws.

    They are spread as the t distribution and the n - 1 of the variance ask: the plain percentiles
    of few samples are too near (Hesterberg 2015, arXiv 1411.5279, "expanded percentile").
    """
    kept = draws[~np.isnan(draws)]
    if n < 2 or kept.size == 0:
        return Interval(-math.inf, math.inf)
    wide = float(stats.t.ppf((1 + level) / 2, n - 1)) * math.sqrt(n / (n - 1))
    tail = float(stats.norm.cdf(-wide))
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True)
class Difference:
    """First arm minus second, in shares.

    Attributes:
        n: Samples on which both are scored.
        detectable: Smallest true difference that such a run finds in four of five cases.
    """

    mean: float
    interval: Interval
    n: int
    detectable: float


def difference(first: Array, second: Array, resampling: Resampling) -> Difference:
    """Return the mean paired difference of scores in 0..1, and its 95 % interval.

    NaN: unscored; such samples are left out of this pair. Where all differences are equal, the
    bootstrap knows no spread; the interval then has room for what n samples may have missed: a
    share of 1 - 0.025^(1/n) of others (Clopper and Pearson's bound for none of n), as far off as
    scores can be.
    """
    gaps = first - second
    mask = ~np.isnan(gaps)
    known = gaps[mask]
    n = int(known.size)
    if n == 0:
        return Difference(math.nan, Interval(-math.inf, math.inf), 0, math.inf)
    mean = float(known.mean())
    if np.ptp(known) < ALIKE:
        missed = 1 - 0.025 ** (1 / resampling.count(mask))
        room = Interval(mean - missed * (1 + mean), mean + missed * (1 - mean))
        return Difference(mean, room, n, missed)
    sides = [np.where(mask, side, 0.0) for side in (first, second)]
    ahead, behind, weight = resampling.sums(np.column_stack([*sides, mask.astype(float)])).T
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (ahead - behind) / weight
    count = resampling.count(mask)
    found = percentile_interval(draws, count)
    return Difference(mean, found, n, detectable(known) * math.sqrt(n / count))


def detectable(gaps: Array) -> float:
    """Return the true mean difference that a two-sided 5 % test finds with power 0.8."""
    n = gaps.size
    if n < 2:
        return math.inf
    factor = float(stats.norm.ppf(0.975) + stats.norm.ppf(POWER))
    return factor * float(gaps.std(ddof=1)) / math.sqrt(n)


def needed(found: Difference, margin: float) -> int | None:
    """Return how many samples would decide, if the difference stays what it is; None: none would.

    Decided is: above 0 for certain, or below the margin for certain and not above 0.
    """
    half = (found.interval.high - found.interval.low) / 2
    room = max(found.mean, margin - found.mean)
    if not math.isfinite(half) or not room > 0:
        return None
    return math.ceil(found.n * (half / room) ** 2)


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact two-sided p of a difference between fixed and broken (McNemar 1947)."""
    total = fixed + broken
    if total == 0:
        return 1.0
    return min(1.0, 2 * float(stats.binom.cdf(min(fixed, broken), total, 0.5)))


def best_on_other_fold(members: Array, folds: npt.NDArray[np.int_]) -> Array:
    """Return the score of the member that is best on the other fold, for each sample.

    Args:
        members: (n, m) scores; NaN: unscored.
        folds: 0 or 1 for each sample.
    """
    chosen = np.array(chosen_members(members, folds))
    return np.asarray(members[np.arange(len(members)), chosen[folds]])


def chosen_members(members: Array, folds: npt.NDArray[np.int_]) -> tuple[int, int]:
    """Return which member is best outside fold 0, and outside fold 1."""
    picks = []
    for fold in (0, 1):
        outside = folds != fold
        picks.append(int(np.argmax(_means(members[outside] if outside.any() else members))))
    return picks[0], picks[1]


def difference_to_best(
    arm: Array, members: Array, folds: npt.NDArray[np.int_], resampling: Resampling
) -> Difference:
    """Return an arm minus the best member, where every draw chooses the best one anew."""
    plain = difference(arm, best_on_other_fold(members, folds), resampling)
    if plain.n == 0 or members.shape[1] == 1:
        return plain
    sums = [_fold_sums(arm, members, folds == fold, resampling) for fold in (0, 1)]
    total = np.zeros(resampling.draws)
    weight = np.zeros(resampling.draws)
    rows = np.arange(resampling.draws)
    for fold in (0, 1):
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.nan_to_num(sums[1 - fold].members / sums[1 - fold].known, nan=-1.0)
        chosen = np.argmax(means, axis=1)
        total += sums[fold].gaps[rows, chosen]
        weight += sums[fold].both[rows, chosen]
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = total / weight
    found = percentile_interval(draws, resampling.count(~np.isnan(arm)))
    if found.high - found.low < ALIKE:  # every draw is the same
        found = plain.interval
    return Difference(plain.mean, found, plain.n, plain.detectable)


@dataclass(frozen=True)
class _FoldSums:
    """Of one fold, by draw and member: sums of the members' scores and of the gaps to an arm's.

    Attributes:
        known, both: Weights of the samples where the member, and the arm too, is scored.
    """

    members: Array
    known: Array
    gaps: Array
    both: Array


def _fold_sums(
    arm: Array, members: Array, inside: npt.NDArray[np.bool_], resampling: Resampling
) -> _FoldSums:
    known = inside[:, None] & ~np.isnan(members)
    both = known & ~np.isnan(arm)[:, None]
    own = np.where(known, members, 0.0)
    columns = [own, known.astype(float), np.where(both, members, 0.0)]
    columns += [np.where(both, arm[:, None], 0.0), both.astype(float)]
    sums = np.split(resampling.sums(np.hstack(columns)), len(columns), axis=1)
    return _FoldSums(sums[0], sums[1], sums[3] - sums[2], sums[4])


def _means(columns: Array) -> Array:
    known = ~np.isnan(columns)
    return np.asarray(np.where(known, columns, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0)))


def mean_interval(scores: Array, resampling: Resampling) -> tuple[float, Interval]:
    """Return an arm's mean score and its 95 % interval."""
    found = difference(scores, np.zeros_like(scores), resampling)
    low, high = found.interval.low, found.interval.high
    return found.mean, Interval(max(0.0, low), min(1.0, high))


def recovery(
    arm: Array, best: Array, oracle: Array, resampling: Resampling
) -> tuple[float, Interval] | None:
    """Return the share of what an oracle gains over the best member that an arm gains.

    A ratio of means, resampled whole; above 1 where a synthesis beats every candidate. None where
    the oracle's gain may be 0.
    """
    known = ~(np.isnan(arm) | np.isnan(best) | np.isnan(oracle))
    gain = difference(np.where(known, oracle, np.nan), np.where(known, best, np.nan), resampling)
    if gain.n == 0 or gain.interval.low <= 0:
        return None
    columns = np.where(known[:, None], np.column_stack([arm - best, oracle - best]), np.nan)
    draws = resampling.means(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = draws[:, 0] / draws[:, 1]
    point = float(np.nanmean(columns[:, 0]) / np.nanmean(columns[:, 1]))
    return point, percentile_interval(ratios, gain.n)


def length_controlled(wins: Sequence[float], log_ratios: Sequence[float]) -> float:
    """Return the win rate at equal length: a logistic fit read at a log length ratio of 0.

    Source: AlpacaEval's length control (arXiv 2404.04475), its length term alone. Ties count half.
    """
    outcome, length = np.asarray(wins, dtype=float), np.asarray(log_ratios, dtype=float)
    scale = float(length.std()) or 1.0
    design = np.column_stack([np.ones_like(length), length / scale])
    weights = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (outcome - chance) - 1e-3 * weights  # a little ridge: fits always exist
        spread = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(spread, slope)
        weights = weights + step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(1 / (1 + math.exp(-weights[0])))
