"""Mathematics: arithmetic done again, values compared, solutions tried."""

import json
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from localfusion.checks import check_maths, equal
from localfusion.checks.arithmetic import NotArithmeticError, evaluate, plain
from localfusion.checks.maths import final_answer
from localfusion.checks.statements import statements_in


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1/2", "0.5"),
        (r"\frac{1}{2}", ".5"),
        (r"\dfrac12", "1/2"),
        ("50%", "0.5"),
        ("50%", "50"),
        (r"50\%", "50 percent"),
        ("1,234,567", "1234567"),
        ("1{,}234", "1234"),
        ("$12.00", "12 dollars"),
        ("5 cm", "50 mm"),
        ("5 cm", "5"),
        (r"5\text{ cm}", "5 cm"),
        ("2 hours", "120 minutes"),
        ("3 apples", "3 apple"),
        ("x = 5", "5"),
        ("(1, 2)", "(1,2)"),
        (r"\{1, 2\}", "{2, 1}"),
        ("x=1 or x=2", "2, 1"),
        (r"x = \pm 3", "3, -3"),
        (r"(-\infty, 2]", r"\left(-\infty,2\right]"),
        ("2^{10}", "1024"),
        ("2**3", "8"),
        ("Paris", "paris"),
        ("0.3333333", "1/3"),
        ("\u22123", "-3"),
    ],
)
async def test_equal_without_a_child(a: str, b: str) -> None:
    assert await equal(a, b) is True
    assert await equal(b, a) is True


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1/2", "0.51"),
        ("[1,2)", "(1,2)"),
        ("(1,2)", "(2,1)"),
        ("{1,2}", "{1,2,3}"),
        ("5 cm", "5 kg"),
        ("5 cm", "5 m"),
        ("0.333", "1/3"),
        ("1,2", "12"),
        ("50%", "5"),
        ("3 apples", "4 pears"),
    ],
)
async def test_different_without_a_child(a: str, b: str) -> None:
    assert await equal(a, b) is False


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Paris", "London"),
        ("5 apples", "5 pears"),
        ("__import__('os').system('ls')", "1"),
        ("().__class__", "2"),
        ("", ""),
        ("x" * 400, "x" * 400),
        ("lambda: 1", "1"),
    ],
)
async def test_undecided_is_none(a: str, b: str) -> None:
    assert await equal(a, b) is None


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        ("x^2", "x^3", False),
        ("y = 2x+1", "2x - y + 1 = 0", True),
        (r"\{\frac{\pi}{4}, \sqrt{4}x\}", r"\{2x, 0.785398163\}", True),
    ],
)
async def test_algebra_is_decided_in_the_sandbox(a: str, b: str, is_same: bool) -> None:
    assert await equal(a, b) is is_same


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("12 * 3 = 38", "12 * 3 = 38 is wrong: 12 * 3 is 36"),
        ("Total: 48/2 = 24, and 48 + 24 = 71.", "48 + 24 = 71 is wrong: 48 + 24 is 72"),
        (r"\[3 \times 4 \div 2 = 5\]", "3 * 4 / 2 = 5 is wrong: 3 * 4 / 2 is 6"),
        ("36/4 = 9 = 10", "36/4 = 10 is wrong: 36/4 is 9"),
        ("20% of 50 = 11", "20/100*50 = 11 is wrong: 20/100*50 is 10"),
        ("**2 + 2 = 5**", "2 + 2 = 5 is wrong: 2 + 2 is 4"),
        ("1. 3 + 4 = 8", "3 + 4 = 8 is wrong: 3 + 4 is 7"),
        ("She pays 5 x $3 = $16", "5*3 = 16 is wrong: 5*3 is 15"),
        ("0.1 + 0.2 = 0.4", "0.1 + 0.2 = 0.4 is wrong: 0.1 + 0.2 is 0.3"),
    ],
)
async def test_wrong_arithmetic_fails_and_is_named(text: str, detail: str) -> None:
    check = await check_maths("A word problem.", f"Let us see.\n{text}\nSo it is.")

    assert (check.kind, check.outcome, check.detail) == ("maths", "failed", detail)


@pytest.mark.parametrize(
    "text",
    [
        "12 * 3 = 36",
        "So we have 5 + 4 = 9 apples, and 9 - 2 = 7.",
        "$1,200 + $300 = $1,500",
        "10 / 3 = 3.33",
        "10 / 3 ≈ 3",
        "2/3 = 66.7%",
        "x = 3 + 4 = 7",
        r"\frac{1}{2} + \frac{1}{3} = \frac{5}{6}",
        "(2)(3) = 6",
        "2**3 = 8 and 9 - 10 = -1",
        r"$3 \cdot 4 = 12$",
    ],
)
async def test_right_arithmetic_passes(text: str) -> None:
    assert (await check_maths("A word problem.", text)).outcome == "passed"


