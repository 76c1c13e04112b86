"""Which drafts say what a sentence of the answer says, by its words. Pure.

**Method.** A sentence is its set of words without the commonest English ones, and of pairs of words
that follow one another. Support by a draft is the share of that set which one sentence of the draft
has, or else two neighbors together: 0 to 1, from ``SUPPORT`` on it counts. Numbers and negation are
exact: a sentence with a number that the draft's has not, or with a negation that it lacks, or the
other way round, is not supported however alike they are. Where the other words of both, without
numbers and negations, are ``DISPUTE`` alike (2 |a & b| / (|a| + |b|)), such a draft contradicts it.

**Limits.** Words, not meanings: a paraphrase is not found, ``small`` and ``large`` are two words
like any others, who did what to whom is not read, and a sentence that is found may be wrong. That
a draft says the same does not show that the judge took it from there.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from localfusion.explain.sentences import MOST_SENTENCES, Meaning, Sentence, sentences
from localfusion.fusion.style import without_thoughts
from localfusion.types import Candidate

SUPPORT = 0.5
DISPUTE = 0.6


@dataclass(frozen=True, slots=True)
class Support:
    """A draft that says the same, or the same with another number or a negation.

    Attributes:
        score: Share of the sentence's words and pairs that are there, 0 to 1.
        text: Where.
    """

    index: int
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Traced:
    """A sentence of the answer and where it may come from.

    Attributes:
        support: Best first; empty: no draft says it.
        against: Drafts that say it otherwise.
        is_blank: There is no word in it.
    """

    sentence: Sentence
    support: tuple[Support, ...]
    against: tuple[Support, ...]
    is_blank: bool


def trace_sentences(text: str, drafts: Sequence[Candidate]) -> list[Traced]:
    """Return each sentence of an answer with the drafts that say it, up to ``MOST_SENTENCES``."""
    places = {draft.index: _places(draft.text) for draft in drafts}
    return [_trace(sentence, places) for sentence in sentences(text)[:MOST_SENTENCES]]


def likeness(first: str, second: str) -> float:
    """Return how alike two texts are, 0 to 1: 2 |a & b| / (|a| + |b|) over their words and pairs.

    Each sentence's numbers and negations are words of it like others here.
    """
    grams = [
        frozenset(g for s in sentences(t)[:MOST_SENTENCES] for g in s.meaning.grams)
        for t in (first, second)
    ]
    total = sum(map(len, grams))
    if not total:
        return float(first.strip() == second.strip())
    return 2 * len(grams[0] & grams[1]) / total


@dataclass(frozen=True, slots=True)
class _Place:
    text: str
    meaning: Meaning
    is_pair: bool


def _places(text: str) -> Mapping[str, Sequence[_Place]]:
    """Return sentences of a draft, and each two neighbors, by each gram in them."""
    own = [s for s in sentences(without_thoughts(text))[:MOST_SENTENCES] if s.meaning.grams]
    found = [_Place(s.text.strip(), s.meaning, is_pair=False) for s in own]
    found += [
        _Place(f"{a.text}{b.text}".strip(), a.meaning | b.meaning, is_pair=True)
        for a, b in pairwise(own)
    ]
    places: dict[str, list[_Place]] = defaultdict(list)
    for place in found:
        for gram in place.meaning.grams:
            places[gram].append(place)
    return places


def _trace(sentence: Sentence, places: Mapping[int, Mapping[str, Sequence[_Place]]]) -> Traced:
    said = sentence.meaning
    support, against = [], []
    for index, grams in places.items():
        near = {id(place): place for gram in said.grams for place in grams.get(gram, ())}
        single = [place for place in near.values() if not place.is_pair]
        same = [p for p in single if _agrees(said, p.meaning)]
        both = [p for p in near.values() if p.is_pair and _agrees(said, p.meaning)]
        if best := _best(index, said, same, SUPPORT):
            support.append(best)
        elif other := _best(index, said, single, DISPUTE, by_words=True):
            against.append(other)
        elif best := _best(index, said, both, SUPPORT):
            support.append(best)
    return Traced(
        sentence,
        tuple(sorted(support, key=lambda s: (-s.score, s.index))),
        tuple(sorted(against, key=lambda s: (-s.score, s.index))),
        not said.grams,
    )


def _agrees(said: Meaning, other: Meaning) -> bool:
    return said.numbers <= other.numbers and said.is_negated == other.is_negated


def _best(
    index: int, said: Meaning, places: Sequence[_Place], least: float, *, by_words: bool = False
) -> Support | None:
    """Return the place that has most of a sentence, the shortest of equals; None: too little."""
    measure = _alike if by_words else _share
    scored = [
        (measure(said, place.meaning), -len(place.text), place.text)
        for place in places
        if not by_words or place.meaning.numbers or place.meaning.is_negated != said.is_negated
    ]
    score, _, text = max(scored, default=(0.0, 0, ""))
    return Support(index, round(score, 3), text) if score >= least else None


def _share(said: Meaning, other: Meaning) -> float:
    return len(said.grams & other.grams) / len(said.grams) if said.grams else 0.0


def _alike(said: Meaning, other: Meaning) -> float:
    total = len(said.bare) + len(other.bare)
    return 2 * len(said.bare & other.bare) / total if total else 0.0
