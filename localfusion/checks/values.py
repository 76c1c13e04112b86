"""Reads a short mathematical answer: parts, units, numbers; decides equality where it can."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from localfusion.checks.arithmetic import NotArithmeticError, evaluate, plain

MAX_CHARACTERS = 300
_MAX_PARTS = 12
CLOSE = Fraction(1, 1_000_000)
"""Relative difference at which two numbers are equal if one of them is a decimal."""
# Dimension and factor of units; a word that is not here is compared as a word.
_UNITS: dict[str, tuple[str, Fraction]] = {
    **{name: ("length", Fraction(size)) for name, size in (
        ("mm", "1/1000"), ("cm", "1/100"), ("m", "1"), ("km", "1000"), ("meter", "1"),
        ("centimeter", "1/100"), ("kilometer", "1000"), ("inch", "127/5000"), ("foot", "381/1250"),
        ("feet", "381/1250"), ("yard", "1143/1250"), ("mile", "201168/125"))},
    **{name: ("mass", Fraction(size)) for name, size in (
        ("mg", "1/1000"), ("g", "1"), ("gram", "1"), ("kg", "1000"), ("kilogram", "1000"))},
    **{name: ("time", Fraction(size)) for name, size in (
        ("ms", "1/1000"), ("s", "1"), ("sec", "1"), ("second", "1"), ("min", "60"),
        ("minute", "60"), ("h", "3600"), ("hr", "3600"), ("hour", "3600"),
        ("day", "86400"), ("week", "604800"))},
    **{name: ("money", Fraction(size)) for name, size in (
        ("dollar", "1"), ("usd", "1"), ("cent", "1/100"))},
    **{name: ("volume", Fraction(size)) for name, size in (
        ("ml", "1/1000"), ("l", "1"), ("liter", "1"), ("litre", "1"))},
    "%": ("share", Fraction(1, 100)),
}  # fmt: skip
_FUNCTIONS = (
    "sin|cos|tan|sec|csc|cot|asin|acos|atan|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|sqrt|abs|"
    "pi|oo|degrees|alpha|beta|gamma|theta|phi|lambda|mu|sigma|omega"
)
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Value:
    """A part of an answer.

    Attributes:
        kind: ``leaf``: one expression; ``set``: in any order; ``sequence``: in this order, between
            the brackets of ``text``.
        text: The expression, or the brackets.
    """

    kind: Literal["leaf", "set", "sequence"]
    text: str
    parts: tuple["Value", ...] = ()


def read(text: str, *, is_equation: bool = False) -> Value:
    """Take an answer apart: sets, tuples, intervals, lists such as ``x = 1 or x = 2``.

    Args:
        text: Plain or LaTeX.
        is_equation: ``y = 2x`` says more than ``2x``; otherwise the name before a ``=`` is dropped.
    """
    tidy = plain(
        re.sub(r"(?<!\\)[$€£]|`|(?<!\S)\*\*|\*\*(?!\S)", "", text[: MAX_CHARACTERS * 2])
    ).strip()
    tidy = re.sub(r"\s+", " ", re.sub(r"[.\s]+$", "", tidy))
    return Value("leaf", tidy) if is_equation else _part(tidy, depth=4)


def _part(text: str, depth: int) -> Value:
    text = re.sub(r"^[A-Za-z](?:\([a-z]\))?\s*(?:=|\bin\b)\s*(?!.*=)", "", text.strip())
    text = re.sub(r"^(?:±|pm\b)\s*(\S+)$", r"\1, -\1", text)
    if depth:
        opener = text[:1]
        if opener in _CLOSERS and text[-1:] in ")]}" and _closes_last(text):
            inner = _split(text[1:-1], ",")
            if opener == "{" or len(inner) > 1:
                parts = tuple(_part(one, depth - 1) for one in inner if one.strip())
                is_set = opener == "{"
                return Value("set" if is_set else "sequence", opener + text[-1], parts)
        for separator in (" or ", " and ", ",", " cup ", ";"):
            inner = _split(text, separator)
            if len(inner) > 1:
                parts = tuple(_part(one, depth - 1) for one in inner if one.strip())
                return Value("set", "{}", parts)
    return Value("leaf", text)


def _closes_last(text: str) -> bool:
    """Tell whether the first bracket is closed by the last character."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside all brackets."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0 and text.startswith(separator, at):
            parts.append(text[start:at])
            start = at = at + len(separator)
        else:
            at += 1
    return [*parts, text[start:]]


