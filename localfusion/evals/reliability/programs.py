"""The test of merging code: two right programs of different structure, and a broken one."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from localfusion.checks.code import check_code
from localfusion.checks.extract import Tests
from localfusion.evals.reliability.cases import Bar, Bench, Case, Mark, Replies, Test
from localfusion.evals.reliability.planting import panel_of
from localfusion.evals.scorers.code import has_passed


@dataclass(frozen=True, slots=True)
class Task:
    """A function to write; in its parts ``{k}`` and ``{m}`` are numbers, another pair each time.

    Attributes:
        reference: What it must return, for the tests.
        right: Programs of different structure.
        broken: One that is wrong on some of the tests.
    """

    name: str
    asked: str
    reference: Callable[[list[int], int, int], object]
    right: tuple[str, str]
    broken: str


_TASKS = (
    Task(
        "count_multiples",
        "returns how many numbers of a list are divisible by {k}, or by {m}",
        lambda values, k, m: sum(v % k == 0 or v % m == 0 for v in values),
        (
            "    return sum(1 for v in values if v % {k} == 0 or v % {m} == 0)",
            "    count = 0\n    for v in values:\n        if v % {k} == 0 or v % {m} == 0:\n"
            "            count += 1\n    return count",
        ),
        "    return sum(1 for v in values if v % {k} == 0) + sum(1 for v in values if v % {m} == 0)"
        " + 1",
    ),
    Task(
        "scaled",
        "returns the list of the numbers times {k}, each plus {m}, in reverse order",
        lambda values, k, m: [v * k + m for v in values][::-1],
        (
            "    return [v * {k} + {m} for v in reversed(values)]",
            "    found = []\n    for v in values:\n        found.insert(0, v * {k} + {m})\n"
            "    return found",
        ),
        "    return [(v + {m}) * {k} for v in values][::-1]",
    ),
    Task(
        "largest_below",
        "returns the largest number of a list that is below {k} * {m}, or -1 if there is none",
        lambda values, k, m: max([v for v in values if v < k * m], default=-1),
        (
            "    return max((v for v in values if v < {k} * {m}), default=-1)",
            "    best = -1\n    for v in sorted(values):\n        if v < {k} * {m}:\n"
            "            best = v\n    return best",
        ),
        "    return max(values) if max(values) < {k} * {m} else -1",
    ),
    Task(
        "weighted",
        "returns the sum of a list in which each number is multiplied by {k} at even places and by "
        "{m} at odd places, the first place being 0",
        lambda values, k, m: sum(v * (m if i % 2 else k) for i, v in enumerate(values)),
        (
            "    return {k} * sum(values[::2]) + {m} * sum(values[1::2])",
            "    total = 0\n    for place, v in enumerate(values):\n"
            "        total += v * ({m} if place % 2 else {k})\n    return total",
        ),
        "    return {m} * sum(values[::2]) + {k} * sum(values[1::2])",
    ),
)
_LISTS = ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [12, 7, 30, 5, 18, 44], [60, 3])


@dataclass(frozen=True, slots=True)
class Program:
    """A task with its numbers.

    Attributes:
        cases: Statements that must hold of ``candidate``.
    """

    id: str
    task: Task
    k: int
    m: int

    @property
    def text(self) -> str:
        told = self.task.asked.format(k=self.k, m=self.m)
        return f"Write a Python function {self.task.name}(values) that {told}."

    @property
    def ideal(self) -> str:
        return self.written(self.task.right[0])

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(
            f"assert candidate({values}) == {self.task.reference(values, self.k, self.m)!r}"
            for values in _LISTS
        )

    def written(self, body: str) -> str:
        """Return an answer with a program of this body."""
        code = body.replace("{k}", str(self.k)).replace("{m}", str(self.m))
        return f"```python\ndef {self.task.name}(values):\n{code}\n```"

    def right(self, text: str) -> bool | None:
        """Return None: a text does not tell; the suite runs it, see ``Reply.passed``."""
        return None


def programs(bench: Bench) -> Iterator[Program]:
    """Yield as many tasks as a test has cases."""
    for number in range(bench.count):
        rng = random.Random(f"{bench.seed}/program/{number}")
        k, m = rng.sample(range(2, 10), 2)
        yield Program(f"program-{number}", _TASKS[number % len(_TASKS)], k, m)


async def passes(asked: Program, text: str) -> bool | None:
    """Run an answer's program against the tests; None: nothing here isolates it."""
    return has_passed(await check_code(text, Tests(asked.cases, entry=asked.task.name)))


def _code_merge(bench: Bench) -> Iterator[Case]:
    for number, asked in enumerate(programs(bench)):
        bodies = [*asked.task.right, asked.task.broken]
        bodies += [asked.task.right[k % 2] for k in range(bench.size - len(bodies))]
        texts = [asked.written(body) for body in bodies]
        yield Case(asked.id, asked, {"mixed": panel_of(bench, asked, texts, number)}, _passed)


def _passed(replies: Replies) -> dict[str, Mark]:
    return {"tests pass": Mark(replies["mixed"].passed)}


TESTS = (
    Test(
        "code-merge",
        "two right programs of different structure and a broken one; the answer's tests are run",
        {"tests pass": Bar("at least", 0.95)},
        _code_merge,
    ),
)
