"""Code against tests, and code against code: what passes, what fails, and what cannot be faked."""

import pytest

from localfusion import checks
from localfusion.checks import Limits, behaviors, check_code
from localfusion.types import Check

QUICK = Limits(cpu_seconds=1)
ADD = checks.Tests(
    ("assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"), "add"
)


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}\n```\nIt adds."


async def checked(code: str, *cases: str, setup: str = "", keep: tuple[str, ...] = ()) -> Check:
    return await check_code(fenced(code), checks.Tests(cases, None, setup, keep), limits=QUICK)


async def test_right_code_passes_every_test() -> None:
    check = await check_code(fenced("def add(a, b):\n    return a + b"), ADD)

    assert (check.kind, check.outcome, check.detail) == ("tests", "passed", "3 of 3 tests passed")
    assert check.seconds > 0


async def test_failure_names_the_test_and_what_came_out() -> None:
    check = await check_code(fenced("def add(a, b):\n    return a * b + 3 - 2 * a"), ADD)

    assert check.outcome == "failed"
    assert check.detail == "test 2 of 3, assert add(0, 0) == 0: got 3"


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("def add(a, b):\n    import os; os._exit(0)", "exit code 0"),
        ("def add(a, b):\n    exit(0)", "raises SystemExit"),
        ("def add(a, b): return 3\nimport os\nos._exit(0)", "exit code 0"),
        ("import sys\nfor _ in '1': sys.exit(0)", "raises SystemExit"),
        ("def add(a, b):\n    print('passed'); print('{\"case\": 0}')", "got None"),
        ("import builtins\nbuiltins.abs = lambda x: 0\ndef add(a, b): return 9", "got 9"),
        (
            "import builtins, sys\nclass E(Exception): pass\nbuiltins.AssertionError = E\n"
            "sys.modules['__main__'].Tester = None\ndef add(a, b): return 9",
            "got 9",
        ),
        (
            "import os\nfor one in range(3, 64):\n    try: os.write(one, b'passed\\n')\n"
            "    except OSError: pass\ndef add(a, b): return 3",
            "the program",
        ),
        (
            "import os, signal\ndef add(a, b): os.kill(os.getppid(), signal.SIGKILL)",
            "ended the tests",
        ),
        ("def add(a, b):\n    while True: pass", "used up its CPU time"),
        ("def add(a, b): return 'x' * 10**10", "raises MemoryError"),
        ("def add(a, b): return add(a, b)", "raises RecursionError"),
        ("def add(a, b)\n    return a + b", "raises SyntaxError"),
        ("def plus(a, b): return a + b\ndef minus(a, b): return a - b", "defines no add"),
        ("import ctypes\ndef add(a, b): ctypes.string_at(0)", "was killed by SIGSEGV"),
    ],
)
async def test_no_trick_and_no_crash_passes(code: str, detail: str) -> None:
    check = await check_code(fenced(code), ADD, limits=QUICK)

    assert check.outcome == "failed"
    assert detail in check.detail


@pytest.mark.parametrize(
    "code",
    [
        "class Same:\n    def __eq__(self, other): return True\ndef add(a, b): return Same()",
        "class Same(int):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def add(a, b): return Same(7)",
        "class Same(int):\n    def __eq__(self, other): return True\n"
        "    def __int__(self): return 3\n"
        "def add(a, b): return Same(7)",
    ],
)
async def test_object_that_equals_everything_does_not_pass(code: str) -> None:
    assert (await check_code(fenced(code), ADD)).outcome in ("failed", "error")


async def test_answer_cannot_replace_the_check_function_nor_a_comparison() -> None:
    code = (
        "def add(a, b): return 9\ndef check(f): pass\ndef close(a, b): return True\n"
        "def test_add(): pass"
    )
    request = (
        "```python\ndef check(candidate):\n    assert candidate(1, 2) == 3\n"
        "def close(a, b):\n    return abs(a - b) < 0.1\n"
        "def test_add():\n    assert add(1, 2) == 3\nassert close(add(1, 2), 3)\n```"
    )
    tests = checks.tests_in(request)

    assert tests is not None
    assert set(tests.keep) == {"check", "close", "test_add"}
    for case in tests.cases:
        alone = checks.Tests((case,), "add", tests.setup, tests.keep)
        assert (await check_code(fenced(code), alone)).outcome == "failed"


