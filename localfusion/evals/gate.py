"""Thresholds of ``auto`` and ``cascade``, fitted on one half of an evaluation, shown on the other.

A gate saves work where what it lets through is as good as what the whole panel would have given. It
is fitted only where that is shown: no worse by more than the margin, at both ends of the interval.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from localfusion.errors import EvaluationError
from localfusion.evals.report.table import Table, make_table
from localfusion.evals.report.verdict import points
from localfusion.evals.results import Results
from localfusion.evals.stats.paired import Array, Difference, difference
from localfusion.fusion.agreement.extract import Extracted, Extractor, same
from localfusion.fusion.routing import DEFAULT_RULES, Rules, route

LENGTHS: Mapping[str, str] = {
    "choice_list": "max_choice",
    "final_answer": "max_final_answer",
    "true_or_false": "max_final_answer",
    "numeric_question": "max_numeric",
    "yes_no_question": "max_boolean",
}
"""Rules of ``auto`` that send a question to a vote, and their threshold's name."""
GATES = (1 / 3, 2 / 3, 1.0)
"""Shares of three samples of the first member that may have to agree; above 1 the gate is shut."""


Mask = npt.NDArray[np.bool_]
Passes = Callable[[float], Mask]
"""Tells, for a threshold, which samples do not go to the whole panel."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A threshold and what it does on samples that it was not fitted on.

    Attributes:
        option: Of the preset, such as ``max_numeric``.
        value: Fitted.
        default: What it is without.
        through: Share of samples that do not go to the whole panel.
        gap: Score with it minus score of the whole panel.
        harmful: Share of samples let through that the whole panel would have got right alone.
        saved: Tokens saved for each sample, as a share of the whole panel's.
        is_proven: No worse than the panel by more than the margin, for certain.
    """

    policy: str
    option: str
    value: float
    default: float
    n: int
    through: float
    gap: Difference
    harmful: float
    saved: float
    is_proven: bool


def fit_gates(results: Results) -> list[Fit]:
    """Fit what the evaluation has arms for: ``vote`` for ``auto``, ``cascade`` for ``cascade``.

    Raises:
        EvaluationError: it has neither, or not the arm ``fuse``.
    """
    table = make_table(results)
    if "fuse" not in table.low:
        raise EvaluationError("the evaluation has no arm fuse to compare with; run it with one")
    fits = []
    if "vote" in table.low:
        fits += _fit_auto(table)
    if any(recording.member.startswith("pilot:") for recording in results.recordings):
        fits.append(_fit_cascade(table))
    if not fits:
        raise EvaluationError(
            "nothing to fit: run the evaluation with --arms vote,cascade,fuse, on questions that "
            "have one right answer"
        )
    return fits


def gate_text(fits: Sequence[Fit]) -> str:
    """Return the options as YAML for a preset, with what justifies each as comments."""
    lines = ["# Fitted by localfusion eval gate on one half of the samples, tried on the other."]
    for policy in dict.fromkeys(fit.policy for fit in fits):
        lines.append(f"# preset with policy {policy}:")
        proven = [fit for fit in fits if fit.policy == policy and fit.is_proven]
        if proven:
            options = ", ".join(f"{fit.option}: {_written(fit.value)}" for fit in proven)
            lines.append(f"options: {{{options}}}")
        for fit in (fit for fit in fits if fit.policy == policy):
            low = points(fit.gap.interval.low, signed=False)
            high = points(fit.gap.interval.high, signed=False)
            verdict = (
                "kept" if fit.is_proven else f"not proven, so it stays {_written(fit.default)}"
            )
            lines.append(
                f"#   {fit.option}: {_written(fit.value)} ({verdict}): {fit.n} samples, "
                f"{fit.through * 100:.0f} % go through, {points(fit.gap.mean)} points against the "
                f"whole panel (95 % CI {low}…{high}), {fit.harmful * 100:.0f} % of them harmed, "
                f"{fit.saved * 100:.0f} % of all tokens saved"
            )
    return "\n".join(lines) + "\n"


