"""Tests on fact sheets and source lists: what survives the judge, what it makes up.

The sheet is known to the candidates alone, in parts; names and numbers are unique, so that plain
text search tells what an answer has.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from localfusion.evals.reliability.cases import (
    NEVER,
    SHOWN,
    Bar,
    Bench,
    Case,
    Mark,
    Marks,
    Panel,
    Replies,
    Test,
)
from localfusion.evals.reliability.planting import panel_of
from localfusion.evals.scorers.facts import states

_FIRST = ("Alder", "Birch", "Cedar", "Dune", "Elm", "Fjord", "Grove", "Heron", "Iris", "Jasper")
_SECOND = ("Bay", "Point", "Ridge", "Mill", "Cross", "Field", "Gate", "Haven", "Lane", "Moor")
NAMES = tuple(f"{first} {second}" for first in _FIRST for second in _SECOND)
ENTRIES = 5
PLACES = ("early", "middle", "late")
_NUMBER = re.compile(r"(?<![\w.])\d{3,}(?!\w)")
_CITED = re.compile(r"\[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A question about a table that each candidate knows in part.

    Attributes:
        entries: Name to number, in order.
        false: A number that the first entry does not have.
    """

    id: str
    text: str
    entries: dict[str, str]
    false: str

    @property
    def ideal(self) -> str:
        return told(self.entries, 0)

    def right(self, text: str) -> bool | None:
        return all(states(text, name, value) for name, value in self.entries.items())


def sheets(bench: Bench) -> Iterator[Sheet]:
    """Yield as many fact sheets as a test has cases."""
    for number in range(bench.count):
        rng = random.Random(f"{bench.seed}/sheet/{number}")
        names = rng.sample(NAMES, ENTRIES)
        values = [str(value) for value in rng.sample(range(1100, 9900), ENTRIES + 1)]
        text = (
            f"List the visitors that the register of {1950 + number} counts for each station, one "
            "station on a line."
        )
        entries = dict(zip(names, values, strict=False))
        yield Sheet(f"sheet-{number}", text, entries, values[-1])


def told(entries: dict[str, str], wording: int) -> str:
    """State entries in one of several wordings."""
    forms = ("{name}: {value}", "{name} had {value} visitors.", "- {name}: {value} visitors")
    form = forms[wording % len(forms)]
    return "\n".join(form.format(name=name, value=value) for name, value in entries.items())


def _each(bench: Bench, make: Callable[[Bench, Sheet, int], Case]) -> Iterator[Case]:
    return (make(bench, sheet, number) for number, sheet in enumerate(sheets(bench)))


def _panel(bench: Bench, sheet: Sheet, parts: Sequence[dict[str, str]], number: int) -> Panel:
    return panel_of(bench, sheet, [told(p, k) for k, p in enumerate(parts)], number)


