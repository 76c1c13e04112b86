"""What the served arm fixes and breaks against the best member, with examples."""

import numpy as np

from localfusion.evals.report.cost import ends, number
from localfusion.evals.report.table import Table
from localfusion.evals.results import BEST, MEMBER
from localfusion.evals.samples import Json
from localfusion.evals.stats.paired import Array, mcnemar
from localfusion.evals.stats.panel import RIGHT, transitions

MOST_EXAMPLES = 3
MOST_TEXT = 1200
"""Characters of an example."""
FLIP = 0.02
"""Graded scores that differ by more are a flip."""


def flips_form(table: Table, served: str) -> Json:
    """Return what the served arm fixes and breaks against the best member, with examples."""
    fixed, broken = changes(table.low[BEST], table.low[served])
    members = table.member_scores
    all_right = np.asarray((members > RIGHT).all(axis=1))
    corrupted = [row for row in broken if all_right[row] and table.low[served][row] <= RIGHT]
    return {
        "against": BEST,
        "fixed": len(fixed),
        "broken": len(broken),
        "p": mcnemar(len(fixed), len(broken)),
        "corrupted": len(corrupted),
        "examples": [
            *(_example(table, served, row, "fixed") for row in fixed[:MOST_EXAMPLES]),
            *(_example(table, served, row, "broken") for row in broken[:MOST_EXAMPLES]),
            *(
                _example(table, served, row, "all members right")
                for row in corrupted
                if row not in broken[:MOST_EXAMPLES]
            ),
        ],
    }


def changes(before: Array, after: Array) -> tuple[list[int], list[int]]:
    """Return the samples that an arm fixes and breaks, by row."""
    gaps = after - before
    return list(np.flatnonzero(gaps > FLIP)), list(np.flatnonzero(gaps < -FLIP))


def _example(table: Table, served: str, row: int, kind: str) -> Json:
    sample = table.results.dataset.samples[row]
    outcome = table.outcomes[served][row][0]
    gold = sample.gold.get("answer")
    return {
        "kind": kind,
        "sample": sample.id,
        "task": sample.task,
        "question": sample.messages[-1].content[:MOST_TEXT],
        "gold": None if gold is None else str(gold)[:MOST_TEXT],
        "members": [
            {
                "member": name,
                "text": one.text[:MOST_TEXT],
                "score": one.score.value,
                "extracted": None if one.score.extracted is None else one.score.extracted[:200],
            }
            for name in table.members
            for one in table.outcomes[MEMBER + name][row]
        ],
        "answer": outcome.text[:MOST_TEXT],
        "extracted": None if outcome.score.extracted is None else outcome.score.extracted[:200],
        "score": outcome.score.value,
        "trace": outcome.trace,
    }


def transitions_form(table: Table, served: str) -> list[Json]:
    """Return how often the answer is right, by how many members are."""
    names = {0: "emergence", 1: "rescue", len(table.members): "all members right"}
    return [
        {
            "members_right": one.right_members,
            "name": names.get(one.right_members, ""),
            "n": one.n,
            "right": one.right,
            "share": number(one.share),
            "interval": ends(one.interval),
        }
        for one in transitions(table.low[served], table.member_scores)
        if one.n
    ]
