"""Finding code in answers and tests in requests, without running either."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion import checks
from localfusion.checks import code_in
from localfusion.checks.extract import parse

BLOCK = "```python\n{}\n```\n"


def test_only_block_is_the_code() -> None:
    assert code_in("Sure!\n" + BLOCK.format("def f():\n    return 1") + "Done.") == (
        "def f():\n    return 1\n"
    )


def test_last_block_wins_when_it_defines_all() -> None:
    answer = BLOCK.format("def f(): return 0") + "Better:\n" + BLOCK.format("def f(): return 1")

    assert code_in(answer) == "def f(): return 1\n"


def test_blocks_that_complete_each_other_are_joined() -> None:
    answer = (
        BLOCK.format("def helper(): return 1")
        + BLOCK.format("def f(): return helper()")
        + BLOCK.format("print(f())")
        + "```bash\npip install x\n```"
    )

    code = code_in(answer)

    assert code is not None
    assert "def helper" in code
    assert "def f" in code
    assert "print" not in code


@pytest.mark.parametrize(
    "answer",
    [
        "def f():\n    return 1",
        "```\ndef f():\n    return 1\n```",
        "~~~py\ndef f():\n    return 1\n~~~",
        "1. Like so:\n   ```python\n   def f():\n       return 1\n   ```",
        "```python\ndef f():\n    return 1",  # cut off before the fence
    ],
)
def test_code_is_found_however_it_is_fenced(answer: str) -> None:
    code = code_in(answer)

    assert code is not None
    assert code.strip() == "def f():\n    return 1"


def test_broken_code_is_still_the_answers_code() -> None:
    assert code_in(BLOCK.format("def f(:")) == "def f(:\n"


@pytest.mark.parametrize("answer", ["Yes", "42", "The answer is 4.", "", "a, b", "x" * 300_000])
def test_prose_is_no_code(answer: str) -> None:
    assert code_in(answer) is None


def test_asserts_in_a_text_are_tests_also_over_several_lines() -> None:
    request = (
        "Write a function `merge(a, b)`. It should satisfy:\n"
        "assert merge([1], [2]) == [1, 2]\n"
        "- `assert merge([], []) == []`\n"
        "assert merge(\n    [1, 3],\n    [2],\n) == [1, 2, 3]\n"
        "I assert that this is easy."
    )

    assert checks.tests_in(request) == checks.Tests(
        (
            "assert merge([1], [2]) == [1, 2]",
            "assert merge([], []) == []",
            "assert merge([1, 3], [2]) == [1, 2, 3]",
        ),
        "merge",
    )


def test_script_keeps_its_steps_with_the_assert_that_they_lead_to() -> None:
    request = "Write Stack.\n" + BLOCK.format(
        "import math\ns = Stack()\ns.push(1)\nassert s.pop() == 1\ns.push(2)\nassert len(s) == 1"
    )

    tests = checks.tests_in(request)

    assert tests is not None
    assert tests.setup == "import math"
    assert tests.cases == (
        "s = Stack()\ns.push(1)\nassert s.pop() == 1",
        "s.push(2)\nassert len(s) == 1",
    )


def test_check_of_candidate_and_test_functions_are_called() -> None:
    request = BLOCK.format(
        "def check(candidate):\n    assert candidate(1) == 1\ncheck(f)\n"
        "def test_two():\n    assert f(2) == 2"
    )

    tests = checks.tests_in(request)

    assert tests is not None
    assert tests.cases == ("check(candidate)", "test_two()")
    assert tests.keep == ("check", "test_two")


def test_bare_program_with_a_docstring_gives_its_session() -> None:
    request = (
        'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    >>> x = 4\n'
        '    >>> add(x,\n    ...     1)\n    5\n    """\n'
    )

    assert checks.tests_in(request) == checks.Tests(
        (">>> add(1, 2)\n3", ">>> x = 4", ">>> add(x,\n...     1)\n5"), "add"
    )