def _written(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"


def _fit_auto(table: Table) -> list[Fit]:
    """Fit, for each rule, the longest question that it sends to a vote."""
    samples = table.results.dataset.samples
    wide = replace(
        DEFAULT_RULES,
        max_choice=10**6,
        max_final_answer=10**6,
        max_numeric=10**6,
        max_boolean=10**6,
    )
    reasons: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        reason = _rule(sample.messages[-1].content, sample.messages, wide)
        if reason is not None:
            reasons.setdefault(LENGTHS[reason], []).append(row)
    lengths = np.array([len(sample.messages[-1].content) for sample in samples])
    vote, whole = table.low["vote"], table.low["fuse"]
    spent = _tokens(table, "vote"), _tokens(table, "fuse")
    fits = []
    for option, rows in reasons.items():
        default = float(getattr(DEFAULT_RULES, option))
        choices = sorted({0.0, default, *np.quantile(lengths[rows], [0.25, 0.5, 0.75, 1.0])})

        def passes(limit: float, rows: list[int] = rows) -> Mask:
            inside = np.zeros(len(samples), dtype=bool)
            inside[rows] = lengths[rows] <= limit
            return inside

        fits.append(_fit(table, ("auto", option, default), choices, passes, (vote, whole, *spent)))
    return fits


def _rule(question: str, messages: Sequence[object], rules: Rules) -> str | None:
    routing = route(messages, rules=rules)  # type: ignore[arg-type]  # of one sample
    if routing.task != "closed":
        return None
    return next((name for name in LENGTHS if name in routing.reason), None)


def _fit_cascade(table: Table) -> Fit:
    """Fit the share of the first member's samples that must agree."""
    results = table.results
    agreed = np.full(len(results.dataset.samples), -1.0)
    score = np.full(len(results.dataset.samples), np.nan)
    spent = np.zeros(len(results.dataset.samples))
    for row, sample in enumerate(results.dataset.samples):
        drawn = [
            r for r in results.recordings if r.sample == sample.id and r.member.startswith("pilot:")
        ]
        extractor = route(sample.messages).extractor
        if not drawn or extractor is None:
            continue
        groups = _groups(extractor, [r.candidate.text for r in drawn])
        spent[row] = sum(r.candidate.usage.completion_tokens for r in drawn)
        if groups:
            leader = max(groups, key=len)
            agreed[row] = len(leader) / len(drawn)
            value = drawn[leader[0]].score.value
            score[row] = math.nan if value is None else value

    def passes(gate: float) -> Mask:
        return np.asarray(agreed >= gate - 1e-9)

    whole, panel = table.low["fuse"], _tokens(table, "fuse")
    given = (score, whole, spent, panel + spent)
    return _fit(table, ("cascade", "gate", 1.0), [*GATES, 1.01], passes, given)


def _groups(extractor: Extractor, texts: Sequence[str]) -> list[list[int]]:
    """Return which texts give the same answer."""
    groups: list[tuple[Extracted, list[int]]] = []
    for place, text in enumerate(texts):
        found = extractor.extract(text)
        if found is None:
            continue
        for answer, members in groups:
            if same(answer, found):
                members.append(place)
                break
        else:
            groups.append((found, [place]))
    return [members for _, members in groups]


def _fit(
    table: Table,
    what: tuple[str, str, float],
    choices: Sequence[float],
    passes: Passes,
    given: tuple[Array, Array, Array, Array],
) -> Fit:
    """Choose on fold 0 what scores best, of equals what saves most; tell what it does on fold 1."""
    policy, option, default = what
    cheap, whole, cheap_tokens, whole_tokens = given
    chosen_on, shown_on = table.folds == 0, table.folds == 1

    def mixed(value: float) -> tuple[Array, Mask]:
        through = passes(value) & ~np.isnan(cheap)
        return np.where(through, cheap, whole), through

    def rank(value: float) -> tuple[float, float]:
        scores, through = mixed(value)
        known = chosen_on & ~np.isnan(scores)
        mean = float(scores[known].mean()) if known.any() else 0.0
        return round(mean, 6), float(through[chosen_on].mean()) if chosen_on.any() else 0.0

    value = max(choices, key=rank)
    scores, through = mixed(value)
    inside = np.where(shown_on, scores, np.nan)
    gap = difference(inside, np.where(shown_on, whole, np.nan), table.resampling)
    let = through & shown_on
    harmed = let & (whole > cheap)
    total = float(whole_tokens[shown_on].sum()) or 1.0
    kept = float(np.where(let, whole_tokens - cheap_tokens, 0.0).sum())
    return Fit(
        policy,
        option,
        value,
        default,
        gap.n,
        float(let.sum() / max(1, shown_on.sum())),
        gap,
        float(harmed.sum() / max(1, let.sum())),
        kept / total,
        gap.n > 0 and gap.interval.low > -table.results.plan.margin,
    )


def _tokens(table: Table, arm: str) -> Array:
    """Return the mean tokens that an arm wrote for each sample, the panel's included."""
    found = []
    for outcomes in table.outcomes[arm]:
        spent = [
            o.panel_usage.completion_tokens + o.judge_usage.completion_tokens for o in outcomes
        ]
        found.append(sum(spent) / len(spent) if spent else 0.0)
    return np.array(found)