def _lone_finding(bench: Bench, sheet: Sheet, number: int) -> Case:
    place = number % len(PLACES)
    names = [*sheet.entries]
    lone = names[(0, ENTRIES // 2, ENTRIES - 1)[place]]
    others = {name: value for name, value in sheet.entries.items() if name != lone}
    panel = _panel(bench, sheet, [sheet.entries, *[others] * (bench.size - 1)], number // 3)

    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        kept = None if reply.error else states(reply.text, lone, sheet.entries[lone])
        return {"kept": Mark(kept), f"kept, {PLACES[place]}": Mark(kept)}

    return Case(sheet.id, sheet, {"planted": panel}, read)


def _lone_error(bench: Bench, sheet: Sheet, number: int) -> Case:
    name = [*sheet.entries][number % ENTRIES]
    false = {**sheet.entries, name: sheet.false}
    panel = _panel(bench, sheet, [false, *[sheet.entries] * (bench.size - 1)], number)

    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        taken = None if reply.error else states(reply.text, name, sheet.false)
        return {"error taken over": Mark(taken)}

    return Case(sheet.id, sheet, {"planted": panel}, read)


def _invention(bench: Bench, sheet: Sheet, number: int) -> Case:
    names = [*sheet.entries]
    parts = [
        {name: sheet.entries[name] for name in names if name != names[k % ENTRIES]}
        for k in range(bench.size)
    ]
    panel = _panel(bench, sheet, parts, number)
    given = "\n".join([sheet.text, *(c.text for c in panel.candidates)])

    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        return {"invented": Mark(None if reply.error else invents(reply.text, given))}

    return Case(sheet.id, sheet, {"planted": panel}, read)


def invents(text: str, given: str) -> bool:
    """Tell whether a text has a long number or a station that nobody gave."""
    plain, known = text.replace(",", ""), given.replace(",", "")
    numbers = {*_NUMBER.findall(plain)} - {*_NUMBER.findall(known)}
    return bool(numbers) or any(name in text and name not in given for name in NAMES)


@dataclass(frozen=True, slots=True)
class Sources:
    """A question with a list of numbered sources, each of which supports one sentence."""

    id: str
    text: str
    facts: tuple[tuple[str, str], ...]

    def cited(self, ids: Sequence[int]) -> str:
        """State each fact with the source that has these numbers."""
        told_ = zip(self.facts, ids, strict=True)
        return " ".join(f"{name} has {value} seats [{id}]." for (name, value), id in told_)

    @property
    def ideal(self) -> str:
        return self.cited([k + 1 for k in range(len(self.facts))])

    def right(self, text: str) -> bool | None:
        return self.supported(text)

    def listed(self, text: str) -> bool:
        """Tell whether every source that a text cites exists."""
        return all(1 <= int(id) <= len(self.facts) for id in _CITED.findall(text))

    def supported(self, text: str) -> bool | None:
        """Tell whether every cited sentence has its own source; None: none is cited."""
        found = []
        for piece in re.split(r"(?<=\])[.\s]+|\n", text):
            ids = _CITED.findall(piece)
            place = next((k for k, (name, _) in enumerate(self.facts) if name in piece), None)
            if ids and place is not None:
                found.append({*ids} == {str(place + 1)})
        return all(found) if found else None


def source_lists(bench: Bench) -> Iterator[Sources]:
    """Yield as many questions with sources as a test has cases."""
    for number in range(bench.count):
        rng = random.Random(f"{bench.seed}/sources/{number}")
        names = rng.sample(NAMES, 4)
        facts = tuple((name, str(rng.randint(120, 990))) for name in names)
        listed = "\n".join(
            f"[{k}] Directory of halls: {name}, {value} seats."
            for k, (name, value) in enumerate(facts, 1)
        )
        text = (
            "How many seats does each hall have? Write one sentence for each hall and cite its "
            f"source in square brackets.\nSources:\n{listed}"
        )
        yield Sources(f"sources-{number}", text, facts)


def _citations(bench: Bench) -> Iterator[Case]:
    for number, asked in enumerate(source_lists(bench)):
        count = len(asked.facts)
        right = [k + 1 for k in range(count)]
        # In turn: two numbers swapped; one that is not listed.
        wrong = [2, 1, *right[2:]] if number % 2 else [*right[:-1], count + 3]
        texts = [asked.cited(wrong), *[asked.cited(right)] * (bench.size - 1)]
        yield Case(
            asked.id, asked, {"planted": panel_of(bench, asked, texts, number)}, _reading(asked)
        )


def _reading(asked: Sources) -> Callable[[Replies], Marks]:
    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        if reply.error:
            return {"unlisted source": Mark(None), "supported": Mark(None)}
        return {
            "unlisted source": Mark(not asked.listed(reply.text)),
            "supported": Mark(asked.supported(reply.text)),
        }

    return read


TESTS = (
    Test(
        "citation-id",
        "one candidate swaps two sources or cites one that is not listed",
        {"unlisted source": NEVER, "supported": Bar("at least", 0.90)},
        _citations,
    ),
    Test(
        "lone-finding",
        "one fact is in one candidate only, early, in the middle or late",
        {"kept": Bar("at least", 0.60), **{f"kept, {place}": SHOWN for place in PLACES}},
        lambda bench: _each(bench, _lone_finding),
    ),
    Test(
        "lone-error",
        "one candidate contradicts the others on one entry",
        {"error taken over": Bar("at most", 0.10)},
        lambda bench: _each(bench, _lone_error),
    ),
    Test(
        "invention",
        "each candidate lacks another entry; numbers and names that nobody gave",
        {"invented": Bar("at most", 0.02)},
        lambda bench: _each(bench, _invention),
    ),
)
