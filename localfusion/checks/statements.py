"""Finds the arithmetic that a text states, ``12 * 3 = 36``, and does it again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from localfusion.checks.arithmetic import NotArithmeticError, evaluate, plain

_MAX_LINE = 2000
_MAX_STATEMENTS = 200
# A line that says one of these may state what it does not mean, or count otherwise.
_NOT_MEANT = re.compile(
    r"\b(?:mistake\w*|wrong\w*|incorrect\w*|wait|not|isn't|assum\w*|suppose\w*|if|mod|modulo|base|"
    r"binary|hex\w*|octal|clock|o'clock|bits?|vector\w*|matri\w+|instead|rather|error\w*|remainder|"
    r"false|unlike|claim\w*|check)\b|≠|!=|≡",
    re.IGNORECASE,
)
_OPERAND = r"(?:[-+]\s*)?[\d.(][\d\s.()+\-*/^%]*"
_CHAIN = re.compile(rf"{_OPERAND}(?:\s*[=≈]\s*{_OPERAND})+")
_UNIT_AFTER = re.compile(r"\s*([A-Za-z]+)")
_MATHS_WORDS = frozenset({
    "sqrt", "pi", "oo", "mod", "times", "divided", "plus", "minus", "squared", "cubed",
    "percent", "of", "e", "i", "x", "y", "z", "n", "k", "r", "log", "ln", "sin", "cos", "tan",
    "exp", "million", "thousand", "hundred", "billion", "dozen", "remainder", "and", "or",
    "degrees", "cup", "over", "to",
})  # fmt: skip
_HARMLESS_BEFORE = re.compile(r"(?:^|[\s:;,.>])(?:[A-Za-z']{2,}|a|[A-Za-z']+:)?\s*[:;,.>]?\s*$")


@dataclass(frozen=True, slots=True)
class Statement:
    """One equality that a text states.

    Attributes:
        verdict: ``unclear``: rounding or a unit may explain the difference.
        correction: Where wrong: what the left side is.
    """

    text: str
    verdict: Literal["right", "wrong", "unclear"]
    correction: str = ""


def statements_in(text: str) -> list[Statement]:
    """Return the equalities of numbers that a text states, chains ``a = b = c`` taken apart."""
    found: list[Statement] = []
    for line in text.splitlines():
        if len(line) > _MAX_LINE or (
            "=" not in line and "≈" not in line and "\\approx" not in line
        ):
            continue
        if _NOT_MEANT.search(line):
            continue
        found += _of_line(line)
        if len(found) >= _MAX_STATEMENTS:
            break
    return found[:_MAX_STATEMENTS]


def _of_line(line: str) -> list[Statement]:
    bare = re.sub(r"^\s*(?:[-*+•>]|\(?\d+[.)]|#+)\s+", "", line)
    has_bullet = bare != line and line.lstrip()[:1] in "-+"
    found = []
    for sides, signs in _chains(_cleaned(bare)):
        for (left, right), sign in zip(pairwise(sides), signs, strict=True):
            start = left if _computes(left) or _computes(right) else sides[0]
            statement = _compare(start, right, sign)
            # What looks like a bullet may have been the sign of the first number.
            is_doubtful = has_bullet and statement.verdict == "wrong" and left == sides[0]
            found.append(Statement(statement.text, "unclear") if is_doubtful else statement)
    return found


def _cleaned(line: str) -> str:
    line = line.replace("\\*", "*").replace("`", "")
    line = re.sub(r"(?<![\w)])\*\*(?=\S)|(?<=\S)\*\*(?![\w(])", "", line)  # bold
    line = plain(re.sub(r"[$€£]", "", line))
    line = re.sub(r"(?<=\d)(\s*)[xX](\s*)(?=\d)", _times, line)
    line = re.sub(r"(\d)\s*(?:%|percent)\s+of\s+(?=[\d(])", r"\1/100*", line)
    return re.sub(r"(\d)\s+percent\b", r"\1%", line)


def _times(found: re.Match[str]) -> str:
    is_hexadecimal = found.string[found.start() - 1] == "0" and not found[1]
    return found[0] if is_hexadecimal else "*"


def _chains(line: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the sides of each chain that stands alone, and the signs between them."""
    for found in _CHAIN.finditer(line):
        parts = re.split(r"\s*([=≈])\s*", found[0])
        sides, signs = [part.strip() for part in parts[::2]], parts[1::2]
        if not _stands_alone(line[: found.start()], sides[0]):
            sides, signs = sides[1:], signs[1:]
        if sides and not _ends(line[found.end() :], sides[-1]):
            sides, signs = sides[:-1], signs[:-1]
        sides = [re.sub(r"[\s.]+$", "", side) for side in sides]
        if len(sides) > 1:
            yield sides, signs