async def test_answer_finds_no_test_in_its_frames_nor_in_its_memory() -> None:
    code = (
        "import gc, sys\ndef add(a, b):\n"
        "    frame, seen = sys._getframe(), ''\n"
        "    while frame: seen += repr(frame.f_locals); frame = frame.f_back\n"
        "    seen += repr([one for one in gc.get_objects() if type(one) in (dict, list, tuple)])\n"
        "    return seen.count(''.join(['MARK', 'ED']))"
    )

    found = await checked(code, "assert add(1, 2) == 0, 'MARKED'")
    control = await checked(code, "assert add('MARKED', 2) == 0")

    assert found.outcome == "passed"
    assert control.outcome == "failed"


async def test_objects_live_on_and_arguments_are_changed_in_place() -> None:
    code = (
        "from collections import namedtuple, deque\nPoint = namedtuple('Point', 'x y')\n"
        "class Empty(Exception): pass\n"
        "class Stack:\n"
        "    size = 0\n"
        "    def __init__(self, *items): self.items = list(items)\n"
        "    def push(self, item): self.items.append(item); self.size += 1\n"
        "    def pop(self):\n"
        "        if not self.items: raise Empty('nothing')\n"
        "        return self.items.pop()\n"
        "    def __len__(self): return len(self.items)\n"
        "    def __eq__(self, other): return self.items == other.items\n"
        "    def __add__(self, other): return Stack(*self.items, *other.items)\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *_): self.items.clear()\n"
        "def squares(n):\n    yield from (i * i for i in range(n))\n"
        "def sort(items): items.sort()\n"
        "def add_key(d): d['new'] = {1, 2}\n"
        "def apply(f, *xs): return [f(x) for x in xs]\n"
    )
    cases = [
        "s = Stack()\ns.push(4)\nassert s.pop() == 4",
        "try:\n    s.pop()\n    assert False\nexcept Empty as e:\n    assert str(e) == 'nothing'",
        "s.push(1)\nassert len(s) == 1 and s and s.size == 2 and isinstance(s, Stack)",
        "assert Stack(1) + Stack(2) == Stack(1, 2)",
        "with s as same:\n    assert same == s\nassert len(s) == 0",
        "assert list(squares(4)) == [0, 1, 4, 9] and sum(squares(3)) == 5",
        "items = [3, 1, 2]\nsort(items)\nassert items == [1, 2, 3]",
        "d = {'a': None}\nadd_key(d)\nassert d == {'a': None, 'new': {1, 2}}",
        "assert apply(lambda x: x + 1, 1, 2.5) == [2, 3.5]",
        "assert Point(1, 2) == (1, 2) and Point(1, y=2).y == 2",
        "from decimal import Decimal as D\nassert apply(abs, D('-1.5'), -2j) == [D('1.5'), 2.0]",
        "assert apply(bytes.upper, b'a') == [b'A']",
    ]

    check = await checked(code, *cases)

    assert check.detail == "12 of 12 tests passed"


async def test_sessions_are_compared_as_shown_or_as_values() -> None:
    code = (
        "def up(s): return s.upper()\ndef greet(s): print('Hi', s)\n"
        "def bad(): raise ValueError('no')\ndef pair(): return {'b': 1, 'a': 2}"
    )
    cases = [
        '>>> up("a")\n"A"',
        ">>> greet('Bo')\nHi Bo",
        ">>> bad()\nTraceback (most recent call last):\n  ...\nValueError: no",
        ">>> pair()\n{'a': 2, 'b': 1}",
        ">>> for c in 'ab':\n...     up(c)\n'A'\n'B'",
    ]

    good = await checked(code, *cases)
    wrong = await checked(code, ">>> up('a')\n'B'")

    assert good.detail == "5 of 5 tests passed"
    assert (wrong.outcome, wrong.detail) == ("failed", "test 1 of 1, >>> up('a'): got 'A'")


