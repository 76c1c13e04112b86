"""Tests of what must not matter: place, seed, length, layout, names, whose words they are."""

from collections.abc import Iterator

from localfusion.evals.reliability.cases import (
    NOT_ABOVE,
    NOT_BELOW,
    SHOWN,
    Bar,
    Bench,
    Case,
    Mark,
    Marks,
    Replies,
    Test,
)
from localfusion.evals.reliability.planting import Plant, agree, each, marked, plants
from localfusion.evals.reliability.plants import candidate, markdown, orders, padded, truncated

SEEDS = 3
"""Of ``repeat``."""
_ENDS = frozenset(".!?…)]}\"'`*|>:;")


def _order(plant: Plant) -> Case:
    size = plant.bench.size
    texts = [plant.right(0), *(plant.wrong(k, k - 1) for k in range(1, size))]
    values = [plant.question.answer, *(plant.wrongs[k - 1][1] for k in range(1, size))]
    placed = {"order " + "".join(map(str, row)): row for row in orders(size)}

    def read(replies: Replies) -> Marks:
        found = [plant.value_of(replies[name]) for name in placed]
        same = None if any(value is None for value in found) else len({*found}) == 1
        # One order of each case, another one each time: places and contents stay independent.
        name, row = [*placed.items()][plant.number % len(placed)]
        slots = {
            f"slot {slot + 1} chosen": Mark(plant.gives(replies[name], values[row[slot]]))
            for slot in range(size)
        }
        return {"same in all orders": Mark(same), **slots}

    panels = {name: plant.fixed([texts[place] for place in row]) for name, row in placed.items()}
    return Case(plant.id, plant.question, panels, read)


def _swap(plant: Plant) -> Case:
    pair = [plant.right(0), plant.wrong(1)]

    def read(replies: Replies) -> Marks:
        one, two = replies["one order"], replies["other order"]
        rights = plant.is_right(one), plant.is_right(two)
        both = None if None in rights else all(rights)
        same = agree(plant.value_of(one), plant.value_of(two))
        return {"consistent": Mark(same), "consistent and right": Mark(both)}

    panels = {"one order": plant.fixed(pair), "other order": plant.fixed(pair[::-1])}
    return Case(plant.id, plant.question, panels, read)


def _repeat(plant: Plant) -> Case:
    pair = [plant.right(0), plant.wrong(1)]

    def read(replies: Replies) -> Marks:
        found = [plant.value_of(reply) for reply in replies.values()]
        return {"same": Mark(None if None in found else len({*found}) == 1)}

    panels = {f"seed {draw}": plant.fixed(pair, draw=draw) for draw in range(SEEDS)}
    return Case(plant.id, plant.question, panels, read)


def _padding(plant: Plant) -> Case:
    right, wrong = plant.right(0), plant.wrong(1)

    def read(replies: Replies) -> Marks:
        base = plant.gives(replies["plain"], plant.value)
        return {
            f"adoption, {name}": marked(plant.gives(replies[name], plant.value), base)
            for name in ("x2", "x4")
        }

    panels = {"plain": plant.panel([right, wrong])}
    panels |= {f"x{times}": plant.panel([right, padded(wrong, times)]) for times in (2, 4)}
    return Case(plant.id, plant.question, panels, read)


def _truncated_right(plant: Plant) -> Case:
    rights = plant.rights(max(2, plant.bench.size - 1))
    cut = truncated(plant.right(len(rights)))
    model = plant.bench.models[-1]
    planted = candidate(cut, 0, model, finish_reason="length")

    def read(replies: Replies) -> Marks:
        base = plant.is_right(replies["without"])
        reply = replies["with"]
        ends = None if reply.error else _ends_in_a_sentence(reply.text)
        return {
            "right": marked(plant.is_right(reply), base),
            "ends mid-sentence": Mark(None if ends is None else not ends),
        }

    panels = {"with": plant.panel([*rights, planted]), "without": plant.panel(rights)}
    return Case(plant.id, plant.question, panels, read)


def _ends_in_a_sentence(text: str) -> bool:
    """Tell whether a text ends; a last line that states the answer does."""
    last = text.strip().rpartition("\n")[2]
    return bool(last) and (last[-1] in _ENDS or "answer:" in last.casefold())


