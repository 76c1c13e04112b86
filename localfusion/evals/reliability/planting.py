"""One question of a test with everything that its panels are planted from."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from localfusion.evals.reliability.cases import Asked, Bench, Case, Mark, Panel, Reply
from localfusion.evals.reliability.plants import candidates, slotted, solution, wrong_values
from localfusion.evals.reliability.questions import Question, numeric_questions, questions
from localfusion.types import Candidate


@dataclass(frozen=True, slots=True)
class Plant:
    """A question, its number among the test's cases, and values that are wrong."""

    bench: Bench
    question: Question
    number: int
    wrongs: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        return self.question.id

    @property
    def value(self) -> str:
        """The wrong value."""
        return self.wrongs[0][1]

    def right(self, wording: int) -> str:
        """Return a right solution."""
        return solution(self.question, self.question.answer, wording)

    def wrong(self, wording: int, which: int = 0) -> str:
        """Return a solution that comes to one of the wrong values."""
        return solution(self.question, self.wrongs[which % len(self.wrongs)][1], wording)

    def rights(self, count: int) -> list[str]:
        """Return right solutions, each in other words."""
        return [self.right(wording) for wording in range(count)]

    def panel(self, texts: Sequence[str | Candidate], **fields: object) -> Panel:
        """Put texts into slots, turned by one for each case."""
        return panel_of(self.bench, self.question, texts, self.number, **fields)

    def fixed(self, texts: Sequence[str | Candidate], **fields: object) -> Panel:
        """Put texts into slots in their own order."""
        return panel_of(self.bench, self.question, texts, 0, **fields)

    def clean(self) -> Panel:
        """Return the panel in which everyone is right."""
        return self.panel(self.rights(self.bench.size))

    # Readings.

    def is_right(self, reply: Reply) -> bool | None:
        return None if reply.error else self.question.right(reply.text)

    def gives(self, reply: Reply, value: str) -> bool | None:
        return None if reply.error else self.question.gives(reply.text, value)

    def value_of(self, reply: Reply) -> str | None:
        """Return the reply's answer, canonical; None: there is none that can be read."""
        found = None if reply.error else self.question.extract(reply.text)
        return None if found is None else found.value

    def alone(self) -> bool | None:
        """Tell whether the judge is right without a panel."""
        reply = self.bench.alone.get(self.id)
        return None if reply is None else self.is_right(reply)


def panel_of(
    bench: Bench, asked: Asked, texts: Sequence[str | Candidate], number: int, **fields: object
) -> Panel:
    """Return a panel whose texts are turned by the case's number."""
    placed = slotted([*texts], number) if texts else []
    return Panel(asked, candidates(placed, bench.models), **fields)  # type: ignore[arg-type]  # as given


def plants(bench: Bench, *, is_numeric: bool = False) -> Iterator[Plant]:
    """Yield a test's questions; the same ones for every test, so that they share their controls."""
    made = numeric_questions if is_numeric else questions
    for number, question in enumerate(made(bench.count, bench.seed)):
        rng = random.Random(f"{bench.seed}/{question.id}/wrong")
        yield Plant(bench, question, number, tuple(wrong_values(question, rng)))


def each(
    make: Callable[[Plant], Case], *, is_numeric: bool = False
) -> Callable[[Bench], Iterator[Case]]:
    """Return what builds a test whose cases are one for each question."""
    return lambda bench: map(make, plants(bench, is_numeric=is_numeric))


def agree(first: str | None, second: str | None) -> bool | None:
    """Tell whether two answers are one; None: one of them could not be read."""
    return None if first is None or second is None else first == second


def marked(met: bool | None, base: bool | None) -> Mark:
    """Return a mark of a comparison; it counts only where both sides could be read."""
    return Mark(None, False) if base is None else Mark(met, base)