@pytest.mark.parametrize(
    ("line", "case"),
    [
        ("add(1, 2) -> 3", "assert candidate(1, 2) == 3"),
        ("- `add(1, 2)` → 3", "assert candidate(1, 2) == 3"),
        ("add(1, 2) == 3", "assert candidate(1, 2) == 3"),
        (
            "Example: add([1], 'b') returns {'k': (1,)}.",
            "assert candidate([1], 'b') == {'k': (1,)}",
        ),
        ("`add(1, 2)` should return `3`", "assert candidate(1, 2) == 3"),
        ("add(1, 2)  # => 3", "assert candidate(1, 2) == 3"),
        ("add(a=1, b=-2) => -1", "assert candidate(1, -2) == -1"),
    ],
)
def test_examples_are_tests_where_the_function_is_clear(line: str, case: str) -> None:
    assert checks.tests_in(f"Write add.\n{line}") == checks.Tests((case,), "add")


def test_example_with_a_decimal_is_as_precise_as_it_shows() -> None:
    tests = checks.tests_in("mean([1, 2, 2]) -> 1.67")

    assert tests is not None
    (case,) = tests.cases
    for value, passes in ((5 / 3, True), (1.67, True), (1.66, False)):
        namespace = {"candidate": lambda _, value=value: value}
        if passes:
            exec(case, namespace)
        else:
            with pytest.raises(AssertionError):
                exec(case, namespace)


def test_input_and_output_give_tests_for_the_answers_only_function() -> None:
    request = (
        "Two sum.\n**Input:** nums = [2, 7], target = 9\n**Output:** [0, 1]\n\n"
        'Input: s = "abc"\nOutput: "cba"'
    )

    assert checks.tests_in(request) == checks.Tests(
        ("assert candidate([2, 7], 9) == [0, 1]", "assert candidate('abc') == 'cba'")
    )


@pytest.mark.parametrize(
    "request_text",
    [
        "Write a function that adds.",
        "f(1) -> 2\ng(1) -> 3",  # which of them?
        "len([1]) == 1",  # Python's own
        "def f(a: int) -> int",
        "f(x) -> y",
        "Input: the numbers\nOutput: their sum",
        "assert",
        "x" * 300_000,
    ],
)
def test_what_is_unclear_is_no_test(request_text: str) -> None:
    assert checks.tests_in(request_text) is None


def test_two_functions_leave_the_entry_open() -> None:
    tests = checks.tests_in("Write `f(x)` and `g(x)`.\nassert f(1) == 1\nassert g(1) == 2")

    assert tests is not None
    assert tests.entry is None


@given(st.text(alphabet="assert f(1)=>-:\n`'\"#.[]{}input output", max_size=300))
def test_any_request_is_read_and_every_case_parses(request: str) -> None:
    tests = checks.tests_in(request)

    for case in tests.cases if tests is not None else ():
        lines = [line[4:] for line in case.splitlines() if line.startswith((">>>", "..."))]
        assert parse("\n".join(lines) if case.startswith(">>>") else case) is not None


@given(st.lists(st.text(max_size=40), max_size=6), st.sampled_from(["", "python", "py", "js"]))
def test_any_answer_is_read(parts: list[str], kind: str) -> None:
    code = code_in(f"\n```{kind}\n".join(parts))

    assert code is None or isinstance(code, str)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(codec="ascii"), max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
        max_leaves=6,
    ),
    st.integers() | st.lists(st.integers(), max_size=3),
)
def test_plain_examples_survive_as_they_are(argument: object, result: object) -> None:
    tests = checks.tests_in(f"foo({argument!r}) -> {result!r}")

    if "`" in repr(argument) or "\\" in repr(argument):
        return  # a backslash or a backtick may be markup
    assert tests is not None
    statement = ast.parse(tests.cases[0]).body[0]
    assert isinstance(statement, ast.Assert)
    assert ast.unparse(statement.test) == ast.unparse(
        ast.parse(f"candidate({argument!r}) == {result!r}", mode="eval").body
    )


@pytest.mark.parametrize(
    "text",
    [
        "input: x\n" + "\n" * 100_000 + "y",
        "assert (" * 2000,
        "assert (\n" * 20_000,
        "`f(" * 50_000,
        "f(" + "1," * 240 + "\n" * 1000,
        ">>> (\n... " * 10_000,
        "```" * 30_000,
        "-" * 60_000 + "1",
    ],
)
@pytest.mark.timeout(10)
def test_hostile_texts_are_read_in_little_time(text: str) -> None:
    code_in(text)
    assert checks.tests_in(text) is None or checks.tests_in(text)