def _stands_alone(before: str, first: str) -> bool:
    """Tell whether a chain's first number begins where it seems to: ``x + 3 = 7`` does not."""
    if re.search(r"[=≈]\s*$", before):
        return True
    word = re.search(r"([A-Za-z]+)\s*$", before)
    if word is not None and (word[1].lower() in _MATHS_WORDS - {"and", "to"} or first[0] in "+-"):
        return False
    if word is None and first[0] in "+-" and re.search(r"[\w)\]|!%]\s*$", before):
        return False
    is_joined = re.search(r"[\w)\]|!/*^+-]$|\d[:,]$", before) is not None
    return not is_joined and _HARMLESS_BEFORE.search(before) is not None


def _ends(after: str, last: str) -> bool:
    """Tell whether a chain's last number ends where it seems to: ``= 3x`` does not."""
    if re.search(r"[-+*/^(]\s*$", last) or re.match(r"\s*[\[{|!_²³^=<>~]|,\d|:\d", after):
        return False
    unit = _UNIT_AFTER.match(after)
    if unit is None:
        return True
    is_joined = not (unit[0][0].isspace() or last.endswith((" ", "%")))
    word = unit[1].lower()
    if word in _MATHS_WORDS - {"and", "or", "to", "of", "i", "over"}:
        return False
    return not (is_joined and len(word) == 1) and not re.match(r"\s*[A-Za-z]+\s*[-+*/^=]", after)


def _compare(left: str, right: str, sign: str) -> Statement:
    text = f"{left} {sign} {right}"
    try:
        first, second = evaluate(left), evaluate(right)
    except NotArithmeticError:
        return Statement(text, "unclear")
    if not _computes(left) and not _computes(right):
        return Statement(text, "unclear")  # nothing was computed
    if first == second:
        return Statement(text, "right")
    gap = abs(first - second)
    if _is_rounded(first, right, gap, sign):
        return Statement(text, "right")
    if gap < 1 and "/" in left and second.denominator == 1:
        return Statement(text, "unclear")  # whole ones may be meant
    has_decimals = "." in left or "." in right
    if sign == "≈" or (has_decimals and gap * 200 <= max(abs(first), abs(second))):
        return Statement(text, "unclear")  # its numbers may have been rounded before
    return Statement(text, "wrong", f"{left} is {_spell(first)}")


def _computes(side: str) -> bool:
    return re.search(r"\d\)?\s*[-+*/^(%]", side) is not None


def _is_rounded(exact: Fraction, shown: str, gap: Fraction, sign: str) -> bool:
    """Tell whether a number shows the exact value with fewer digits, rounded or cut off."""
    found = re.fullmatch(r"[-+\s]*\d*(?:\.(\d+))?(%?)", shown)
    if found is None or not (found[1] or sign == "≈"):
        return False
    scale = 10 ** len(found[1] or "") * (100 if found[2] else 1)
    return bool(gap * scale <= 1 and (exact * scale).denominator != 1)


def _spell(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    as_decimal = f"{float(value):.10g}"
    return as_decimal if Fraction(as_decimal) == value else f"{value} (about {as_decimal})"
