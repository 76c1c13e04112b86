"""Do candidates agree? Votes among extracted answers, and the middle one of free texts. Pure.

It counts and never drops: a lone answer may be the right one, so what follows from a vote is the
policy's to say.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from localfusion.fusion.agreement.extract import Extracted, same

MIN_VOTES = 2
"""Votes that an accepted answer has at least, and candidates that a consensus has."""

Same = Callable[[Extracted, Extracted], bool]

# Scripts without spaces are compared letter by letter.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates with one answer.

    Attributes:
        answer: The most frequent spelling among them, as its first candidate has it.
        indices: Of its candidates, ascending.
        weight: Sum of their weights.
    """

    answer: Extracted
    indices: tuple[int, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Vote:
    """How candidates voted.

    Attributes:
        groups: Heaviest first; equally heavy ones by their first candidate.
        abstained: Indices of candidates without an answer, ascending.
        total: Weight of all candidates, those that abstained too.
    """

    groups: tuple[Group, ...]
    abstained: tuple[int, ...] = ()
    total: float = 0.0

    @property
    def leader(self) -> Group | None:
        """The heaviest group, in a tie one of them; None where nobody voted."""
        return self.groups[0] if self.groups else None

    @property
    def share(self) -> float:
        """Weight of the leader among all candidates, 0 to 1."""
        return self.groups[0].weight / self.total if self.groups else 0.0

    @property
    def is_tie(self) -> bool:
        return self._lead <= _epsilon(self.total) if len(self.groups) > 1 else False

    @property
    def is_accepted(self) -> bool:
        """Whether the leader is the answer: at least two candidates, and no tie."""
        return bool(self.groups) and len(self.groups[0].indices) >= MIN_VOTES and not self.is_tie

    def decided(self, remaining: int, *, weight: float = 1.0) -> bool:
        """Tell whether candidates still to come cannot change the answer, so that they can be cut.

        Lossless for answers that are equal or clearly apart; it takes a chain of numbers, each
        within the tolerance of the next, to break it.

        Args:
            remaining: How many those are.
            weight: Of the heaviest candidate still to come.
        """
        return self.is_accepted and self._lead > remaining * weight + _epsilon(self.total)

    @property
    def _lead(self) -> float:
        weights = [group.weight for group in self.groups[:2]]
        return weights[0] - sum(weights[1:])


def vote(
    answers: Mapping[int, Extracted | None],
    *,
    weights: Mapping[int, float] | None = None,
    agree: Same = same,
) -> Vote:
    """Count equal answers.

    Answers that ``agree`` without being equal join the most frequent of them, ties by value; so the
    outcome depends neither on the order of arrival nor on which candidate said what.

    Args:
        answers: Of each candidate by its index; None: it has none and abstains.
        weights: Of candidates, above 0; 1 where there is none. A fitted one is log(p / (1 - p)), p
            the member's accuracy (weighted majority, Nitzan and Paroush 1982).
        agree: Whether two answers are one though their values differ.
    """
    weight = {index: (weights or {}).get(index, 1.0) for index in sorted(answers)}
    groups = [
        Group(answer, tuple(sorted(indices)), sum(weight[index] for index in indices))
        for answer, indices in _joined(_spellings(answers, weight), agree)
    ]
    return Vote(
        groups=tuple(sorted(groups, key=lambda group: (-group.weight, group.indices))),
        abstained=tuple(index for index in weight if answers[index] is None),
        total=sum(weight.values()),
    )


def _spellings(
    answers: Mapping[int, Extracted | None], weight: Mapping[int, float]
) -> list[tuple[Extracted, list[int]]]:
    """Return answers with equal values and their candidates, the most frequent first."""
    equal: dict[tuple[str, str], tuple[Extracted, list[int]]] = {}
    for index in weight:
        if (answer := answers[index]) is not None:
            equal.setdefault((answer.kind, answer.value), (answer, []))[1].append(index)
    order = sorted(equal, key=lambda key: (-sum(weight[i] for i in equal[key][1]), key))
    return [equal[key] for key in order]


def _joined(
    spellings: Sequence[tuple[Extracted, list[int]]], agree: Same
) -> list[tuple[Extracted, list[int]]]:
    joined: list[tuple[Extracted, list[int]]] = []
    for answer, indices in spellings:
        home = next((known for known in joined if agree(known[0], answer)), None)
        if home is None:
            joined.append((answer, list(indices)))
        else:
            home[1].extend(indices)
    return joined


def unanimous(
    answers: Mapping[int, Extracted | None], *, quorum: int, agree: Same = same
) -> Extracted | None:
    """Return the answer of all that have one, if they are a quorum and at least two; else None."""
    counted = vote(answers, agree=agree)
    if len(counted.groups) != 1 or len(counted.groups[0].indices) < max(MIN_VOTES, quorum):
        return None
    return counted.groups[0].answer


def medoid(texts: Sequence[str]) -> int:
    """Return the place of the text that shares most words with the others, the first of equals.

    Overlap of two texts is that of their bags of words, 2 |a & b| / (|a| + |b|).

    Raises:
        ValueError: no texts.

    Source: sampling and voting for free text, arXiv 2402.05120.
    """
    if not texts:
        raise ValueError("the medoid of no texts does not exist; give at least one")
    bags = [Counter(_WORD.findall(text.casefold())) for text in texts]
    overlaps = [
        sum(_overlap(bag, other) for place, other in enumerate(bags) if place != own)
        for own, bag in enumerate(bags)
    ]
    return overlaps.index(max(overlaps))


def _overlap(first: Counter[str], second: Counter[str]) -> float:
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 0.0


def _epsilon(total: float) -> float:
    """Return what sums of weights may differ by for being sums of floats."""
    return 1e-9 * total
