"""Two reports of the same samples beside each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from localfusion.errors import EvaluationError
from localfusion.evals.report.cost import ends
from localfusion.evals.report.text import percent, span, table_lines
from localfusion.evals.report.verdict import points
from localfusion.evals.samples import Json
from localfusion.evals.stats.intervals import Interval
from localfusion.evals.stats.paired import Array, Resampling, difference

Told = Mapping[str, Any]
Ends = tuple[Array, Array]


def compare(first: Told, second: Told) -> Json:
    """Return each arm's score in both evaluations.

    Raises:
        EvaluationError: they asked other samples, or scored in another way.
    """
    for key, what in (("data", "samples"), ("scoring", "scoring")):
        if first["identity"][key] != second["identity"][key]:
            raise EvaluationError(
                f"the two evaluations differ in their {what}, so their scores do not compare; run "
                "both with the same suite, --limit, --seed and --data"
            )
    arms = {arm["name"]: arm for arm in first["arms"]}
    resampling = Resampling(first["n"])
    rows = [
        {
            "arm": arm["name"],
            "first": arms[arm["name"]]["score"],
            "first_interval": arms[arm["name"]]["interval"],
            "second": arm["score"],
            "second_interval": arm["interval"],
            **_gap(_ends(first, arm["name"]), _ends(second, arm["name"]), resampling),
        }
        for arm in second["arms"]
        if arm["name"] in arms
    ]
    mine, theirs = first["identity"], second["identity"]
    changed = sorted(
        key
        for key in ("engines", "prompts", "settings", "members", "judge", "seed", "localfusion")
        if mine.get(key) != theirs.get(key)
    )
    return {
        "samples": first["n"],
        "changed": changed,
        "verdicts": [first["verdict"]["sentence"], second["verdict"]["sentence"]],
        "arms": rows,
    }


def _ends(report: Told, arm: str) -> tuple[Array, Array]:
    """Return an arm's scores, and those that it would have were all unscored parts met."""
    low = report["scores"][arm]
    both = low, report["scores_high"].get(arm, low)
    first, second = (np.array([np.nan if s is None else s for s in one]) for one in both)
    return first, second


def _gap(before: Ends, after: Ends, resampling: Resampling) -> Json:
    """Return the paired difference of an arm between two evaluations, holding at both ends."""
    low = difference(after[0], before[1], resampling)
    high = difference(after[1], before[0], resampling)
    known = (low.mean + high.mean) / 2 if low.n else None
    return {
        "difference": known,
        "interval": ends(Interval(low.interval.low, high.interval.high)),
    }


def compare_text(told: Told) -> str:
    """Return a comparison as plain text."""
    changed = ", ".join(told["changed"]) or "nothing that is recorded"
    rows = [
        [
            row["arm"],
            percent(row["first"]),
            span(row["first_interval"]),
            percent(row["second"]),
            span(row["second_interval"]),
            "–" if row["difference"] is None else points(row["difference"]),
            span(row["interval"]),
        ]
        for row in told["arms"]
    ]
    head = ["arm", "first", "95 % CI", "second", "95 % CI", "difference", "95 % CI"]
    lines = [f"first:  {told['verdicts'][0]}", f"second: {told['verdicts'][1]}"]
    lines += [f"{told['samples']} samples; different: {changed}", "", *table_lines(head, rows)]
    return "\n".join(lines)
