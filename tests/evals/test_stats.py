"""Statistics against scipy, published and hand-worked values; coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from localfusion.evals.stats.intervals import (
    clopper_pearson,
    lower_bound,
    upper_bound,
    wilson,
)
from localfusion.evals.stats.paired import (
    Difference,
    Resampling,
    best_on_other_fold,
    detectable,
    difference,
    difference_to_best,
    length_controlled,
    mcnemar,
    needed,
    percentile_interval,
    recovery,
)
from localfusion.evals.stats.panel import (
    co_failure,
    headroom,
    leave_one_out,
    pairing,
    retention,
    shapley,
    substitutes,
    transitions,
)

# Of the published worked values (docs/evaluation.md): v of each subset.
WORTH = {"A": 60.0, "B": 50.0, "C": 40.0, "AB": 66.0, "AC": 62.0, "BC": 55.0, "ABC": 68.0, "": 0.0}


def worth(chosen: frozenset[str]) -> float:
    return WORTH["".join(sorted(chosen))]


def test_intervals_of_shares_have_their_published_values() -> None:
    assert (wilson(57, 60).low, wilson(57, 60).high) == pytest.approx((0.863, 0.983), abs=5e-4)
    exact = clopper_pearson(57, 60)
    assert (exact.low, exact.high) == pytest.approx((0.861, 0.990), abs=5e-4)
    assert clopper_pearson(0, 60).high == pytest.approx(0.0596, abs=5e-5)
    assert upper_bound(0, 60) == pytest.approx(0.0487, abs=5e-5)
    assert clopper_pearson(0, 60).low == 0.0
    assert lower_bound(60, 60) == pytest.approx(0.05 ** (1 / 60))


@pytest.mark.parametrize(("x", "n"), [(0, 1), (1, 1), (3, 10), (57, 60), (500, 1000)])
def test_intervals_of_shares_are_scipys(x: int, n: int) -> None:
    theirs = stats.binomtest(x, n)
    for ours, method in ((wilson(x, n), "wilson"), (clopper_pearson(x, n), "exact")):
        ends = theirs.proportion_ci(method=method)
        assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_mcnemar_has_its_published_values_and_scipys() -> None:
    assert mcnemar(15, 5) == pytest.approx(0.0414, abs=5e-5)
    assert mcnemar(8, 2) == pytest.approx(0.1094, abs=5e-5)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(7, 3) == pytest.approx(stats.binomtest(3, 10).pvalue)


def test_bootstrap_of_a_difference_agrees_with_students_t() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(400), rng.random(400)
    found = difference(first, second, Resampling(400))
    theirs = stats.ttest_rel(first, second).confidence_interval()

    assert found.mean == pytest.approx(float((first - second).mean()))
    assert found.interval.low == pytest.approx(theirs.low, abs=0.004)
    assert found.interval.high == pytest.approx(theirs.high, abs=0.004)


@pytest.mark.parametrize("n", [30, 150])
def test_bootstrap_covers_what_it_says(n: int) -> None:
    hits = 0
    for trial in range(400):
        rng = np.random.default_rng(trial)
        first, second = (rng.random(n) < 0.65) * 1.0, (rng.random(n) < 0.5) * 1.0
        found = difference(first, second, Resampling(n, trial, draws=1000))
        hits += found.interval.holds(0.15)

    assert 0.915 <= hits / 400 <= 0.985


@pytest.mark.parametrize("share", [0.03, 0.3, 0.9])
def test_intervals_of_shares_cover_what_they_say(share: float) -> None:
    found = np.random.default_rng(5).binomial(60, share, size=600)
    exact = np.mean([clopper_pearson(int(x), 60).holds(share) for x in found])
    score = np.mean([wilson(int(x), 60).holds(share) for x in found])

    assert exact >= 0.94
    assert score >= 0.92


def test_choosing_the_best_member_is_part_of_every_draw() -> None:
    rng = np.random.default_rng(8)
    folds = rng.integers(0, 2, 200)
    members = (rng.random((200, 3)) < 0.5) * 1.0
    arm = (rng.random(200) < 0.5) * 1.0
    resampling = Resampling(200)
    chosen = difference_to_best(arm, members, folds, resampling)
    fixed = difference(arm, best_on_other_fold(members, folds), resampling)

    assert chosen.mean == pytest.approx(fixed.mean)
    assert chosen.interval.low < chosen.mean < chosen.interval.high
    # Of equal members another one is chosen in other draws, which adds to what is not known.
    width = chosen.interval.high - chosen.interval.low
    assert width > 0.95 * (fixed.interval.high - fixed.interval.low)


def test_best_member_is_chosen_on_the_other_fold() -> None:
    folds = np.array([0, 0, 1, 1])
    members = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    assert best_on_other_fold(members, folds).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_equal_differences_leave_room_for_what_was_not_seen() -> None:
    found = difference(np.ones(60), np.ones(60), Resampling(60))

    assert found.mean == 0.0
    assert found.interval.high == pytest.approx(clopper_pearson(0, 60).high)
    assert found.interval.low == pytest.approx(-clopper_pearson(0, 60).high)


def test_unscored_samples_are_left_out_of_a_pair_alone() -> None:
    first = np.array([1.0, np.nan, 1.0, 0.0, 1.0])
    second = np.array([0.0, 1.0, np.nan, 0.0, 0.0])
    found = difference(first, second, Resampling(5))

    assert found.n == 3
    assert found.mean == pytest.approx(2 / 3)
    assert difference(np.full(3, np.nan), np.ones(3), Resampling(3)).n == 0


def test_power_and_what_would_decide() -> None:
    gaps = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=200, p=[0.1, 0.8, 0.1])
    found = difference(gaps + 0.02, np.zeros(200), Resampling(200))

    assert detectable(gaps) == pytest.approx(2.8016 * gaps.std(ddof=1) / math.sqrt(200), rel=1e-3)
    more = needed(found, margin=0.03)
    assert more is not None
    assert more > 200
    assert needed(Difference(math.nan, found.interval, 0, 0.0), 0.03) is None


def test_oracles_gain_is_a_ratio_of_means() -> None:
    rng = np.random.default_rng(2)
    best = (rng.random(300) < 0.4) * 1.0
    oracle = np.maximum(best, rng.random(300) < 0.5)
    arm = np.where(rng.random(300) < 0.5, oracle, best)
    found = recovery(arm, best, oracle, Resampling(300))

    assert found is not None
    share, interval = found
    assert share == pytest.approx((arm - best).mean() / (oracle - best).mean())
    assert interval.low < share < interval.high
    assert recovery(arm, best, best, Resampling(300)) is None


def test_shapley_values_have_their_worked_values() -> None:
    found = shapley("ABC", worth)

    assert [found[name] for name in "ABC"] == pytest.approx([30.67, 22.17, 15.17], abs=0.005)
    assert sum(found.values()) == pytest.approx(68)
    assert leave_one_out("ABC", worth) == {"A": 13.0, "B": 6.0, "C": 2.0}
    assert substitutes("ABC", worth)["A", "B"] == 55 + 62 - 68 - 40


def test_what_members_have_in_common() -> None:
    first = np.array([1.0] * 6 + [0.0] * 4)
    second = np.array([1.0] * 4 + [0.0] * 2 + [1.0] + [0.0] * 3)
    found = pairing(first, second)

    assert (found.both, found.first, found.second, found.neither) == (4, 2, 1, 3)
    assert (found.disagreement, found.double_fault) == (0.3, 0.3)
    assert found.q == pytest.approx((12 - 2) / (12 + 2))
    assert found.kappa == pytest.approx(0.4)
    members = np.column_stack([first, second])
    assert (co_failure(members).x, co_failure(members).n) == (3, 10)
    assert headroom(members, first).x == 1
    moved = transitions(np.array([1.0] * 5 + [0.0] * 5), members)
    assert [(one.right_members, one.right, one.n) for one in moved] == [
        (0, 0, 3),
        (1, 1, 3),
        (2, 4, 4),
    ]


def test_retention_counts_findings_by_how_many_members_have_them() -> None:
    answer = {"a": True, "b": False, "c": True, "d": None}
    panel = [{"a": True, "b": True, "c": False, "d": True}, {"a": True, "b": False, "c": False}]
    found = retention([answer], [panel], lambda criterion: True)

    assert {k: (count.x, count.n) for k, count in found.items()} == {
        0: (1, 1),
        1: (0, 1),
        2: (1, 1),
    }


def test_win_rate_at_equal_length() -> None:
    rng = np.random.default_rng(4)
    lengths = rng.normal(0.7, 0.5, 4000)
    wins = (rng.random(4000) < 1 / (1 + np.exp(-2 * lengths))) * 1.0

    assert wins.mean() > 0.7
    assert length_controlled(wins.tolist(), lengths.tolist()) == pytest.approx(0.5, abs=0.05)


def test_few_draws_have_no_interval() -> None:
    assert percentile_interval(np.array([0.1, 0.2]), 1).low == -math.inf


def test_rounding_is_no_spread() -> None:
    first = np.full(30, 0.6) + np.random.default_rng(0).normal(0, 1e-12, 30)
    members = np.column_stack([np.full(30, 0.3), np.full(30, 0.1)])
    resampling = Resampling(30)
    for found in (
        difference(first, np.full(30, 0.3), resampling),
        difference_to_best(first, members, np.arange(30) % 2, resampling),
    ):
        assert found.interval.high - found.interval.low > 0.1


def test_samples_of_a_group_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    once = (rng.random(100) < 0.5) * 1.0
    twice = np.repeat(once, 2)
    alone = difference(once, np.zeros(100), Resampling(100))
    grouped = difference(twice, np.zeros(200), Resampling(200, groups=np.arange(200) // 2))
    apart = difference(twice, np.zeros(200), Resampling(200))

    def width(found: Difference) -> float:
        return found.interval.high - found.interval.low

    assert width(grouped) == pytest.approx(width(alone), rel=0.05)
    assert width(apart) < 0.8 * width(grouped)
