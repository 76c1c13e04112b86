"""Intervals for shares: x of n."""

import math
from dataclasses import dataclass

from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends of an interval, included."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson(x: int, n: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a share (Wilson 1927, JASA 22); of nothing: 0 to 1."""
    if n == 0:
        return Interval(0.0, 1.0)
    z = float(stats.norm.ppf((1 + level) / 2))
    share, spread = x / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def clopper_pearson(x: int, n: int, level: float = LEVEL) -> Interval:
    """Return the exact interval of a share (Clopper and Pearson 1934, Biometrika 26)."""
    alpha = (1 - level) / 2
    low = float(stats.beta.ppf(alpha, x, n - x + 1)) if x > 0 else 0.0
    high = float(stats.beta.ppf(1 - alpha, x + 1, n - x)) if x < n else 1.0
    return Interval(low, high)


def lower_bound(x: int, n: int, level: float = LEVEL) -> float:
    """Return the exact one-sided lower bound of a share."""
    return clopper_pearson(x, n, 2 * level - 1).low


def upper_bound(x: int, n: int, level: float = LEVEL) -> float:
    """Return the exact one-sided upper bound of a share."""
    return clopper_pearson(x, n, 2 * level - 1).high
