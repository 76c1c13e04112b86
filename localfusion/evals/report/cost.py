"""What arms cost: tokens from all samples, times and engine-seconds from the live ones alone."""

import math
import statistics
from collections.abc import Iterable, Sequence

from localfusion.evals.results import Live, Outcome
from localfusion.evals.samples import Json
from localfusion.evals.stats.intervals import Interval

NOT_MEASURED = "not measured"


def tokens(outcomes: Iterable[Sequence[Outcome]]) -> Json:
    """Return an arm's mean tokens for a sample: the panel's and the judge's, written and read."""
    flat = [outcome for row in outcomes for outcome in row]
    if not flat:
        return {}
    n = len(flat)
    return {
        "panel_completion": sum(o.panel_usage.completion_tokens for o in flat) / n,
        "judge_prompt": sum(o.judge_usage.prompt_tokens for o in flat) / n,
        "judge_cached": sum(o.judge_usage.cached_tokens for o in flat) / n,
        "judge_completion": sum(o.judge_usage.completion_tokens for o in flat) / n,
        "judge_calls": sum(o.judge_usage.calls for o in flat) / n,
    }


def live_cost(live: Sequence[Live]) -> Json:
    """Return an arm's times and costs; what this machine does not tell is ``not measured``."""
    done = [one for one in live if one.status != "failed"]
    if not done:
        return {"n": 0, "failed": len(live)}
    seconds = sorted(one.seconds for one in done)
    first = [one.first_token_seconds for one in done if one.first_token_seconds is not None]
    joules = [one.joules for one in done if one.joules is not None]
    money = [one.money for one in done if one.money is not None]
    return {
        "n": len(done),
        "failed": len(live) - len(done),
        "p50": statistics.median(seconds),
        "p95": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))],
        "first_token": statistics.median(first) if first else NOT_MEASURED,
        "engine_seconds": statistics.mean(sum(one.engine_seconds.values()) for one in done),
        "joules": statistics.mean(joules) if joules else NOT_MEASURED,
        "money": statistics.mean(money) if money else NOT_MEASURED,
        "currency": next((one.currency for one in done if one.currency), None),
        "path": mean_path(done),
    }


def mean_path(live: Sequence[Live]) -> Json:
    """Return the mean seconds that were waited for each stage; they sum to the mean time."""
    stages: dict[str, float] = {}
    for one in live:
        for stage, seconds in one.path:
            stages[stage] = stages.get(stage, 0.0) + seconds / len(live)
    return {stage: seconds for stage, seconds in stages.items() if seconds >= 0.0005}


def frontier(arms: Sequence[Json]) -> list[str]:
    """Return the arms that no other beats in quality at no more cost; cost by ``cost_of``."""
    priced = []
    for arm in arms:
        price, score = cost_of(arm), arm["score"]
        if price is not None and isinstance(score, float) and arm["kind"] != "computed":
            priced.append((price, -score, str(arm["name"])))
    found, best = [], float("-inf")
    for _, negative, name in sorted(priced):
        if -negative > best:
            best = -negative
            found.append(name)
    return found


def cost_of(arm: Json) -> float | None:
    """Return an arm's engine-seconds for each sample; where it was not live, None."""
    live = arm.get("live")
    value = live.get("engine_seconds") if isinstance(live, dict) else None
    return float(value) if isinstance(value, int | float) else None


def ends(interval: Interval) -> list[float | None]:
    """Return an interval as JSON values; None: no bound."""
    return [number(interval.low), number(interval.high)]


def number(value: float) -> float | None:
    """Return a figure as a JSON value; None: there is none, or no bound."""
    return float(value) if math.isfinite(value) else None
