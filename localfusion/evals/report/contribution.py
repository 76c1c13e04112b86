"""Who of the panel earns a place: Shapley values, leave-one-out, and what lone findings become."""

from collections.abc import Mapping

import numpy as np

from localfusion.evals.arms import SUBSET
from localfusion.evals.report.cost import ends
from localfusion.evals.report.table import Table
from localfusion.evals.results import MEMBER, Live
from localfusion.evals.samples import Json
from localfusion.evals.stats.panel import leave_one_out, retention, shapley, substitutes


def contribution_form(table: Table, served: str) -> Json | None:
    """Return what each member adds; None unless the panel's subsets were judged.

    The value of a subset is the mean score of the answer that is made of it alone; of one member,
    its own; of none, 0.
    """
    values = _values(table, served)
    names = table.members
    if values is None or len(names) < 2:
        return None

    def value(chosen: frozenset[str]) -> float:
        return values[chosen]

    worth, losses = shapley(names, value), leave_one_out(names, value)
    seconds = _engine_seconds(table)
    return {
        "worth": [
            {
                "member": name,
                "alone": values[frozenset({name})],
                "shapley": worth[name],
                "leave_one_out": losses[name],
                "engine_seconds": seconds.get(name),
                "per_engine_second": worth[name] / seconds[name] if seconds.get(name) else None,
            }
            for name in names
        ],
        "substitutes": [
            {"first": a, "second": b, "cover": cover}
            for (a, b), cover in substitutes(names, value).items()
        ]
        if len(names) > 2
        else [],
    }


def _values(table: Table, served: str) -> dict[frozenset[str], float] | None:
    names = table.members
    arms = {frozenset({name}): MEMBER + name for name in names}
    arms[frozenset(names)] = served
    arms |= {
        frozenset(arm.removeprefix(SUBSET).split("+")): arm
        for arm in table.low
        if arm.startswith(SUBSET)
    }
    if len(arms) != 2 ** len(names) - 1 or any(arm not in table.low for arm in arms.values()):
        return None
    columns = np.column_stack([table.low[arm] for arm in arms.values()])
    known = columns[~np.isnan(columns).any(axis=1)]  # the same samples for every subset
    if not known.size:
        return None
    values = {chosen: float(known[:, place].mean()) for place, chosen in enumerate(arms)}
    values[frozenset()] = 0.0
    return values


def _engine_seconds(table: Table) -> dict[str, float]:
    """Return each member's mean engine-seconds for a sample, from the live ones."""
    found: dict[str, list[Live]] = {}
    for one in table.results.live:
        if one.arm.startswith(MEMBER) and one.status != "failed":
            found.setdefault(one.arm.removeprefix(MEMBER), []).append(one)
    return {
        name: sum(sum(one.engine_seconds.values()) for one in live) / len(live)
        for name, live in found.items()
    }


def retention_form(table: Table, served: str) -> Json | None:
    """Return how often the answer has what k members found, and repeats what they got wrong.

    None where scores have no parts. Faults are criteria of negative weight, and ``error:`` entries
    of fact sheets.
    """
    if served not in table.outcomes:
        return None
    answers, panels = [], []
    faults: set[str] = set()
    for row, sample in enumerate(table.results.dataset.samples):
        outcomes = table.outcomes[served][row]
        members = [table.outcomes[MEMBER + name][row] for name in table.members]
        if not outcomes or not all(members) or not outcomes[0].score.parts:
            continue
        answers.append(outcomes[0].score.parts)
        panels.append([member[0].score.parts for member in members])
        faults |= _faults(sample.gold)
    if not answers:
        return None
    found: Json = {"members": len(table.members)}
    for name, is_fault in (("found", False), ("faults", True)):
        counts = retention(
            answers,
            panels,
            lambda criterion, wanted=is_fault: _is_fault(criterion, faults) == wanted,  # type: ignore[misc]
        )
        found[name] = [
            {
                "members": k,
                "x": count.x,
                "n": count.n,
                "share": count.share,
                "interval": ends(count.interval),
            }
            for k, count in counts.items()
        ]
    return found


def _is_fault(criterion: str, faults: set[str]) -> bool:
    return criterion.startswith("error:") or criterion in faults


def _faults(gold: Mapping[str, object]) -> set[str]:
    criteria = gold.get("criteria")
    if not isinstance(criteria, list | tuple):
        return set()
    return {str(one["id"]) for one in criteria if float(one["weight"]) < 0}
