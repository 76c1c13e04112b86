"""Exact arithmetic on short plain expressions, by a parser that knows numbers and + - * / ** only.

Safe on any text: sizes are bounded before anything is computed. Also reads LaTeX as plain text.
"""

import ast
import re
from collections.abc import Mapping
from fractions import Fraction

MAX_CHARACTERS = 1000
_MAX_BITS = 4096
"""Of a numerator or denominator; a power that would have more is not computed."""
_MAX_DEPTH = 60

_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("\u00d7\u00b7\u22c5\u2217", "*"),
        **dict.fromkeys("\u00f7\u2215\u2044", "/"),
        **dict.fromkeys("\u2212\u2013", "-"),  # the minus sign, and the dash that stands for it
        **dict.fromkeys("\u00a0\u202f\u2009", " "),
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u00bd": "(1/2)",
        "\u00bc": "(1/4)",
        "\u00be": "(3/4)",
        "\u03c0": " pi ",
        "\u221e": " oo ",
        "\u00b0": " degrees ",
    }
)
_COMMANDS = {
    **dict.fromkeys(("times", "cdot", "ast"), "*"),
    **dict.fromkeys(("left", "right", "displaystyle", "big", "Big", "bigl", "bigr"), ""),
    **dict.fromkeys(("circ", "degree"), " degrees "),
    "div": "/",
    "infty": " oo ",
    "approx": "≈",
    "quad": " ",
    "qquad": " ",
    "leq": "<=",
    "le": "<=",
    "geq": ">=",
    "ge": ">=",
    "ldots": "...",
    "dots": "...",
}
_OPEN, _CLOSE = "\u2983", "\u2984"
"""Stand for braces that are meant, not LaTeX's grouping."""
_GROUP = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"


class NotArithmeticError(ValueError):
    """Not a plain expression, or one too large to compute."""


def evaluate(expression: str, unknowns: Mapping[str, Fraction] | None = None) -> Fraction:
    """Compute a plain expression exactly; ``^`` is a power, ``%`` after a number a hundredth.

    Raises:
        NotArithmeticError: It holds anything else, divides by zero or grows too large.
    """
    text = expression.strip()
    if not text or len(text) > MAX_CHARACTERS:
        raise NotArithmeticError(text[:40])
    text = re.sub(r"(\d|\))\s*%(?!\s*[\d(])", r"\1*(1/100)", text.replace("^", "**"))
    text = re.sub(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)", "*", text)
    if unknowns:
        text = re.sub(r"(?<=[\d)])\s*(?=[A-Za-z(])|(?<=[A-Za-z])\s*(?=\()", "*", text)
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)  # 007 is a number, though not Python's
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise NotArithmeticError(text[:40]) from error
    return _value(tree.body, text.strip(), unknowns or {}, _MAX_DEPTH)


def _value(node: ast.expr, text: str, unknowns: Mapping[str, Fraction], depth: int) -> Fraction:
    if depth == 0:
        raise NotArithmeticError("too deep")
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            digits = ast.get_source_segment(text, node) or ""
            if not re.fullmatch(r"\d*\.?\d*", digits):  # 1e999, 0x10, 1_000
                raise NotArithmeticError(digits)
            return Fraction(digits)
        case ast.Name(id=name) if name in unknowns:
            return unknowns[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, text, unknowns, depth - 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, text, unknowns, depth - 1)
        case ast.BinOp(left=left, op=operator, right=right):
            a = _value(left, text, unknowns, depth - 1)
            b = _value(right, text, unknowns, depth - 1)
            return _bounded(_combine(operator, a, b))
    raise NotArithmeticError(type(node).__name__)


def _combine(operator: ast.operator, a: Fraction, b: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div() if b:
            return a / b
        case ast.Pow():
            return _power(a, b)
    raise NotArithmeticError(type(operator).__name__)


def _power(a: Fraction, b: Fraction) -> Fraction:
    size = max(a.numerator.bit_length(), a.denominator.bit_length())
    if b.denominator != 1 or abs(b) > _MAX_BITS or size * abs(b) > _MAX_BITS or (a == 0 and b < 0):
        raise NotArithmeticError("power")
    return Fraction(a ** int(b))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise NotArithmeticError("too large")
    return value


def plain(text: str) -> str:
    r"""Write LaTeX and typographic signs as plain text: ``\frac{1}{2}`` becomes ``((1)/(2))``."""
    text = text.translate(_SYMBOLS).replace("\\%", "%").replace("\\$", "").replace("\\_", "_")
    text = text.replace("{,}", ",")
    if "\\" not in text:  # not LaTeX
        text = re.sub(r"(?<!\^)\{([^{}]*)\}", rf"{_OPEN}\1{_CLOSE}", text)
    text = text.replace("\\{", _OPEN).replace("\\}", _CLOSE)
    text = re.sub(r"\\[,;:! ]", "", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|operatorname|textbf|mbox)\s*" + _GROUP, r" \1 ", text)
    for _ in range(6):  # as deep as fractions and roots are nested
        before = text
        text = re.sub(r"\\[dtc]?frac\s*(\d)\s*(\d)", r" ((\1)/(\2))", text)
        text = re.sub(r"\\[dtc]?frac\s*" + _GROUP + r"\s*" + _GROUP, r" ((\1)/(\2))", text)
        text = re.sub(r"\\sqrt\s*\[([^\]]*)\]\s*" + _GROUP, r" ((\2)^(1/(\1)))", text)
        text = re.sub(r"\\sqrt\s*" + _GROUP, r" sqrt(\1)", text)
        text = re.sub(r"\\sqrt\s*(\d)", r" sqrt(\1)", text)
        text = re.sub(r"\^\s*" + _GROUP, r"^(\1)", text)
        if text == before:
            break
    text = re.sub(r"\\boxed\s*" + _GROUP, r"\1", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _COMMANDS.get(found[1], f" {found[1]} "), text)
    text = re.sub(r"\\[()\[\]]", " ", text).replace("\\", " ")
    text = text.replace("{", "(").replace("}", ")").replace(_OPEN, "{").replace(_CLOSE, "}")
    return without_separators(text.replace("**", "^"))


def without_separators(text: str) -> str:
    """Take the commas out of ``1,234,567``, but not out of ``(1,234)``, which is a pair."""
    return re.sub(
        r"(?<![\d.,(\[{])(\d{1,3})((?:,\d{3})+)(?![\d])",
        lambda found: found[1] + found[2].replace(",", ""),
        text,
    )
