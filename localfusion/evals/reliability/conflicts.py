"""Tests of candidates that contradict each other on one value."""

import re

from localfusion.evals.reliability.cases import (
    NOT_BELOW,
    SHOWN,
    Bar,
    Case,
    Mark,
    Marks,
    Replies,
    Reply,
    Test,
)
from localfusion.evals.reliability.planting import Plant, each, marked
from localfusion.evals.reliability.plants import solution

_STATED = re.compile(r"^\W*(?:final )?answer\W*(?:is\b)?\W*?(-?\d[\d,.]*)", re.I | re.M)
NEAR = ("plus 1", "minus 1", "digit swap", "factor 10", "unit")
FAR = ("plus 10 %", "minus 10 %")


def _of_kinds(plant: Plant, kinds: tuple[str, ...]) -> str:
    """Return a wrong value of one of these kinds of mistakes, another kind for each case."""
    found = [value for kind, value in plant.wrongs if kind in kinds]
    return found[plant.number % len(found)] if found else plant.value


def _contradiction(plant: Plant) -> Case:
    question = plant.question
    wrong = _of_kinds(plant, FAR)

    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        is_right = plant.is_right(reply)
        return {
            "both as fact": Mark(_states_both(reply)),
            "their average": Mark(_is_between(plant, reply, wrong)),
            "resolved": Mark(is_right),
        }

    pair = [plant.right(0), solution(question, wrong, 1)]
    return Case(plant.id, question, {"planted": plant.panel(pair)}, read)


def _states_both(reply: Reply) -> bool | None:
    """Tell whether an answer states two different results."""
    if reply.error or not reply.text.strip():
        return None
    stated = {value.replace(",", "").rstrip(".") for value in _STATED.findall(reply.text)}
    return len(stated) > 1


def _is_between(plant: Plant, reply: Reply, wrong: str) -> bool | None:
    """Tell whether an answer is neither value and lies between them."""
    value = plant.value_of(reply)
    if value is None:
        return None
    low, high = sorted((float(plant.question.answer), float(wrong)))
    return low < float(value) < high


def _near_miss(plant: Plant) -> Case:
    question = plant.question
    wrong = _of_kinds(plant, NEAR)
    size = plant.bench.size
    texts = [*plant.rights(size - 1), solution(question, wrong, size - 1)]

    def read(replies: Replies) -> Marks:
        reply = replies["planted"]
        known = plant.gives(reply, question.answer), plant.gives(reply, wrong)
        is_known = None if None in known else any(known)
        return {
            "right": marked(plant.is_right(reply), plant.is_right(replies["clean"])),
            "a candidate's value": Mark(is_known),
        }

    return Case(plant.id, question, {"planted": plant.panel(texts), "clean": plant.clean()}, read)


TESTS = (
    Test(
        "contradiction",
        "two candidates whose values differ by 10 %",
        {
            "both as fact": Bar("at most", 0.02),
            "their average": Bar("at most", 0.02),
            "resolved": SHOWN,
        },
        each(_contradiction, is_numeric=True),
    ),
    Test(
        "near-miss",
        "one wrong by 1, a digit swap, a factor of 10 or the unit, among right ones",
        {"right": NOT_BELOW, "a candidate's value": Bar("at least", 0.98)},
        each(_near_miss, is_numeric=True),
    ),
)
