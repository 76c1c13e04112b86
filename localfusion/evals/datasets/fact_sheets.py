"""Fact sheets: a made-up report with numbers that an answer must carry over. No model scores it.

Names and numbers are unique, so that text search tells which entries an answer has; each entry is a
criterion, from which reports read how many of a panel's findings survive the judge.
"""

import random

from localfusion.evals.samples import Dataset, Sample
from localfusion.types import Message

_FIRST = ("Alder", "Birch", "Cedar", "Dune", "Elm", "Fjord", "Grove", "Heron", "Iris", "Jasper")
_SECOND = ("Bay", "Point", "Ridge", "Mill", "Cross", "Field", "Ford", "Gate", "Haven", "Lane")
_MEASURES = (
    "visitors in May",
    "members of staff",
    "tonnes of waste",
    "litres of fuel",
    "parcels a day",
    "square metres",
)
_ENTRIES = 6
_ASK = (
    "Read this report.\n\n{report}\n\nWrite a list of all stations named in it, one on a line, each"
    " with its number of {measure}. Leave out everything else."
)


def generate(count: int, seed: int) -> Dataset:
    """Return so many fact sheets; the same seed gives the same."""
    samples = tuple(_sample(number, random.Random(f"{seed}/{number}")) for number in range(count))
    return Dataset("facts", samples, f"fact sheets of localfusion, seed {seed}")


def _sample(number: int, rng: random.Random) -> Sample:
    names = [f"{first} {second}" for first in _FIRST for second in _SECOND]
    chosen = rng.sample(names, _ENTRIES)
    wanted, other = rng.sample(_MEASURES, 2)
    values = rng.sample(range(1100, 9900), 2 * _ENTRIES)
    sentences = []
    for place, name in enumerate(chosen):
        right, beside = values[place], values[_ENTRIES + place]
        told = (
            f"{name} reports {right} {wanted} and {beside} {other}.",
            f"At {name} there are {beside} {other}, and {right} {wanted}.",
        )
        sentences.append(rng.choice(told))
    facts = {name: str(values[place]) for place, name in enumerate(chosen)}
    errors = {name: str(values[_ENTRIES + place]) for place, name in enumerate(chosen)}
    asked = _ASK.format(report=" ".join(sentences), measure=wanted)
    gold = {"facts": facts, "errors": errors}
    return Sample(f"facts-{number}", "facts", (Message("user", asked),), "facts", gold)
