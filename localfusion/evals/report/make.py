"""``report.json``: everything that the views show, as JSON values. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from localfusion.errors import EvaluationError
from localfusion.evals.report.contribution import contribution_form, retention_form
from localfusion.evals.report.cost import ends, frontier, live_cost, tokens
from localfusion.evals.report.table import BEST, COMPUTED, Table, make_table
from localfusion.evals.report.verdict import (
    UNDERPOWERED,
    judge,
    points,
    sentence,
    shown_arms,
    winners,
)
from localfusion.evals.results import MEMBER, Live, Outcome, Results
from localfusion.evals.samples import Json
from localfusion.evals.stats.paired import (
    Array,
    length_controlled,
    mcnemar,
    mean_interval,
    recovery,
)
from localfusion.evals.stats.panel import (
    RIGHT,
    Count,
    Pairing,
    co_failure,
    headroom,
    pairing,
    transitions,
)

FORMAT = 1
MOST_EXAMPLES = 3
MOST_LISTED = 50
MOST_TEXT = 1200
"""Characters of an example."""
FLIP = 0.02
"""Graded scores that differ by more are a flip."""
PAIRS = (
    ("judge", "does the panel help, or would the judge alone have answered as well"),
    ("self_fusion", "is it diversity, or only more sampling"),
    ("vote", "is synthesis worth its decode, against counting"),
    ("select", "is synthesis worth its decode, against choosing"),
    ("placebo", "is it better than a candidate drawn at random"),
)
FURTHER = (
    ("select", "placebo", "can this judge pick at all"),
    ("vote", BEST, "does counting pay"),
    ("judge", "foreign", "how far drafts of another question pull the judge"),
    ("self_vote", BEST, "does sampling the best member pay"),
)


WHOLE = frozenset({"vote", "select", "fuse", "auto", "consensus", "verify"})
"""Arms that answer from the whole recorded panel, with the variants of ``fuse``."""


def check_panels(results: Results) -> None:
    """Refuse results whose arms did not answer from the same panels.

    Raises:
        EvaluationError: names the sample and the arms.
    """
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for outcome in results.outcomes:
        if outcome.arm.partition(":")[0] not in WHOLE or not outcome.panel:
            continue
        place = outcome.sample, outcome.repeat
        first, panel = seen.setdefault(place, (outcome.arm, outcome.panel))
        if panel != outcome.panel:
            raise EvaluationError(
                f"{first} and {outcome.arm} did not answer from the same panel to sample "
                f"{outcome.sample}, so they do not compare; run the evaluation anew"
            )


def make_report(results: Results) -> Json:
    """Return the report of what has been found so far.

    Raises:
        EvaluationError: arms answered from different panels.
    """
    check_panels(results)
    table = make_table(results)
    live: dict[str, list[Live]] = {}
    for one in results.live:
        live.setdefault(one.arm, []).append(one)
    arms = [_arm(name, table, live.get(name, ())) for name in shown_arms(table)]
    served = results.plan.primary[0]
    has_served = served in table.low
    primary = table.compare(*results.plan.primary) if has_served else None
    told: Json = {
        "format": FORMAT,
        "suite": results.plan.suite,
        "source": results.dataset.source,
        "note": results.dataset.note,
        "preset": results.plan.preset,
        "served": served,
        "n": len(results.dataset.samples),
        "verdict": _verdict(table) if has_served else _none(results),
        "power": None
        if primary is None
        else {
            "detectable": _number(primary.detectable),
            "is_underpowered": primary.n < UNDERPOWERED,
            "sentence": f"This run can detect differences of "
            f"{points(primary.detectable, signed=False)} points (power 0.8).",
        },
        "arms": arms,
        "comparisons": _comparisons(table),
        "flips": _flips(table, served) if has_served else None,
        "transitions": _transitions(table, served) if has_served else [],
        "panel": _panel(table),
        "members": contribution_form(table, served),
        "retention": retention_form(table, served),
        "recovery": _recovery(table, served) if has_served else None,
        "frontier": frontier(arms),
        "tasks": _tasks(table),
        "failures": _failures(results),
        "unscored": _unscored(results)[:MOST_LISTED],
        "unscored_count": len(_unscored(results)),
        "calls": {"panel": results.panel_calls, "judge": results.judge_calls},
        "problems": list(results.problems),
        "notes": list(results.notes),
        "identity": _identity(results),
        "scores": {arm: [_number(score) for score in table.low[arm]] for arm in shown_arms(table)},
        "scores_high": {
            arm: [_number(score) for score in table.high[arm]]
            for arm in shown_arms(table)
            if not np.array_equal(table.low[arm], table.high[arm], equal_nan=True)
        },
        "lengths": _lengths(table),
    }
    return told


def _lengths(table: Table) -> list[Json]:
    """Return win rates at equal length, of samples whose answers are compared with others."""
    samples = table.results.dataset.samples
    found: list[Json] = []
    for arm in shown_arms(table):
        wins, ratios = [], []
        for sample, outcomes in zip(samples, table.outcomes.get(arm, ()), strict=False):
            reference = str(sample.gold.get("reference", ""))
            for outcome in outcomes if sample.scorer == "pair" and reference else ():
                if outcome.score.value is not None and outcome.text:
                    wins.append(outcome.score.value)
                    ratios.append(math.log(len(outcome.text) / len(reference)))
        if len(wins) > 1:
            mean = math.exp(sum(ratios) / len(ratios))
            at_equal = length_controlled(wins, ratios)
            found.append({"arm": arm, "n": len(wins), "length": mean, "at_equal": at_equal})
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _none(results: Results) -> Json:
    return {
        "kind": "unfinished",
        "sentence": f"{results.plan.primary[0]} has not answered yet: "
        f"{len(results.recordings)} recordings, no verdict.",
        "better": [],
    }


def _verdict(table: Table) -> Json:
    plan = table.results.plan
    found = table.compare(*plan.primary)
    verdict = judge(found, plan.margin)
    return {
        "kind": verdict.kind,
        "sentence": sentence(table),
        "difference": _number(found.mean),
        "interval": ends(found.interval),
        "n": found.n,
        "margin": plan.margin,
        "needed": verdict.needed,
        "better": winners(table, exclude=plan.primary[0]),
    }


def _arm(name: str, table: Table, live: Sequence[Live]) -> Json:
    scores = (table.low[name] + table.high[name]) / 2
    mean, interval = mean_interval(scores, table.resampling)
    outcomes = table.outcomes.get(name, ())
    flat = [outcome for row in outcomes for outcome in row]
    kind = "computed" if name in COMPUTED else "member" if name.startswith(MEMBER) else "arm"
    return {
        "name": name,
        "kind": kind,
        "score": _number(mean),
        "interval": ends(interval),
        "n": int(np.isfinite(scores).sum()),
        "missing": sum(not row for row in outcomes),
        "unscored": sum(outcome.score.value is None for outcome in flat),
        "partly_scored": sum(outcome.score.high is not None for outcome in flat),
        "not_extracted": sum(_is_unread(outcome) for outcome in flat),
        "cut": sum(outcome.finish_reason == "length" for outcome in flat),
        "failed": sum(outcome.status == "failed" for outcome in flat),
        "degraded": sum(outcome.status in ("degraded", "panel_only") for outcome in flat),
        "exits": dict(Counter(outcome.exit for outcome in flat if outcome.exit)),
        "tokens": tokens(outcomes),
        "live": live_cost(live) if live else None,
    }


def _is_unread(outcome: Outcome) -> bool:
    return outcome.score.value is not None and outcome.score.extracted is None


def _comparisons(table: Table) -> list[Json]:
    plan = table.results.plan
    first = plan.primary[0]
    wanted = [(*plan.primary, "does it pay")]
    wanted += [(first, second, what) for second, what in PAIRS]
    wanted += [("oracle", first, "what is left on the table"), *FURTHER]
    wanted += [(arm, BEST, "") for arm in plan.arms]
    seen: set[tuple[str, str]] = set()
    found = []
    for a, b, what in wanted:
        if (a, b) in seen or a == b or a not in table.low or b not in table.low:
            continue
        if a.startswith("subset:"):
            continue
        seen.add((a, b))
        found.append(_comparison(table, a, b, what))
    return found


def _comparison(table: Table, a: str, b: str, what: str) -> Json:
    plan = table.results.plan
    gap = table.compare(a, b)
    fixed, broken = _changes(table.low[b], table.low[a])
    return {
        "first": a,
        "second": b,
        "what": what,
        "difference": _number(gap.mean),
        "interval": ends(gap.interval),
        "n": gap.n,
        "fixed": len(fixed),
        "broken": len(broken),
        "p": mcnemar(len(fixed), len(broken)),
        "verdict": judge(gap, plan.margin).kind if gap.n else "undecided",
        "is_primary": (a, b) == plan.primary,
    }


def _changes(before: Array, after: Array) -> tuple[list[int], list[int]]:
    """Return the samples that an arm fixes and breaks, by row."""
    gaps = after - before
    return list(np.flatnonzero(gaps > FLIP)), list(np.flatnonzero(gaps < -FLIP))


def _flips(table: Table, served: str) -> Json:
    fixed, broken = _changes(table.low[BEST], table.low[served])
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


def _transitions(table: Table, served: str) -> list[Json]:
    names = {0: "emergence", 1: "rescue", len(table.members): "all members right"}
    return [
        {
            "members_right": one.right_members,
            "name": names.get(one.right_members, ""),
            "n": one.n,
            "right": one.right,
            "share": _number(one.share),
            "interval": ends(one.interval),
        }
        for one in transitions(table.low[served], table.member_scores)
        if one.n
    ]


def _panel(table: Table) -> Json:
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
        "q": _number(found.q),
        "kappa": _number(found.kappa),
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
        "share": _number(found.share),
        "interval": ends(found.interval),
    }


def _recovery(table: Table, served: str) -> Json | None:
    oracle = table.low["oracle"]
    found = recovery(table.low[served], table.low[BEST], oracle, table.resampling)
    regret = table.compare("oracle", served)
    told: Json = {"regret": _number(regret.mean), "regret_interval": ends(regret.interval)}
    if found is not None:
        told |= {"share": found[0], "interval": ends(found[1])}
    return told


def _tasks(table: Table) -> list[Json]:
    samples = table.results.dataset.samples
    found = []
    for task in dict.fromkeys(sample.task for sample in samples):
        rows = [row for row, sample in enumerate(samples) if sample.task == task]
        scores: Mapping[str, float | None] = {
            arm: _mean_of(table.low[arm][rows]) for arm in shown_arms(table)
        }
        found.append({"task": task, "n": len(rows), "scores": scores})
    return found


def _mean_of(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _failures(results: Results) -> list[Json]:
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in results.outcomes:
        if outcome.reason is not None or outcome.status == "failed":
            counts[outcome.arm, outcome.reason or outcome.status] += 1
    for one in results.live:
        if one.status == "failed":
            counts[one.arm, f"live: {(one.error or '')[:80]}"] += 1
    return [
        {"arm": arm, "reason": reason, "count": count}
        for (arm, reason), count in sorted(counts.items())
    ]


def _unscored(results: Results) -> list[Json]:
    found: list[Json] = [
        {"arm": outcome.arm, "sample": outcome.sample, "why": outcome.score.detail}
        for outcome in results.outcomes
        if outcome.score.value is None
    ]
    return found


def _identity(results: Results) -> Json:
    plan = results.plan
    return {
        **plan.identity,
        "data": plan.data,
        "samples": len(results.dataset.samples),
        "scoring": dict(plan.scoring),
        "members": list(plan.members),
        "judge": plan.judge,
        "settings": plan.settings,
        "seed": plan.seed,
        "repeats": plan.repeats,
        "primary": list(plan.primary),
        "margin": plan.margin,
    }
