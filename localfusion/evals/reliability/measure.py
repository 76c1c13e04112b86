"""Marks of cases into shares, bounds and outcomes. Pure.

Outcomes are by one-sided 95 % bounds: ``pass``: the bound is inside the bar; ``fail``: the opposite
bound is outside; else ``undecided``. What could not be read is in no share, and is counted.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from localfusion.evals.reliability.cases import Bar, Mark
from localfusion.evals.stats.intervals import lower_bound, upper_bound, wilson
from localfusion.evals.stats.panel import Pairing

Outcome = Literal["pass", "fail", "undecided", "shown"]
ONE_SIDED = 0.9
"""Level of an interval each of whose ends is a one-sided 95 % bound."""


@dataclass(frozen=True, slots=True)
class Share:
    """x of n, with both one-sided 95 % bounds (Clopper and Pearson 1934)."""

    x: int
    n: int

    @property
    def rate(self) -> float | None:
        return self.x / self.n if self.n else None

    @property
    def low(self) -> float:
        return lower_bound(self.x, self.n) if self.n else 0.0

    @property
    def high(self) -> float:
        return upper_bound(self.x, self.n) if self.n else 1.0


@dataclass(frozen=True, slots=True)
class Difference(Pairing):
    """Of two shares of the same cases, with one-sided 95 % bounds."""

    @property
    def base(self) -> Share:
        return Share(self.both + self.second, self.n)

    @property
    def value(self) -> float:
        return (self.first - self.second) / self.n if self.n else 0.0

    @property
    def low(self) -> float:
        return self.bounds()[0]

    @property
    def high(self) -> float:
        return self.bounds()[1]

    def bounds(self, level: float = ONE_SIDED) -> tuple[float, float]:
        """Return bounds by method 10 of Newcombe (1998), Statistics in Medicine 17:2635-2650.

        Args:
            level: Of the interval between both; default: each of them is one-sided at 95 %.
        """
        n = self.n
        if not n:
            return -1.0, 1.0
        one, two = (self.both + self.first) / n, (self.both + self.second) / n
        around_one = wilson(self.both + self.first, n, level)
        around_two = wilson(self.both + self.second, n, level)
        phi = self._correlation()
        down, up = one - around_one.low, around_two.high - two
        below = math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
        down, up = two - around_two.low, around_one.high - one
        above = math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
        return self.value - below, self.value + above

    def _correlation(self) -> float:
        a, b, c, d = self.both, self.first, self.second, self.neither
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if margins == 0:
            return 0.0
        cross = a * d - b * c
        # Newcombe's continuity correction, where the correlation is positive.
        shifted = max(cross - self.n / 2, 0.0) if cross > 0 else float(cross)
        return shifted / math.sqrt(margins)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a criterion has come to.

    Attributes:
        difference: To what it is compared with, over the cases that have both; None: nothing.
        right, wrong: The share where the judge answers rightly, or wrongly, when it is alone; of a
            comparison with ``right_base`` and ``wrong_base``.
        unscored: Cases that could not be read, each with its question's id.
    """

    criterion: str
    bar: Bar
    share: Share
    difference: Difference | None
    right: Share
    wrong: Share
    right_base: Share
    wrong_base: Share
    unscored: tuple[str, ...]
    outcome: Outcome


Marked = tuple[str, Mark, bool | None]
"""A case's id, its mark, and whether the judge is right there alone; None: not known."""


def find(criterion: str, bar: Bar, marked: Sequence[Marked]) -> Finding:
    """Hold the marks of a test's cases to one criterion."""
    is_compared = any(mark.base is not None for _, mark, _ in marked)
    scored = [entry for entry in marked if entry[1].met is not None]
    if is_compared:
        scored = [entry for entry in scored if entry[1].base is not None]
    known = {id for id, _, _ in scored}
    share = _share(scored, lambda mark: mark.met)
    difference = _difference(mark for _, mark, _ in scored) if is_compared else None
    right = [entry for entry in scored if entry[2] is True]
    wrong = [entry for entry in scored if entry[2] is False]
    return Finding(
        criterion,
        bar,
        share,
        difference,
        _share(right, lambda mark: mark.met),
        _share(wrong, lambda mark: mark.met),
        _share(right, lambda mark: mark.base),
        _share(wrong, lambda mark: mark.base),
        tuple(id for id, _, _ in marked if id not in known),
        outcome_of(bar, share, difference),
    )


def outcome_of(bar: Bar, share: Share, difference: Difference | None) -> Outcome:
    """Decide by the one-sided bounds; nothing scored decides nothing."""
    if bar.kind == "shown":
        return "shown"
    if share.n == 0:
        return "undecided"
    limit = bar.limit or 0.0
    match bar.kind:
        case "at least" | "above":
            return _decide(share.low >= limit, share.high < limit)
        case "at most":
            return _decide(share.high <= limit, share.low > limit)
        case "never":
            return _decide(share.x == 0 and (bar.limit is None or share.high <= limit), share.x > 0)
    if difference is None or difference.n == 0:
        return "undecided"
    if bar.kind == "not below":
        return _decide(difference.low >= -limit, difference.high < -limit)
    return _decide(difference.high <= limit, difference.low > limit)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return a test's outcome: all its criteria must pass; without a bar there is none."""
    found = set(outcomes)
    order: tuple[Outcome, ...] = ("fail", "undecided", "pass")
    return next((outcome for outcome in order if outcome in found), "shown")


def _decide(is_inside: bool, is_outside: bool) -> Outcome:
    if is_inside:
        return "pass"
    return "fail" if is_outside else "undecided"


def _share(marked: Sequence[Marked], value: Callable[[Mark], bool | None]) -> Share:
    found = [value(mark) for _, mark, _ in marked]
    known = [one for one in found if one is not None]
    return Share(sum(known), len(known))


def _difference(marks: Iterable[Mark]) -> Difference:
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for mark in marks:
        counts[bool(mark.met), bool(mark.base)] += 1
    return Difference(
        counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    )
