"""Questions with exact answers, made here: what is asked, what is right, how a solution reads.

A solution is worked out around a value, right or wrong, by the same words: style gives no truth
away. Nothing is looked up and nothing depends on another package: the same seed asks the same.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType

from localfusion.fusion.agreement.extract import Extracted, Extractor, Kind, same

END = "End with one line of this form: Answer: {form}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one right answer.

    Attributes:
        kind: How an answer to it is found in a text.
        answer: As a right solution writes it.
        wrong: Values that a plant may have, by the kind of mistake; some may turn out right.
        work: Makes the lines of a solution that comes to a value.
    """

    id: str
    family: str
    text: str
    kind: Kind
    answer: str
    wrong: Mapping[str, str]
    work: Callable[[str], tuple[str, ...]]
    options: tuple[str, ...] = field(default=())

    @property
    def ideal(self) -> str:
        """A right answer, short."""
        return "\n".join((*self.work(self.answer), f"Answer: {self.answer}"))

    def extract(self, text: str) -> Extracted | None:
        """Return the answer that a text gives, None where none can be found."""
        return Extractor(self.kind, options=self.options).extract(text)

    def gives(self, text: str, value: str) -> bool | None:
        """Tell whether a text answers with a value; None: it has no answer that can be read."""
        found, wanted = self.extract(text), self.extract(f"Answer: {value}")
        if found is None or wanted is None:
            return None
        return same(found, wanted)

    def right(self, text: str) -> bool | None:
        """Tell whether a text answers rightly; None: it has no answer that can be read."""
        return self.gives(text, self.answer)


Family = Callable[[str, random.Random], Question]


def _sum(id: str, rng: random.Random) -> Question:
    a, b, c = rng.randint(120, 980), rng.randint(110, 890), rng.randint(11, 99)
    answer = a + b - c
    return Question(
        id,
        "sum",
        f"What is {a} + {b} - {c}? {END.format(form='the number')}",
        "number",
        str(answer),
        {**_numbers(answer), "sign": str(a + b + c)},
        lambda v: (f"{a} + {b} = {int(v) + c}", f"{int(v) + c} - {c} = {v}"),
    )


def _product(id: str, rng: random.Random) -> Question:
    a, tens, ones = rng.randint(13, 97), rng.randint(2, 9), rng.randint(2, 9)
    b = 10 * tens + ones
    return Question(
        id,
        "product",
        f"What is {a} times {b}? {END.format(form='the number')}",
        "number",
        str(a * b),
        _numbers(a * b),
        lambda v: (
            f"{a} times {10 * tens} is {int(v) - a * ones}",
            f"{a} times {ones} is {a * ones}",
            f"together that is {v}",
        ),
    )


_THINGS = ("notebooks", "lamps", "tickets", "cables", "mugs", "plants")


def _price(id: str, rng: random.Random) -> Question:
    thing = rng.choice(_THINGS)
    each, count, shipping = rng.randint(3, 48), rng.randint(3, 19), rng.randint(4, 15)
    answer = each * count + shipping
    return Question(
        id,
        "price",
        f"A shop sells {thing} at {each} euros each; shipping costs {shipping} euros for the whole "
        f"order. How many euros do {count} {thing} cost with shipping? "
        + END.format(form="the number of euros"),
        "number",
        str(answer),
        {**_numbers(answer), "unit": str(answer * 100)},
        lambda v: (
            f"{count} {thing} cost {int(v) - shipping} euros without shipping",
            f"with {shipping} euros for shipping that is {v} euros",
        ),
    )


def _date(id: str, rng: random.Random) -> Question:
    start = date(2023, 1, 1) + timedelta(days=rng.randrange(700))
    days = rng.randint(9, 75)
    end = start + timedelta(days=days)
    near = {
        "next day": end + timedelta(days=1),
        "day before": end - timedelta(days=1),
        "other month": end + timedelta(days=30),
    }
    return Question(
        id,
        "date",
        f"Which date is {days} days after {start.isoformat()}? "
        + END.format(form="the date as YYYY-MM-DD"),
        "text",
        end.isoformat(),
        {kind: day.isoformat() for kind, day in near.items()},
        lambda v: (f"counted from {start.isoformat()}, {days} days on", f"the count ends at {v}"),
    )


def _order(id: str, rng: random.Random) -> Question:
    numbers = rng.sample(range(100, 999), 5)
    ordered = sorted(numbers)
    wrong = {}
    for place in range(4):
        turned = [*ordered]
        turned[place], turned[place + 1] = turned[place + 1], turned[place]
        wrong[f"transposition {place + 1}"] = " ".join(map(str, turned))
    return Question(
        id,
        "order",
        f"Sort these numbers from the smallest to the largest: {' '.join(map(str, numbers))}. "
        + END.format(form="the numbers with spaces between them"),
        "text",
        " ".join(map(str, ordered)),
        wrong,
        lambda v: ("taking the smallest that is left each time", f"the order becomes {v}"),
    )


def _option(id: str, rng: random.Random) -> Question:
    a, b = rng.randint(12, 60), rng.randint(12, 60)
    product = a * b
    values = [product, product + 10, product - rng.randint(1, 9), product + rng.randint(11, 99)]
    rng.shuffle(values)
    letters = "ABCD"
    answer = letters[values.index(product)]
    listed = "\n".join(f"{x}) {v}" for x, v in zip(letters, values, strict=True))
    return Question(
        id,
        "option",
        f"Which of these is {a} times {b}?\n{listed}\n" + END.format(form="the letter"),
        "choice",
        answer,
        {f"option {x}": x for x in letters if x != answer},
        lambda v: (
            f"{a} times {b} comes to {values[letters.index(v)]}",
            f"that is listed under {v}",
        ),
        options=tuple(map(str, values)),
    )


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "sum": _sum,
        "product": _product,
        "price": _price,
        "date": _date,
        "order": _order,
        "option": _option,
    }
)
NUMERIC = ("sum", "product", "price")
"""Families whose wrong values have a mean with the right one."""


def questions(count: int, seed: int) -> tuple[Question, ...]:
    """Return so many questions, the families in turn; none is asked twice."""
    return tuple(_made(count, seed, tuple(FAMILIES)))


def numeric_questions(count: int, seed: int) -> tuple[Question, ...]:
    """Return questions whose answers are numbers."""
    return tuple(_made(count, seed, NUMERIC))


def _made(count: int, seed: int, families: tuple[str, ...]) -> Iterator[Question]:
    asked: set[str] = set()
    number = 0
    while len(asked) < count:
        family = families[number % len(families)]
        question = FAMILIES[family](f"{family}-{number}", random.Random(f"{seed}/{number}"))
        number += 1
        if question.text not in asked:
            asked.add(question.text)
            yield question


def _numbers(answer: int) -> dict[str, str]:
    """Return wrong numbers near a right one."""
    digits = str(answer)
    return {
        "plus 1": str(answer + 1),
        "minus 1": str(answer - 1),
        "plus 10 %": str(round(answer * 1.1)),
        "minus 10 %": str(round(answer * 0.9)),
        "digit swap": digits[1] + digits[0] + digits[2:],
        "factor 10": str(answer * 10),
    }
