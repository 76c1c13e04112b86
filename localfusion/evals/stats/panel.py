"""What the members of a panel have in common, and what each adds."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from localfusion.evals.stats.intervals import Interval, clopper_pearson, wilson
from localfusion.evals.stats.paired import Array

RIGHT = 0.5
"""A score above it counts as right, where scores are graded."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """How often two members are right together.

    Attributes:
        q: Yule's Q, from -1 to 1; NaN where a cell pair is empty.
        kappa: Cohen's, of being right.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.first + self.second + self.neither

    @property
    def disagreement(self) -> float:
        return (self.first + self.second) / self.n

    @property
    def double_fault(self) -> float:
        return self.neither / self.n

    @property
    def q(self) -> float:
        good, bad = self.both * self.neither, self.first * self.second
        return (good - bad) / (good + bad) if good + bad else math.nan

    @property
    def kappa(self) -> float:
        seen = (self.both + self.neither) / self.n
        a, b = (self.both + self.first) / self.n, (self.both + self.second) / self.n
        chance = a * b + (1 - a) * (1 - b)
        return (seen - chance) / (1 - chance) if chance < 1 else math.nan


def pairing(first: Array, second: Array) -> Pairing:
    """Count two members' right and wrong answers against each other."""
    known = ~(np.isnan(first) | np.isnan(second))
    a, b = first[known] > RIGHT, second[known] > RIGHT
    return Pairing(
        int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
    )


@dataclass(frozen=True, slots=True)
class Count:
    """x of n, as a share with its exact interval."""

    x: int
    n: int

    @property
    def share(self) -> float:
        return self.x / self.n if self.n else math.nan

    @property
    def interval(self) -> Interval:
        return clopper_pearson(self.x, self.n)


def co_failure(members: Array) -> Count:
    """Count the samples where every member is wrong: no selection exceeds the rest.

    Source: arXiv 2606.27288; pairwise figures cannot tell it.
    """
    known = members[~np.isnan(members).any(axis=1)]
    return Count(int((known <= RIGHT).all(axis=1).sum()), int(known.shape[0]))


def headroom(members: Array, best: Array) -> Count:
    """Count the samples where the best member is wrong and some member right."""
    known = ~(np.isnan(members).any(axis=1) | np.isnan(best))
    right = (members[known] > RIGHT).any(axis=1)
    return Count(int(((best[known] <= RIGHT) & right).sum()), int(known.sum()))


@dataclass(frozen=True, slots=True)
class Transition:
    """How often the arm is right where k of the members are."""

    right_members: int
    n: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.n if self.n else math.nan

    @property
    def interval(self) -> Interval:
        return wilson(self.right, self.n)


def transitions(arm: Array, members: Array) -> list[Transition]:
    """Return, for each number of members that are right, how often the arm is."""
    known = ~(np.isnan(members).any(axis=1) | np.isnan(arm))
    counts = (members[known] > RIGHT).sum(axis=1)
    right = arm[known] > RIGHT
    return [
        Transition(k, int((counts == k).sum()), int(right[counts == k].sum()))
        for k in range(members.shape[1] + 1)
    ]


def retention(
    parts: Sequence[Mapping[str, bool | None]],
    members: Sequence[Sequence[Mapping[str, bool | None]]],
    wanted: Callable[[str], bool],
) -> dict[int, Count]:
    """Return, for each number of members that have a finding, how often the answer has it.

    Args:
        parts: Of the answer, by sample: criterion to whether it is met.
        members: Of each member's answer, by sample.
        wanted: Which criteria count.
    """
    found: dict[int, list[int]] = {}
    for answer, panel in zip(parts, members, strict=True):
        for criterion, met in answer.items():
            held = [one.get(criterion) for one in panel]
            if met is None or None in held or not wanted(criterion):
                continue
            counted = found.setdefault(sum(map(bool, held)), [0, 0])
            counted[0] += met
            counted[1] += 1
    return {k: Count(x, n) for k, (x, n) in sorted(found.items())}


Value = Callable[[frozenset[str]], float]


def shapley(members: Sequence[str], value: Value) -> dict[str, float]:
    """Return each member's exact Shapley value: its mean gain over all orders of joining.

    Source: Shapley 1953. All 2^N subsets are asked for.

    Args:
        members: N names.
        value: Score of a subset; of none: 0, or what the judge scores alone.
    """
    n = len(members)
    found = {}
    for member in members:
        others = [other for other in members if other != member]
        total = 0.0
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for chosen in itertools.combinations(others, size):
                before = frozenset(chosen)
                total += weight * (value(before | {member}) - value(before))
        found[member] = total
    return found


def leave_one_out(members: Sequence[str], value: Value) -> dict[str, float]:
    """Return what the whole panel loses without each member; members that repeat another: 0."""
    whole = frozenset(members)
    return {member: value(whole) - value(whole - {member}) for member in members}


def substitutes(members: Collection[str], value: Value) -> dict[tuple[str, str], float]:
    """Return, for each two members, how far each covers for the other: above 0, they do."""
    whole = frozenset(members)
    return {
        (a, b): value(whole - {a}) + value(whole - {b}) - value(whole) - value(whole - {a, b})
        for a, b in itertools.combinations(members, 2)
    }
