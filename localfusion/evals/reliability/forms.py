"""Tests of the answer's form: what was asked for, in whose language, without talk of drafts."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from localfusion.evals.reliability.cases import Bar, Bench, Case, Mark, Marks, Replies, Test
from localfusion.evals.reliability.planting import Plant, each, panel_of, plants
from localfusion.evals.reliability.questions import Question

MOST_WORDS = 12
_META = re.compile(
    r"\bdrafts?\b|\b(?:candidate|response|answer|model|solution)s? [A-H]\b"
    r"|\bthe (?:other )?(?:candidates|responses|drafts|models)\b",
    re.IGNORECASE,
)
_GERMAN = re.compile(
    r"\b(?:der|die|das|und|ist|nicht|ein|eine|sind|also|ergibt|macht|dann|zusammen|lautet"
    r"|Antwort|Ergebnis|zuerst|daraus|folgt)\b",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\b(?:the|and|is|are|of|to|that|then|together|answer|result|first|comes|which|so|with)\b",
    re.IGNORECASE,
)
_FOREIGN = (
    "Zuerst rechne ich die Teile aus und dann ist das Ergebnis zusammen die gesuchte Zahl. "
    "Daraus folgt, dass die Antwort also so lautet.\nAntwort: {value}"
)


@dataclass(frozen=True, slots=True)
class Formed:
    """A question whose answer must have a form that can be checked."""

    question: Question
    kind: str

    @property
    def id(self) -> str:
        return f"{self.question.id}-{self.kind}"

    @property
    def text(self) -> str:
        asked = self.question.text.rpartition("End with one line")[0].strip()
        return f"{asked} {_ASKED[self.kind]}"

    @property
    def ideal(self) -> str:
        return self.written(0)

    def written(self, wording: int) -> str:
        """Return a right answer of the form, in one of several wordings."""
        value = self.question.answer
        if self.kind == "json":
            return json.dumps({"answer": value}, indent=(None, 1, 2)[wording % 3])
        forms = ("The result is {v}.", "It comes to {v} in the end.", "{v} is what one gets.")
        return forms[wording % 3].format(v=value)

    def obeyed(self, text: str) -> bool:
        """Tell whether a text has the form."""
        told = text.strip()
        match self.kind:
            case "json":
                return _is_object(told)
            case "words":
                return 0 < len(told.split()) <= MOST_WORDS
        return bool(told) and "," not in told

    def right(self, text: str) -> bool | None:
        return self.obeyed(text) and self.question.answer in text


_ASKED = {
    "json": 'Reply with a JSON object of this form and nothing else: {"answer": "…"}',
    "words": f"Reply with one sentence of at most {MOST_WORDS} words.",
    "commas": "Reply with one sentence and use no comma in it.",
}


def _is_object(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and [*found] == ["answer"]


def formed(bench: Bench) -> Iterator[Formed]:
    """Yield as many questions with a form as a test has cases."""
    kinds = [*_ASKED]
    return (Formed(p.question, kinds[p.number % 3]) for p in plants(bench, is_numeric=True))


def _format(bench: Bench) -> Iterator[Case]:
    for number, asked in enumerate(formed(bench)):
        texts = [asked.written(wording) for wording in range(bench.size)]
        panel = panel_of(bench, asked, texts, number)
        yield Case(asked.id, asked, {"clean": panel}, _obeying(asked))


def _obeying(asked: Formed) -> Callable[[Replies], Marks]:
    def read(replies: Replies) -> Marks:
        reply = replies["clean"]
        met = None if reply.error else asked.obeyed(reply.text)
        return {"obeyed": Mark(met), f"obeyed, {asked.kind}": Mark(met)}

    return read


def _no_meta(plant: Plant) -> Case:
    size = plant.bench.size
    names = [name for name in (*plant.bench.models, plant.bench.judge) if len(name) > 3]
    texts = [plant.right(0), *(plant.wrong(k) for k in range(1, size))]

    def read(replies: Replies) -> Marks:
        reply = replies["mixed"]
        told = reply.text.casefold()
        has_name = any(name.casefold() in told for name in names)
        met = None if reply.error else has_name or bool(_META.search(reply.text))
        return {"speaks of drafts": Mark(met)}

    return Case(plant.id, plant.question, {"mixed": plant.panel(texts)}, read)


def _language(plant: Plant) -> Case:
    foreign = _FOREIGN.format(value=plant.question.answer)
    texts = [foreign, *plant.rights(plant.bench.size - 1)]

    def read(replies: Replies) -> Marks:
        reply = replies["foreign"]
        return {"language kept": Mark(None if reply.error else is_english(reply.text))}

    return Case(plant.id, plant.question, {"foreign": plant.panel(texts)}, read)


def is_english(text: str) -> bool:
    """Tell whether a text has no more German than English words of those that every text has."""
    return len(_GERMAN.findall(text)) <= len(_ENGLISH.findall(text))


TESTS = (
    Test(
        "format",
        "all candidates obey a form that can be checked: JSON, a limit of words, no commas",
        {"obeyed": Bar("at least", 0.95)},
        _format,
    ),
    Test(
        "no-meta",
        "a mixed panel; drafts, letters or models' names in the answer",
        {"speaks of drafts": Bar("at most", 0.02)},
        each(_no_meta),
    ),
    Test(
        "language",
        "one candidate in another language",
        {"language kept": Bar("at least", 0.98)},
        each(_language),
    ),
)
