"""``report.json``: everything that the views show, as JSON values. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from localfusion.errors import EvaluationError
from localfusion.evals.arms import POLICY_ARMS, SUBSET
from localfusion.evals.report.contribution import contribution_form, retention_form
from localfusion.evals.report.cost import ends, frontier, live_cost, number, tokens
from localfusion.evals.report.flips import changes, flips_form, transitions_form
from localfusion.evals.report.panel import panel_form
from localfusion.evals.report.table import COMPUTED, Table, make_table
from localfusion.evals.report.verdict import (
    UNDERPOWERED,
    judge,
    points,
    sentence,
    shown_arms,
    winners,
)
from localfusion.evals.results import BEST, MEMBER, Live, Outcome, Results
from localfusion.evals.samples import Json
from localfusion.evals.stats.paired import (
    Array,
    length_controlled,
    mcnemar,
    mean_interval,
    recovery,
)

FORMAT = 1
MOST_LISTED = 50
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


def check_panels(results: Results) -> None:
    """Refuse results whose arms did not answer from the same panels.

    Raises:
        EvaluationError: names the sample and the arms.
    """
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for outcome in results.outcomes:
        if outcome.arm.partition(":")[0] not in POLICY_ARMS or not outcome.panel:
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
    unscored = _unscored(results)
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
            "detectable": number(primary.detectable),
            "is_underpowered": primary.n < UNDERPOWERED,
            "sentence": f"This run can detect differences of "
            f"{points(primary.detectable, signed=False)} points (power 0.8).",
        },
        "arms": arms,
        "comparisons": _comparisons(table),
        "flips": flips_form(table, served) if has_served else None,
        "transitions": transitions_form(table, served) if has_served else [],
        "panel": panel_form(table),
        "members": contribution_form(table, served),
        "retention": retention_form(table, served),
        "recovery": _recovery(table, served) if has_served else None,
        "frontier": frontier(arms),
        "tasks": _tasks(table),
        "failures": _failures(results),
        "unscored": unscored[:MOST_LISTED],
        "unscored_count": len(unscored),
        "calls": {"panel": results.panel_calls, "judge": results.judge_calls},
        "problems": list(results.problems),
        "notes": list(results.notes),
        "identity": _identity(results),
        "scores": {arm: [number(score) for score in table.low[arm]] for arm in shown_arms(table)},
        "scores_high": {
            arm: [number(score) for score in table.high[arm]]
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
        "difference": number(found.mean),
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
        "score": number(mean),
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
        if a.startswith(SUBSET):
            continue
        seen.add((a, b))
        found.append(_comparison(table, a, b, what))
    return found


def _comparison(table: Table, a: str, b: str, what: str) -> Json:
    plan = table.results.plan
    gap = table.compare(a, b)
    fixed, broken = changes(table.low[b], table.low[a])
    return {
        "first": a,
        "second": b,
        "what": what,
        "difference": number(gap.mean),
        "interval": ends(gap.interval),
        "n": gap.n,
        "fixed": len(fixed),
        "broken": len(broken),
        "p": mcnemar(len(fixed), len(broken)),
        "verdict": judge(gap, plan.margin).kind if gap.n else "undecided",
        "is_primary": (a, b) == plan.primary,
    }


def _recovery(table: Table, served: str) -> Json | None:
    oracle = table.low["oracle"]
    found = recovery(table.low[served], table.low[BEST], oracle, table.resampling)
    regret = table.compare("oracle", served)
    told: Json = {"regret": number(regret.mean), "regret_interval": ends(regret.interval)}
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
