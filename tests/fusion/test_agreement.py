"""Votes: who leads, by how much, and when nobody can catch up any more."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.fusion.agreement.extract import Extracted, Extractor, same
from localfusion.fusion.agreement.vote import Vote, medoid, unanimous, vote

# Equal, clearly apart, or equal within the tolerance; None abstains.
VALUES = st.sampled_from(["1", "2", "2.0000000001", "3", "5e9", "5000000001", None])
BALLOTS = st.lists(VALUES, min_size=1, max_size=8)


def answers(*values: str | None) -> dict[int, Extracted | None]:
    return {i: Extracted("number", v, v) if v else None for i, v in enumerate(values)}


def shape(counted: Vote) -> list[tuple[str, int]]:
    return sorted((group.answer.value, len(group.indices)) for group in counted.groups)


def test_the_most_frequent_answer_leads() -> None:
    counted = vote(answers("7", "8", "8", None))

    assert counted.leader is not None
    assert counted.leader.answer.value == "8"
    assert counted.leader.indices == (1, 2)
    assert counted.abstained == (3,)
    assert counted.share == 0.5
    assert counted.is_accepted


@pytest.mark.parametrize(
    "values", [(), (None, None), ("8",), ("8", None), ("7", "8"), ("7", "7", "8", "8")]
)
def test_no_answer_one_vote_or_a_tie_is_not_accepted(values: tuple[str | None, ...]) -> None:
    assert not vote(answers(*values)).is_accepted


def test_nobody_leads_where_nobody_votes() -> None:
    counted = vote(answers(None, None))

    assert counted.leader is None
    assert counted.share == 0
    assert not counted.is_tie


def test_one_lone_answer_is_no_tie() -> None:
    assert not vote(answers("8")).is_tie
    assert vote(answers("8", "9")).is_tie


def test_numbers_within_the_tolerance_vote_together() -> None:
    counted = vote(answers("0.333333333", "0.3333333331", "0.33"))

    assert shape(counted) == [("0.33", 1), ("0.333333333", 2)]


def test_candidates_join_the_most_frequent_of_the_answers_they_agree_with() -> None:
    def within_one(first: Extracted, second: Extracted) -> bool:
        return abs(float(first.value) - float(second.value)) <= 1

    counted = vote(answers("1", "2", "3", "3"), agree=within_one)

    assert shape(counted) == [("1", 1), ("3", 3)]


def test_weights_can_outvote_heads_but_not_replace_the_second_vote() -> None:
    heavy = {0: 3.0}

    assert vote(answers("7", "8", "8"), weights={0: 1.5}).is_accepted
    counted = vote(answers("7", "8", "8"), weights=heavy)
    assert counted.leader is not None
    assert counted.leader.answer.value == "7"
    assert not counted.is_accepted
    assert vote(answers("7", "7", "8", "8", "8"), weights=heavy).is_accepted


def test_weights_that_sum_to_the_same_are_a_tie_whatever_their_rounding() -> None:
    weights = {0: 0.1, 1: 0.2, 2: 0.3}

    assert vote(answers("7", "7", "8"), weights=weights).is_tie


@pytest.mark.parametrize(
    ("values", "remaining", "is_decided"),
    [
        (("8", "8"), 0, True),
        (("8", "8"), 1, True),
        (("8", "8"), 2, False),
        (("8", "8", "8"), 2, True),
        (("8", "8", "7"), 1, False),
        (("8", "8", "7"), 0, True),
        (("8", "8", None), 1, True),
        (("8",), 0, False),
        (("7", "8"), 0, False),
        ((), 1, False),
    ],
)
def test_a_vote_is_decided_when_nobody_can_catch_up(
    values: tuple[str | None, ...], remaining: int, is_decided: bool
) -> None:
    assert vote(answers(*values)).decided(remaining) is is_decided


def test_a_heavy_candidate_to_come_keeps_a_vote_open() -> None:
    counted = vote(answers("8", "8", "8"))

    assert counted.decided(1, weight=2.9)
    assert not counted.decided(1, weight=3.0)


@given(BALLOTS, BALLOTS)
def test_no_further_votes_change_a_decided_one(
    early: list[str | None], late: list[str | None]
) -> None:
    before = vote(answers(*early))
    after = vote(answers(*early, *late))

    if before.decided(len(late)):
        assert before.leader is not None
        assert after.leader is not None
        assert same(before.leader.answer, after.leader.answer)
        assert after.is_accepted


@given(BALLOTS, st.randoms())
def test_a_vote_depends_on_no_order(values: list[str | None], random: Random) -> None:
    shuffled = random.sample(values, len(values))
    ballot = answers(*values)
    arrival = dict(reversed(ballot.items()))

    assert vote(arrival) == vote(ballot)
    assert shape(vote(answers(*shuffled))) == shape(vote(ballot))


@given(BALLOTS)
def test_every_candidate_is_counted_once(values: list[str | None]) -> None:
    counted = vote(answers(*values))
    indices = [index for group in counted.groups for index in group.indices]

    assert sorted([*indices, *counted.abstained]) == list(range(len(values)))
    assert sum(group.weight for group in counted.groups) + len(counted.abstained) == counted.total


@given(BALLOTS)
def test_groups_differ_from_each_other(values: list[str | None]) -> None:
    leaders = [group.answer for group in vote(answers(*values)).groups]

    assert not any(same(a, b) for a in leaders for b in leaders if a is not b)


def test_a_consensus_needs_a_quorum_of_equal_answers() -> None:
    eight = answers("8", "8.0000000001", None)

    agreed = unanimous(eight, quorum=2)
    assert agreed is not None
    assert same(agreed, Extracted("number", "8", "8"))
    assert unanimous(eight, quorum=3) is None
    assert unanimous(answers("8", "8", "7"), quorum=2) is None
    assert unanimous(answers(None, None), quorum=2) is None


def test_one_candidate_is_no_consensus_even_if_it_is_a_quorum() -> None:
    assert unanimous(answers("8"), quorum=1) is None


def test_answers_vote_as_they_are_extracted() -> None:
    texts = ("Answer: 1,000", "It is **1000.0**", "\\boxed{1 000}", "about 900", "No idea.")
    extractor = Extractor("number")

    counted = vote({i: extractor.extract(text) for i, text in enumerate(texts)})

    assert [group.indices for group in counted.groups] == [(0, 1, 2), (3,)]


def test_the_medoid_shares_most_words_with_the_others() -> None:
    texts = ("bananas are yellow", "the sky is blue today", "the sky is blue", "the sky is grey")

    assert medoid(texts) == 2


def test_the_first_of_equal_texts_is_the_medoid() -> None:
    assert medoid(["a b", "b a", "c d"]) == 0
    assert medoid(["", ""]) == 0
    assert medoid(["only"]) == 0


def test_texts_without_spaces_are_compared_too() -> None:
    assert medoid(["天空是红色的", "我不知道", "天空是蓝色的", "天空是蓝色"]) == 2


def test_there_is_no_medoid_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        medoid([])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_the_medoid_is_one_of_the_texts(texts: list[str]) -> None:
    assert medoid(texts) in range(len(texts))