async def test_what_else_an_answer_does_may_fail() -> None:
    code = "def add(a, b): return a + b\nassert add(1, 1) == 3\nn = int(input())\nprint(undefined)"

    assert (await check_code(fenced(code), ADD)).outcome == "passed"


async def test_solution_class_is_called_like_a_function() -> None:
    code = "class Solution:\n    def twoSum(self, nums, target): return [0, len(nums) - 1]"

    check = await checked(code, "assert candidate([2, 7], 9) == [0, 1]")

    assert check.outcome == "passed"


@pytest.mark.parametrize(
    ("code", "case", "outcome"),
    [
        ("import numpy\ndef f(): return 1", "assert f() == 1", "unavailable"),
        ("def f():\n    import torch", "assert f() == 1", "unavailable"),
        ("def f(): return 1\ndef g(): return 2", "assert candidate() == 1", "unavailable"),
        ("def f(): return 1", "assert helper.value == 1", "error"),
        ("def f(): return 1", "assert f() ==", "error"),
        ("import time\ndef f(): time.sleep(60)", "assert f() == 1", "error"),
    ],
)
async def test_only_what_shows_the_code_wrong_counts_as_failed(
    code: str, case: str, outcome: str
) -> None:
    limits = Limits(wall_seconds=1.5)

    check = await check_code(fenced(code), checks.Tests((case,)), limits=limits)

    assert check.outcome == outcome
    assert check.detail


async def test_answer_without_code_is_unavailable() -> None:
    assert (await check_code("I cannot say.", ADD)).outcome == "unavailable"


async def test_answers_that_behave_the_same_are_one_group() -> None:
    answers = [
        fenced("def f(xs): return sorted(set(xs))"),
        fenced("def unique(xs):\n    out = []\n    for x in sorted(xs):\n"
               "        if x not in out: out.append(x)\n    return out"),
        fenced("def f(xs): return list(xs)"),
        "no code",
        fenced("def f(xs): return 1 / 0"),
        fenced("def f(xs): return 2 / 0"),
        fenced("def f(xs): return None / 0"),
    ]  # fmt: skip

    groups = await behaviors(answers, ["[3, 1, 1]", "[]"])

    assert [group.indices for group in groups] == [(0, 1), (2,), (4, 5), (6,)]
    assert groups[0].outcomes == ("[1, 3]", "[]")
    assert groups[2].outcomes == ("raises ZeroDivisionError",) * 2
    assert [group.crashes for group in groups] == [0, 0, 2, 2]


async def test_behavior_is_value_output_and_change_of_arguments() -> None:
    answers = [
        fenced("def f(xs):\n    xs.sort()\n    print(len(xs))"),
        fenced("def f(xs): xs.sort(); print(len(xs))"),
        fenced("def f(xs): print(len(xs))"),
        fenced("def f(xs): return 0.1 + 0.2"),
        fenced("def f(xs): return 0.3"),
        fenced("def f(xs): return {2: object, 1: {'b', 'a'}}"),
        fenced("def f(xs): return (x for x in xs)"),
    ]

    groups = await behaviors(answers, ["[2, 1]"])

    assert [group.indices for group in groups] == [(0, 1), (3, 4), (2,), (5,), (6,)]
    assert groups[0].outcomes == (r"None changes ([1, 2]) prints '2\n'",)
    assert groups[3].outcomes == ("{1: {'a', 'b'}, 2: <class 'object'>}",)
    assert groups[4].outcomes == ("iterates [2, 1]",)


async def test_program_that_ends_itself_or_never_ends_is_a_group_of_its_own() -> None:
    answers = [
        fenced("import os\ndef f(n): return n if n < 2 else os._exit(0)"),
        fenced("def f(n): return n"),
    ]

    groups = await behaviors(answers, ["1", "2", "3"])

    assert [group.indices for group in groups] == [(1,), (0,)]
    assert groups[1].outcomes[0] == "1"
    assert groups[1].outcomes[2] == "not reached"
    assert groups[1].crashes == 2
