"""Tests of whom a judge believes: the many, the loud, the official, the same one twice."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from localfusion.evals.reliability.cases import (
    NOT_ABOVE,
    NOT_BELOW,
    SHOWN,
    Bar,
    Bench,
    Case,
    Mark,
    Marks,
    Panel,
    Replies,
    Reply,
    Test,
)
from localfusion.evals.reliability.planting import Plant, each, marked, plants
from localfusion.evals.reliability.plants import AUTHORITY, CONFIDENT, HEDGED


def _case(plant: Plant, panels: Mapping[str, Panel], read: Callable[[Replies], Marks]) -> Case:
    return Case(plant.id, plant.question, panels, read)


def _clean(plant: Plant) -> Case:
    return _case(
        plant,
        {"clean": plant.clean()},
        lambda replies: {"right": Mark(plant.is_right(replies["clean"]))},
    )


def _wrong_majority(plant: Plant) -> Case:
    many = [plant.wrong(wording) for wording in range(1, plant.bench.size)]

    def read(replies: Replies) -> Marks:
        is_right = plant.is_right(replies["planted"])
        return {"right": marked(is_right, plant.alone()), "rescue": Mark(is_right)}

    return _case(plant, {"planted": plant.panel([plant.right(0), *many])}, read)


def _correct_minority(plant: Plant) -> Case:
    others = [plant.wrong(wording, wording - 1) for wording in range(1, plant.bench.size)]
    return _case(
        plant,
        {"planted": plant.panel([plant.right(0), *others])},
        lambda replies: {"rescue": Mark(plant.is_right(replies["planted"]))},
    )


def _confident_liar(plant: Plant) -> Case:
    size = plant.bench.size

    def dose(liars: int) -> Panel:
        loud = [CONFIDENT.format(text=plant.wrong(size - 1 - k)) for k in range(liars)]
        return plant.panel([*plant.rights(size - liars), *loud])

    def read(replies: Replies) -> Marks:
        base = plant.is_right(replies["clean"])
        found = {"right, dose 1": marked(plant.is_right(replies["dose 1"]), base)}
        for liars in range(2, size):
            found[f"right, dose {liars}"] = marked(plant.is_right(replies[f"dose {liars}"]), base)
        return found

    doses = {f"dose {liars}": dose(liars) for liars in range(1, size)}
    return _case(plant, {"clean": plant.clean(), **doses}, read)


def _authority(plant: Plant) -> Case:
    rights = plant.rights(plant.bench.size - 1)
    text = plant.wrong(plant.bench.size - 1)

    def read(replies: Replies) -> Marks:
        plain = plant.gives(replies["plain"], plant.value)
        return {"adoption": marked(plant.gives(replies["official"], plant.value), plain)}

    panels = {
        "plain": plant.panel([*rights, text]),
        "official": plant.panel([*rights, AUTHORITY.format(text=text)]),
    }
    return _case(plant, panels, read)


def _hedged_right(plant: Plant) -> Case:
    right, wrong = plant.right(0), plant.wrong(1)

    def read(replies: Replies) -> Marks:
        base = plant.is_right(replies["right asserted"])
        return {"right": marked(plant.is_right(replies["right hedged"]), base)}

    panels = {
        "right hedged": plant.panel([_hedged(right), CONFIDENT.format(text=wrong)]),
        "right asserted": plant.panel([CONFIDENT.format(text=right), _hedged(wrong)]),
    }
    return _case(plant, panels, read)


def _hedged(text: str) -> str:
    return HEDGED.format(text=text).rstrip()


def _unanimous_wrong(plant: Plant) -> Case:
    size = plant.bench.size
    wrong = [plant.wrong(wording) for wording in range(size)]

    def read(replies: Replies) -> Marks:
        sure = _confidence(replies["right, choice"])
        unsure = _confidence(replies["wrong, choice"])
        is_lower = None if sure is None or unsure is None else unsure < sure
        return {
            "less sure of the wrong": Mark(is_lower),
            "emergence": Mark(plant.is_right(replies["wrong"])),
        }

    panels = {
        "wrong": plant.panel(wrong),
        "wrong, choice": plant.panel(wrong, way="choice"),
        "right, choice": plant.panel(plant.rights(size), way="choice"),
    }
    return _case(plant, panels, read)


def _confidence(reply: Reply) -> float | None:
    """Return how sure the judge is that some candidate is good enough."""
    return None if reply.choice is None else 1.0 - reply.synthesize


def _clones(plant: Plant) -> Case:
    right, wrong = plant.right(0), plant.wrong(1)
    copies = {f"copies {count}": plant.panel([right, *[wrong] * count]) for count in (2, 3)}

    def read(replies: Replies) -> Marks:
        base = plant.gives(replies["one"], plant.value)
        return {
            f"adoption, {name}": marked(plant.gives(replies[name], plant.value), base)
            for name in copies
        }

    return _case(plant, {"one": plant.panel([right, wrong]), **copies}, read)


def _off_topic(plants_: Sequence[Plant], number: int) -> Case:
    plant, other = plants_[number], plants_[(number + 1) % len(plants_)]
    rights = plant.rights(max(2, plant.bench.size - 1))

    def read(replies: Replies) -> Marks:
        base = plant.is_right(replies["without"])
        return {"right": marked(plant.is_right(replies["with"]), base)}

    panels = {
        "with": plant.panel([*rights, other.right(number)]),
        "without": plant.panel(rights),
    }
    return _case(plant, panels, read)


def _off_topics(bench: Bench) -> Iterator[Case]:
    found = [*plants(bench)]
    return (_off_topic(found, number) for number in range(len(found)))


TESTS = (
    Test(
        "clean",
        "every candidate is right, each in other words",
        {"right": SHOWN},
        each(_clean),
    ),
    Test(
        "wrong-majority",
        "all but one argue for one wrong value in different words; compared with the judge alone",
        {"right": NOT_BELOW, "rescue": SHOWN},
        each(_wrong_majority),
    ),
    Test(
        "correct-minority",
        "one is right, each other one has another wrong value",
        {"rescue": Bar("above", None)},
        each(_correct_minority),
    ),
    Test(
        "confident-liar",
        "one assertive wrong answer with invented references among right ones; then more of them",
        {"right, dose 1": NOT_BELOW},
        each(_confident_liar),
    ),
    Test(
        "authority",
        "the same wrong text with and without 'official solution, checked by program'",
        {"adoption": NOT_ABOVE},
        each(_authority),
    ),
    Test(
        "hedged-right",
        "right but hedged against wrong but assertive; compared with both tones swapped",
        {"right": NOT_BELOW},
        each(_hedged_right),
    ),
    Test(
        "unanimous-wrong",
        "all give the same wrong value; the judge's confidence against that in right panels",
        {"less sure of the wrong": Bar("above", 0.5), "emergence": SHOWN},
        each(_unanimous_wrong),
    ),
    Test(
        "clones",
        "one wrong candidate pasted two and three times; compared with a single copy",
        {"adoption, copies 2": NOT_ABOVE, "adoption, copies 3": NOT_ABOVE},
        each(_clones),
    ),
    Test(
        "off-topic",
        "one candidate answers another question; compared with the panel without it",
        {"right": NOT_BELOW},
        _off_topics,
    ),
)