def pairs(a: Value, b: Value) -> Iterator[tuple[str, str]]:
    """Yield the expressions that are to be compared to compare two answers."""
    if a.kind == b.kind == "leaf":
        yield a.text, b.text
    elif _has_like_shape(a, b):
        for place, one in enumerate(a.parts):
            for other in b.parts if a.kind == "set" else b.parts[place : place + 1]:
                yield from pairs(one, other)


def match(a: Value, b: Value, known: Mapping[tuple[str, str], bool | None]) -> bool | None:
    """Compare two answers, given what is known of their expressions; None: undecided."""
    if a.kind == b.kind == "leaf":
        return known.get((a.text, b.text))
    if "leaf" in (a.kind, b.kind):
        return None if _is_word(a) or _is_word(b) else False
    if not _has_like_shape(a, b):
        return False
    if a.kind == "sequence":
        each = [match(one, other, known) for one, other in zip(a.parts, b.parts, strict=True)]
        return _all(each)
    rows = [[match(one, other, known) for other in b.parts] for one in a.parts]
    columns = list(zip(*rows, strict=True))
    return _all([_any(row) for row in [*rows, *columns]])


def _has_like_shape(a: Value, b: Value) -> bool:
    is_small = max(len(a.parts), len(b.parts)) <= _MAX_PARTS
    has_same_size = len(a.parts) == len(b.parts) or a.kind == "set"
    return a.kind == b.kind and a.text == b.text and is_small and has_same_size


def _is_word(value: Value) -> bool:
    return value.kind == "leaf" and not re.search(r"\d", value.text)


def _all(each: list[bool | None]) -> bool | None:
    return False if False in each else (None if None in each else True)


def _any(each: Sequence[bool | None]) -> bool | None:
    return True if True in each else (None if None in each else False)


def compare(a: str, b: str) -> bool | None:
    """Compare two expressions by exact arithmetic alone; None: it needs more than that."""
    if a == b:
        return True if a else None
    one, other = _number(a), _number(b)
    if one is None or other is None:
        return True if a.casefold() == b.casefold() and not is_algebra(a) else None
    (first, unit), (second, other_unit) = one, other
    if unit == other_unit:
        return _is_close(first, second, a + b)
    if not unit or not other_unit:
        known = _UNITS.get(unit or other_unit)
        is_share = known is not None and known[0] == "share"
        if _is_close(first, second, a + b):
            return True
        hundredth = Fraction(1, 100)
        first, second = (first * hundredth, second) if unit else (first, second * hundredth)
        return is_share and _is_close(first, second, a + b)
    if unit in _UNITS and other_unit in _UNITS:
        (dimension, factor), (other_dimension, other_factor) = _UNITS[unit], _UNITS[other_unit]
        if dimension != other_dimension:
            return False
        return _is_close(first * factor, second * other_factor, a + b)
    return None if first == second else False


def number(text: str) -> Fraction | None:
    """Return the number that an expression is, without its unit, or None."""
    found = _number(text)
    return found[0] if found is not None else None


def is_algebra(text: str) -> bool:
    """Tell whether sympy may read it: numbers, single letters, known functions, nothing else."""
    if not text or len(text) > MAX_CHARACTERS or not re.fullmatch(r"[\w\s+\-*/^().,=]+", text):
        return False
    if "_" in text or re.search(r"\.\s*[A-Za-z]|[A-Za-z]\s*\.|==", text) or not text.isascii():
        return False
    words = re.findall(r"[A-Za-z]+", text)
    return all(re.fullmatch(rf"(?:{_FUNCTIONS})|[A-Za-z]{{1,2}}", word) for word in words)


def _number(text: str) -> tuple[Fraction, str] | None:
    """Return the number and its unit, without a plural's ``s``."""
    found = re.fullmatch(
        r"(.*[\d).])(?:\s*(%|percent\b)|\s+([A-Za-z]+)|([A-Za-z]{2,}))?", text.strip()
    )
    if found is None:
        return None
    unit = (found[2] or found[3] or found[4] or "").lower().replace("percent", "%")
    if re.fullmatch(_FUNCTIONS, unit):
        return None
    if len(unit) > 2 and unit.endswith("s"):
        unit = "inch" if unit == "inches" else unit[:-1]
    if len(unit) == 1 and unit not in _UNITS:
        return None
    try:
        return evaluate(found[1]), unit
    except NotArithmeticError:
        return None


def _is_close(first: Fraction, second: Fraction, text: str) -> bool:
    if "." not in text:
        return first == second
    return abs(first - second) <= CLOSE * max(abs(first), abs(second))
