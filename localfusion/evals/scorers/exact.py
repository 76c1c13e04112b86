"""Answers that are right or wrong: a number, a letter, a short text."""

from dataclasses import dataclass

from localfusion.evals.samples import Sample, Score, digest_of
from localfusion.fusion.agreement.extract import Extracted, Extractor, Kind, same
from localfusion.fusion.style import without_thoughts

VERSION = 1
"""Of the rules by which answers are found and compared; another one is another score."""


@dataclass(frozen=True, slots=True)
class NumberScorer:
    """Gold: ``answer``, a number as text. Numbers that differ by rounding are the same."""

    @property
    def identity(self) -> str:
        return digest_of(["number", VERSION])

    async def score(self, sample: Sample, text: str) -> Score:
        gold = str(sample.gold["answer"])
        return by_kind("number", text, gold)


@dataclass(frozen=True, slots=True)
class ChoiceScorer:
    """Gold: ``answer``, a letter; ``options``, the texts of the options from A on."""

    @property
    def identity(self) -> str:
        return digest_of(["choice", VERSION])

    async def score(self, sample: Sample, text: str) -> Score:
        listed = sample.gold.get("options", ())
        options = tuple(map(str, listed)) if isinstance(listed, list | tuple) else ()
        found = Extractor("choice", options=options).extract(text)
        return _judged(found, str(sample.gold["answer"]).upper())


@dataclass(frozen=True, slots=True)
class TextScorer:
    """Gold: ``answer``; equal after case, space and final punctuation are folded.

    Answers in brackets, truth values and numbers are found by their own rules first.
    """

    @property
    def identity(self) -> str:
        return digest_of(["text", VERSION])

    async def score(self, sample: Sample, text: str) -> Score:
        gold = str(sample.gold["answer"]).strip()
        kind = kind_of(gold)
        if kind == "choice":
            found = Extractor("choice").extract(text)
            return _judged(found, gold.strip("()").upper())
        return by_kind(kind, text, gold)


def kind_of(gold: str) -> Kind:
    """Return how an answer such as this one is found in a text."""
    if len(gold) == 3 and gold[0] == "(" and gold[2] == ")" and gold[1].isalpha():
        return "choice"
    if gold.casefold() in ("true", "false", "yes", "no"):
        return "boolean"
    return "number" if Extractor("number").extract(gold) and _is_plain(gold) else "text"


def by_kind(kind: Kind, text: str, gold: str) -> Score:
    """Score a text by the one answer that is right, both read by the rules of their kind."""
    extractor = Extractor(kind)
    found, wanted = extractor.extract(text), extractor.extract(gold)
    if wanted is None:
        return Score(None, detail=f"unscored: the expected answer {gold!r} is no {kind}")
    if found is None:
        return Score(0.0, detail=f"no {kind} found")
    return Score(float(same(found, wanted)), extracted=found.shown)


def plain(text: str) -> str:
    """Return what a model says, without what it thought."""
    return without_thoughts(text).strip()


def _judged(found: Extracted | None, gold: str) -> Score:
    if found is None:
        return Score(0.0, detail="no choice found")
    return Score(float(found.value.upper() == gold), extracted=found.shown)


def _is_plain(gold: str) -> bool:
    return all(char.isdigit() or char in "+-.,$%/ " for char in gold)