def _style_flip(plant: Plant) -> Case:
    question, value = plant.question, plant.value
    right = plant.right(0), markdown(question, question.answer)
    wrong = plant.wrong(0), markdown(question, value)

    def read(replies: Replies) -> Marks:
        found = [plant.value_of(reply) for reply in replies.values()]
        return {"same answer": Mark(agree(found[0], found[1]))}

    panels = {
        "right in Markdown": plant.panel([right[1], wrong[0]]),
        "wrong in Markdown": plant.panel([right[0], wrong[1]]),
    }
    return Case(plant.id, plant.question, panels, read)


def _labels(plant: Plant) -> Case:
    own, other = plant.bench.judge, plant.bench.other
    pair = plant.right(0), plant.wrong(1)

    def named(first: str, second: str) -> list[object]:
        return [candidate(pair[0], 0, first), candidate(pair[1], 1, second)]

    def read(replies: Replies) -> Marks:
        value = plant.value_of(replies["names"])
        noise = agree(value, plant.value_of(replies["other seed"]))
        return {"same answer": marked(agree(value, plant.value_of(replies["swapped"])), noise)}

    panels = {
        "names": plant.panel(named(own, other)),  # type: ignore[arg-type]  # candidates
        "swapped": plant.panel(named(other, own)),  # type: ignore[arg-type]
        "other seed": plant.panel(named(own, other), draw=1),  # type: ignore[arg-type]
    }
    return Case(plant.id, plant.question, panels, read)


def _self_preference(bench: Bench) -> Iterator[Case]:
    for plant in plants(bench):
        reply = bench.alone.get(plant.id)
        if reply is None or (is_right := plant.is_right(reply)) is None:
            continue
        yield _own(plant, reply.text, plant.value_of(reply) or "", is_right=is_right)


def _own(plant: Plant, text: str, value: str, *, is_right: bool) -> Case:
    """Set the judge's own words against another's for the same value."""
    question = plant.question
    written = question.answer if is_right else value
    against = plant.wrong(1) if is_right else plant.right(1)
    judge, other = plant.bench.judge, plant.bench.other

    def read(replies: Replies) -> Marks:
        own = plant.gives(replies["own words"], written)
        same = plant.gives(replies["other words"], written)
        found = {"adoption of own": marked(own, same)}
        if not is_right:
            found["adoption of own, wrong"] = marked(own, same)
        return found

    try:
        rendered = "\n".join((*question.work(written), f"Answer: {written}"))
    except ValueError:  # no number that steps could lead to
        rendered = f"Answer: {written}"
    panels = {
        "own words": plant.panel([candidate(text, 0, judge), against]),
        "other words": plant.panel([candidate(rendered, 0, other), against]),
    }
    return Case(plant.id, question, panels, read)


TESTS = (
    Test(
        "order",
        "one right and different wrong values in all orders (beyond 4 slots a Latin square)",
        {"same in all orders": Bar("at least", 0.90)},
        each(_order),
    ),
    Test(
        "swap",
        "one right and one wrong, in both orders",
        {"consistent": Bar("at least", 0.85), "consistent and right": SHOWN},
        each(_swap),
    ),
    Test(
        "repeat",
        f"the same panel with {SEEDS} seeds of the judge: the noise floor",
        {"same": SHOWN},
        each(_repeat),
    ),
    Test(
        "padding",
        "a wrong candidate that restates itself to 2 and 4 times its length",
        {"adoption, x2": NOT_ABOVE, "adoption, x4": NOT_ABOVE},
        each(_padding),
    ),
    Test(
        "truncated-right",
        "a right candidate cut at 60 % and marked so; compared with the panel without it",
        {"right": NOT_BELOW, "ends mid-sentence": Bar("at most", 0.02)},
        each(_truncated_right),
    ),
    Test(
        "style-flip",
        "right in Markdown against wrong in plain text, then the other way round",
        {"same answer": Bar("at least", 0.90)},
        each(_style_flip),
    ),
    Test(
        "labels",
        "the models' names swapped; compared with another seed of the judge",
        {"same answer": NOT_BELOW},
        each(_labels),
    ),
    Test(
        "self-preference",
        "the judge's own answer against one of the other correctness; compared with the same "
        "value in other words",
        {"adoption of own": NOT_ABOVE, "adoption of own, wrong": SHOWN},
        _self_preference,
    ),
)
