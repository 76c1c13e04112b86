"""A text cut into sentences; and what one says, as far as words tell. Pure.

Sentences end behind ``.``, ``!``, ``?`` and their wide forms where a space follows, and at line
breaks; so do headings, list entries and lines of code. Abbreviations are not known: ``e.g. this``
is two. Together the sentences are the text, character by character.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from localfusion.fusion.agreement import numerals

MOST_SENTENCES = 400
"""Of a text that are looked at; a longer one is looked at in part."""

_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*\s+|[。！？]+[”’」』）]*\s*|\n\s*")  # noqa: RUF001
# Scripts without spaces are compared sign by sign.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+(?:['\u2019][^\W\d_]+)?|\d+(?:[.,:/]\d+)*")
_LIST_MARK = re.compile(r"^\s*(?:[-*•#>]+|\(?\d{1,2}[.)])\s+")
_NEGATIONS = frozenset(
    re.findall(
        r"\w+",
        "not no never none nobody nothing neither nor without cannot isnt arent wasnt werent dont "
        "doesnt didnt wont cant couldnt shouldnt wouldnt hasnt havent hadnt nicht kein keine nie "
        "pas jamais sans nunca ni non",
    )
)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an the and or but so of to in on at by for from with as is are was were be been it its "
        "this that these those they them their there he she his her i we our you your then thus "
        "will would can could do does did has have had if than which who what all also",
    )
)
_COUNTED = "two three four five six seven eight nine ten eleven twelve"
_NUMBER_WORDS = {word: str(2 + place) for place, word in enumerate(re.findall(r"\w+", _COUNTED))}
"""Without ``one``, which is a pronoun more often than not."""


@dataclass(frozen=True)
class Sentence:
    """A part of a text.

    Attributes:
        start: Where it begins in the text; the next one begins at ``end``.
    """

    start: int
    end: int
    text: str

    @cached_property
    def meaning(self) -> "Meaning":
        return meaning_of(self.text)


@dataclass(frozen=True)
class Meaning:
    """What is compared of a sentence.

    Attributes:
        grams: Its words without the commonest, and each two that follow one another.
        numbers: In figures, and from two to twelve in English words; each time that one occurs.
        is_negated: It has a word like not, no, never, without.
    """

    grams: frozenset[str]
    numbers: frozenset[tuple[str, int]]
    is_negated: bool

    @cached_property
    def bare(self) -> frozenset[str]:
        """The grams without numbers and negations."""
        return frozenset(
            gram
            for gram in self.grams
            if _NEGATIONS.isdisjoint(gram.split()) and not any(map(str.isdigit, gram))
        )

    def __or__(self, other: "Meaning") -> "Meaning":
        """Return what two neighbors say."""
        return Meaning(
            self.grams | other.grams,
            self.numbers | other.numbers,
            self.is_negated or other.is_negated,
        )


def sentences(text: str) -> list[Sentence]:
    """Cut a text; empty for an empty one."""
    ends: list[int] = []
    for match in _END.finditer(text):
        begun = text[ends[-1] if ends else 0 : match.start()]
        if not begun.strip().isdigit() or "\n" in match[0]:  # "1." opens an entry of a list
            ends.append(match.end())
    if not ends or ends[-1] != len(text):
        ends.append(len(text))
    starts = [0, *ends[:-1]]
    return [Sentence(a, b, text[a:b]) for a, b in zip(starts, ends, strict=True) if a < b]


def meaning_of(text: str) -> Meaning:
    """Return what is compared of a text."""
    words = list(_words(_LIST_MARK.sub("", text)))
    counted = Counter[str]()
    numbers = set()
    for word in words:
        if word[0].isdigit():
            counted[word] += 1
            numbers.add((word, counted[word]))
    content = [word for word in words if word not in _COMMON] or words
    pairs = (f"{first} {second}" for first, second in pairwise(content))
    return Meaning(
        frozenset([*content, *pairs]), frozenset(numbers), not _NEGATIONS.isdisjoint(words)
    )


def _words(text: str) -> Iterator[str]:
    text = unicodedata.normalize("NFKC", numerals.plain(text)).casefold()
    for word in _WORD.findall(text):
        word = word.replace("'", "").replace("\u2019", "")
        yield _number(word) if word[0].isdigit() else _NUMBER_WORDS.get(word, word)


def _number(word: str) -> str:
    """Write equal numbers alike: 1,000 and 1000; 8.0, 8.00 and 8."""
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", word)
    try:
        return f"{float(plain):.12g}"
    except (ValueError, OverflowError):
        return word
