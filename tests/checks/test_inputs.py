"""Inputs for a function: always the same, fit for its signature, the request's own first."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.checks import inputs_for


def read(arguments: str) -> tuple[object, ...]:
    call = ast.parse(f"f({arguments})", mode="eval").body
    assert isinstance(call, ast.Call)
    return tuple(
        set() if ast.unparse(one) == "set()" else ast.literal_eval(one) for one in call.args
    )


def test_examples_of_the_request_come_first() -> None:
    request = "f(3, 'x') -> 1\nf(4, 'y') -> 2"

    inputs = inputs_for("def f(n, s): return n", request)

    assert inputs[:2] == ("3, 'x'", "4, 'y'")
    assert len(inputs) == len(set(inputs)) == 8


@pytest.mark.parametrize(
    ("signature", "kinds"),
    [
        ("n: int, s: str", (int, str)),
        ("xs: list[int]", (list,)),
        ("xs: List[List[str]], flag: bool", (list, bool)),
        ("d: dict[str, int]", (dict,)),
        ("p: tuple[int, str]", (tuple,)),
        ("p: tuple[int, ...]", (tuple,)),
        ("s: 'set[int]'", (set,)),
        ("x: Optional[float] = None", (float, type(None))),
        ("x: int | None", (int, type(None))),
        ("nums, k", (list, int)),
        ("text", (str,)),
        ("grid", (list,)),
        ("a=1.5", (list, float)),
    ],
)
def test_values_fit_hints_names_and_defaults(signature: str, kinds: tuple[type, ...]) -> None:
    inputs = inputs_for(f"def f({signature}): ...", "")

    assert len(inputs) >= 2
    assert {type(one) for arguments in inputs for one in read(arguments)} == set(kinds)


def test_literals_of_the_request_are_tried() -> None:
    inputs = inputs_for("def f(n: int, s: str): ...", "Count 'ab' in the first 4321 letters.")

    assert any("4321" in one for one in inputs)
    assert any("'ab'" in one for one in inputs)


def test_method_of_a_solution_class_counts_without_self() -> None:
    code = "class Solution:\n    def go(self, n: int) -> int: return n"

    assert all(len(read(one)) == 1 for one in inputs_for(code, ""))


@pytest.mark.parametrize("code", ["", "x = 1", "def f(", "def a(): ...\ndef b(): ..."])
def test_no_single_function_no_inputs(code: str) -> None:
    assert inputs_for(code, "") == ()


def test_function_without_parameters_is_called_once() -> None:
    assert inputs_for("def f(): return 1", "") == ("",)


HINTS = st.recursive(
    st.sampled_from(["int", "str", "float", "bool", "Any", "bytes", "list", "Foo"]),
    lambda inner: (
        st.builds("list[{}]".format, inner)
        | st.builds("dict[str, {}]".format, inner)
        | st.builds("tuple[{}, {}]".format, inner, inner)
        | st.builds("{} | None".format, inner)
        | st.builds("Union[{}, {}]".format, inner, inner)
    ),
    max_leaves=5,
)


@given(st.lists(HINTS, min_size=1, max_size=4), st.integers(1, 12))
def test_any_signature_gives_readable_inputs_and_always_the_same(
    hints: list[str], count: int
) -> None:
    code = f"def f({', '.join(f'p{number}: {hint}' for number, hint in enumerate(hints))}): ..."

    inputs = inputs_for(code, "", count)

    assert inputs == inputs_for(code, "", count)
    assert 1 <= len(inputs) <= count
    assert all(len(read(one)) == len(hints) for one in inputs)
