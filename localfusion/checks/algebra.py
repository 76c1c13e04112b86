"""Runs inside the sandbox: decides with sympy what exact arithmetic cannot.

Standard input is a list of tasks as JSON, standard output one line of JSON for each. Expressions
are plain text of numbers, letters and known functions: values.py lets no others through.
"""

import json
import sys

import sympy
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication_application,
    parse_expr,
    standard_transformations,
)

DIGITS = 30
"""In which two values are compared where nothing exact is found."""
CLOSE = 1e-6
"""Relative difference at which a decimal counts as equal."""
NAMES = {
    "e": sympy.E,
    "i": sympy.I,
    "ln": sympy.log,
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "abs": sympy.Abs,
    "oo": sympy.oo,
    "pi": sympy.pi,
    "degrees": sympy.pi / 180,
    # Letters that sympy takes for something else.
    **{letter: sympy.Symbol(letter) for letter in "CENOQSI"},
}
TRANSFORMATIONS = (*standard_transformations, implicit_multiplication_application, convert_xor)


def read(text: str) -> sympy.Expr:
    return parse_expr(text, local_dict=dict(NAMES), transformations=TRANSFORMATIONS)


def read_equation(text: str) -> sympy.Expr:
    left, right = text.split("=")
    return sympy.expand(read(left) - read(right))


def equal(a: str, b: str) -> bool | None:
    if ("=" in a) != ("=" in b):
        return None
    if "=" in a:
        ratio = sympy.simplify(read_equation(a) / read_equation(b))
        return bool(ratio.is_constant() and ratio.is_nonzero)
    first, second = read(a), read(b)
    if sympy.simplify(first - second) == 0:
        return True
    if first.free_symbols or second.free_symbols:
        return _differ_somewhere(first, second)
    left, right = complex(first.evalf(DIGITS)), complex(second.evalf(DIGITS))
    if "." in a + b:
        return abs(left - right) <= CLOSE * max(abs(left), abs(right))
    return False if abs(left - right) > 1e-20 * max(1.0, abs(left)) else None


def _differ_somewhere(first: sympy.Expr, second: sympy.Expr) -> bool | None:
    """Return False where some values of the letters tell them apart, None where none does."""
    letters = sorted(first.free_symbols | second.free_symbols, key=str)
    for shift in range(3):
        at = {one: sympy.Rational(7 * place + 5 + shift, 3) for place, one in enumerate(letters)}
        gap = (first - second).subs(at).evalf(DIGITS)
        if gap.is_number and abs(gap) > 1e-9:
            return False
    return None


def solves(equation: str, letter: str, values: list[str]) -> dict[str, object]:
    """Tell for each value if it solves the equation, and for all if no real solution is missing."""
    expression, unknown = read_equation(equation), sympy.Symbol(letter)
    read_values = [read(value) for value in values]
    solved = []
    for text, value in zip(values, read_values, strict=True):
        rest = complex(expression.subs(unknown, value).evalf(DIGITS))
        slack = 1e-2 if "." in text else 1e-15
        solved.append(abs(rest) <= slack)
    real = [root for root in sympy.solve(expression, unknown) if root.is_real is not False]
    near = [[abs(complex((root - value).evalf())) < 1e-2 for value in read_values] for root in real]
    return {"solved": solved, "complete": all(map(any, near))}


def main() -> None:
    for task in json.load(sys.stdin):
        try:
            if task[0] == "equal":
                result: object = equal(task[1], task[2])
            else:
                result = solves(*task[1:])
        except Exception:  # noqa: BLE001  sympy raises anything on what it cannot do
            result = None
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
