"""What the members of the panel have in common."""

from localfusion.evals.report.cost import ends, number
from localfusion.evals.report.table import Table
from localfusion.evals.results import BEST, MEMBER
from localfusion.evals.samples import Json
from localfusion.evals.stats.panel import RIGHT, Count, Pairing, co_failure, headroom, pairing


def panel_form(table: Table) -> Json:
    """Return what members have in common: where all fail, and where a choice could gain."""
    members, best = table.member_scores, table.low[BEST]
    names = table.members
    pairs = [
        {"first": a, "second": b, **_pair(pairing(members[:, i], members[:, j]))}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    ]
    return {
        "best": list(dict.fromkeys(table.best_members)),
        "co_failure": _count(co_failure(members)),
        "headroom": _count(headroom(members, best)),
        "same_wrong": _count(_same_wrong(table)),
        "pairs": pairs,
    }


def _pair(found: Pairing) -> Json:
    if not found.n:
        return {}
    return {
        "disagreement": found.disagreement,
        "double_fault": found.double_fault,
        "q": number(found.q),
        "kappa": number(found.kappa),
    }


def _same_wrong(table: Table) -> Count:
    """Count the samples where all members give the same wrong answer: no vote can see it."""
    x = n = 0
    for row in range(len(table.results.dataset.samples)):
        answers = [table.outcomes[MEMBER + name][row] for name in table.members]
        if not all(answers):
            continue
        n += 1
        flat = [outcome for each in answers for outcome in each]
        said = {outcome.score.extracted for outcome in flat}
        wrong = all((outcome.score.value or 0.0) <= RIGHT for outcome in flat)
        x += wrong and len(said) == 1 and None not in said and len(flat) > 1
    return Count(x, n)


def _count(found: Count) -> Json:
    return {
        "x": found.x,
        "n": found.n,
        "share": number(found.share),
        "interval": ends(found.interval),
    }