@pytest.mark.parametrize(
    "text",
    [
        "x + 3 = 8",
        "2x = 10",
        "f(2) = 4",
        "5! = 120",
        "|x| + 2 = 5",
        "sqrt(16) = 5",
        "log 8 + 1 = 3",
        "15 mod 4 + 1 = 4",
        "90 minutes / 60 = 2 hours",
        "10:30 + 2 = 12",
        "2 + 3 = 6x",
        "2 + 3 = 6 million",
        "It is not true that 2 + 2 = 5.",
        "If 2 + 2 = 5 then all is true.",
        "- 3 + 4 = 1",
        "10/3 = 3",
        "3.99 * 3 = 11.98",
        "5 = 6",
        "1 + 1 = 10 in binary",
        "9^9^9^9^9 = 1",
        "1/0 = 5",
        "The answer is seven.",
        "",
    ],
)
async def test_what_is_no_plain_statement_counts_for_nothing(text: str) -> None:
    assert (await check_maths("A word problem.", text)).outcome == "unavailable"


@pytest.mark.parametrize(
    ("question", "answer", "outcome"),
    [
        ("What is 17 * 23?", "The answer is 391.", "passed"),
        ("What is 17 * 23?", r"\boxed{381}", "failed"),
        ("Compute 3/4 + 1/8. Give the answer as a fraction.", r"\boxed{\frac{7}{8}}", "passed"),
        ("Calculate 15% of 80", "12", "passed"),
        ("12 x 12 = ?", "The answer is 144", "unavailable"),
        ("Solve 2x + 3 = 11.", "x = 4", "passed"),
        ("Solve 2x + 3 = 11.", "**Answer:** 5", "failed"),
        ("Solve for x: 3(x - 1) = x/2 + 4", "x = 14/5", "passed"),
        ("What is the capital of France?", "Paris", "unavailable"),
        ("What is 17 * 23?", "It is a large number, which I cannot say.", "unavailable"),
    ],
)
async def test_bare_question_is_answered_by_calculation(
    question: str, answer: str, outcome: str
) -> None:
    assert (await check_maths(question, answer)).outcome == outcome


async def test_solutions_of_a_quadratic_are_tried_and_must_be_complete() -> None:
    question = "Solve for x: x^2 - 2 = 0"

    both = await check_maths(question, r"\boxed{\pm\sqrt{2}}")
    one = await check_maths(question, r"x = \sqrt{2}")
    wrong = await check_maths(question, "x = 1.5")

    assert [both.outcome, one.outcome, wrong.outcome] == ["passed", "unavailable", "failed"]
    assert wrong.detail == "x = 1.5 does not solve x^2 - 2 = 0"


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (r"So \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("The answer is 42.", "42"),
        ("**Final answer:** 3.5", "3.5"),
        ("Work.\n= 7", "= 7"),
        ("The reason remains unclear", None),
        ("", None),
    ],
)
def test_final_answer(answer: str, final: str | None) -> None:
    assert final_answer(answer) == final


NUMBERS = st.integers(0, 10**6).map(str) | st.builds(
    "{}.{}".format, st.integers(0, 999), st.integers(0, 99)
)
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
    max_leaves=8,
)


def expected(text: str) -> Fraction:
    import re

    exact = re.sub(r"\d+(?:\.\d+)?", lambda found: f"Fraction('{found[0]}')", text)
    value = eval(exact, {"Fraction": Fraction})
    assert isinstance(value, Fraction)
    return value


@given(EXPRESSIONS)
def test_arithmetic_is_exact(text: str) -> None:
    try:
        wanted = expected(text)
    except ZeroDivisionError:
        with pytest.raises(NotArithmeticError):
            evaluate(text)
        return

    assert evaluate(text) == wanted


@given(st.text(max_size=60) | st.text(alphabet="0123456789+-*/^().%x_e j'\"[]", max_size=40))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        value = evaluate(text)
    except NotArithmeticError:
        return
    assert isinstance(value, Fraction)


@given(st.integers(1, 9999), st.integers(1, 9999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_statement_is_right_exactly_if_it_is(a: int, b: int, sign: str, off: int) -> None:
    result = expected(f"{a} {sign} {b}") + off
    assume(result >= 0)

    (statement,) = statements_in(f"We get {a} {sign} {b} = {result} in all.")

    assert statement.verdict == ("right" if off == 0 else "wrong")


@given(st.text(alphabet="0123456789 +-*/=().,%x\\frac{}^$≈ab\n", max_size=120))
def test_any_text_can_be_searched_for_statements(text: str) -> None:
    assert all(one.verdict in ("right", "wrong", "unclear") for one in statements_in(text))
    assert isinstance(plain(text), str)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    ["(" * 2000 + "=", "1+" * 900 + "=1", "\\frac{" * 300, "{" * 2000, "9" * 1900 + "^9 = 1"],
)
def test_hostile_arithmetic_is_read_in_little_time(text: str) -> None:
    assert not [one for one in statements_in(text) if one.verdict == "wrong"]
    assert json.dumps(plain(text))
