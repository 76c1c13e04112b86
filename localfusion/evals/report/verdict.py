"""The first line of a report, in plain words, and the rules behind it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localfusion.evals.arms import SUBSET
from localfusion.evals.report.table import COMPUTED, Table
from localfusion.evals.results import BEST, MEMBER
from localfusion.evals.stats.paired import Difference, needed

Kind = Literal["pays", "does not pay", "undecided"]
UNDERPOWERED = 100
"""Samples below which no claim is more than a hint."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison comes to.

    Attributes:
        needed: Samples that would decide it, where it is undecided and any would.
        is_small: It pays, but by less than the margin.
    """

    kind: Kind
    is_small: bool = False
    needed: int | None = None


def judge(found: Difference, margin: float) -> Verdict:
    """Return ``pays`` where the gain is above 0 for certain; ``does not pay`` where it is not, and
    below the margin for certain; else ``undecided``.
    """
    low, high = found.interval.low, found.interval.high
    if low > 0:
        return Verdict("pays", is_small=high < margin)
    if high < margin:
        return Verdict("does not pay")
    return Verdict("undecided", needed=needed(found, margin))


def points(share: float, *, signed: bool = True) -> str:
    """Write a share in points, with a minus sign that is one."""
    if not math.isfinite(share):
        return "∞" if share > 0 else "−∞" if share < 0 else "–"
    text = f"{abs(share) * 100:.1f}"
    if share < 0 and float(text) != 0:
        return f"−{text}"
    return f"+{text}" if signed and float(text) != 0 else text


def interval_text(found: Difference) -> str:
    """Write a difference with its interval: ``−1.0 points, 95 % CI −4.1…2.2``."""
    low = points(found.interval.low, signed=False)
    high = points(found.interval.high, signed=False)
    return f"{points(found.mean)} points, 95 % CI {low}…{high}"


def sentence(table: Table) -> str:
    """Return the plain verdict on the primary comparison."""
    plan = table.results.plan
    first, second = plan.primary
    found = table.compare(first, second)
    verdict = judge(found, plan.margin)
    what = "the panel" if first == "fuse" else f"the panel with {first}"
    told = interval_text(found)
    n = found.n
    begin = f"On these {n} tasks"
    match verdict.kind:
        case "pays":
            less = f", by less than {points(plan.margin, signed=False)} points" * verdict.is_small
            text = f"{begin} {what} beats its best member{less} ({told})"
        case "does not pay":
            text = f"{begin} {what} does not beat its best member ({told})"
        case _:
            text = f"{begin} it is undecided whether {what} beats its best member ({told})"
            if verdict.needed is not None:
                text += f"; about {verdict.needed} tasks would decide"
    better = winners(table, exclude=first)
    if verdict.kind != "pays" and better:
        text += f"; {' and '.join(better)} would"
    if n < UNDERPOWERED:
        text += "; underpowered"
    return text + "."


def winners(table: Table, *, exclude: str) -> list[str]:
    """Return the other arms that beat the best member for certain, the best first."""
    found = []
    for arm in table.results.plan.arms:
        if arm == exclude or arm not in table.low or arm in COMPUTED:
            continue
        gap = table.compare(arm, BEST)
        if gap.n and gap.interval.low > 0:
            found.append((gap.mean, arm))
    return [arm for _, arm in sorted(found, reverse=True)[:2]]


def shown_arms(table: Table) -> Sequence[str]:
    """Return the arms of the tables: members, those of the plan, those that cost no call."""
    members = [MEMBER + name for name in table.members]
    planned = [arm for arm in table.results.plan.arms if arm in table.low]
    subsets = [arm for arm in planned if arm.startswith(SUBSET)]
    return [*members, *(arm for arm in planned if arm not in subsets), *COMPUTED]
