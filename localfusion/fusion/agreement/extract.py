r"""The answer proper out of a candidate's text, in a form in which equal answers are equal. Pure.

An answer that is not found is no vote; a wrong one would be one. So only what a text states as its
answer counts: behind its last marker (``Answer: 8``, ``\boxed{8}``, ``#### 8``), else in its last
line.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from localfusion.errors import RequestError
from localfusion.fusion.agreement import numerals
from localfusion.fusion.agreement.choices import (
    ends_in_list,
    first_letter,
    fold,
    letter_in,
    truth_in,
)
from localfusion.fusion.agreement.patterns import PARAM, compile_pattern, last_match
from localfusion.fusion.style import without_thoughts

Kind = Literal["number", "choice", "boolean", "json", "code", "text", "regex"]

TOLERANCE = 1e-6
"""Relative difference up to which two numbers are one answer."""
MAX_STATEMENT = 500
"""Characters of a marked statement that are read."""
MAX_TEXT_ANSWER = 200
"""Characters above which a free text is prose, not an answer to compare."""
MAX_CODE = 50_000
_MAX_LINE = 4000
_MAX_SHOWN = 200
_MAX_JSON_STARTS = 64

EXPLANATIONS = frozenset(
    ("reasoning", "explanation", "rationale", "thoughts", "thought", "steps", "analysis", "comment")
)
"""Top-level JSON fields that are about the answer and not part of it."""

_ANSWER = (
    r"(?:\b(?:final )?answer|\bantwort|\bréponse|\brespuesta|\bresposta|\brisposta"
    r"|\bответ|答案|答え)"  # noqa: RUF001  Cyrillic is meant
)
_IS = r"(?:(?:is|would be|ist|lautet|est|es|é|è)\b\s?:?|是|为|は|[:\uff1a=])(?!\s*not\b)"
_MARKER = re.compile(
    rf"{_ANSWER}(?:\s(?:to|for)\s[^.:\n]{{1,80}}?)?[*_`\"]{{0,3}}\s{{0,2}}{_IS}"
    r"|^[ ]{0,3}####[ ]*"  # not a heading: a value and no more
    r"(?=[-+$€£]?\d[\d.,]*\s*\S{0,12}\s*$|\(?[A-J]\)?\s*$|(?:yes|no|true|false)\b)"
    r"|^[#*_ ]*final answer[#*_ ]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\f?boxed\s*\{")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|__([^_\n]{1,200})__")
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*([\w+#-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE
)
_JSON_START = re.compile(r"[\[{]")
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+(?=\S)")


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer proper.

    Attributes:
        value: Canonical: equal answers have equal values, but for numbers within the tolerance.
        shown: As the candidate wrote it, for people.
    """

    kind: Kind
    value: str
    shown: str


def same(first: Extracted, second: Extracted) -> bool:
    """Tell whether two extracted answers are one: equal, or numbers within the tolerance."""
    if first.kind != second.kind or first.kind != "number":
        return (first.kind, first.value) == (second.kind, second.value)
    return math.isclose(
        float(first.value), float(second.value), rel_tol=TOLERANCE, abs_tol=TOLERANCE**2
    )


@dataclass(frozen=True, slots=True)
class _Statement:
    """A piece of a text that may state the answer.

    Attributes:
        is_marked: A marker says so.
        is_last: Nothing of substance follows.
    """

    text: str
    is_marked: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class Extractor:
    """Finds the answers of one question in its candidates' texts.

    Attributes:
        pattern: Regular expression of kind ``regex``: its first group, or the whole match.
        options: Texts of the options of kind ``choice`` from A on, where they are known.

    Raises:
        RequestError: kind ``regex`` without a pattern, another with one, or an unfit pattern.
    """

    kind: Kind
    pattern: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "regex") != (self.pattern is not None):
            raise RequestError(f"{PARAM} belongs to kind regex, and only to it", param=PARAM)
        if self.pattern is not None:
            compile_pattern(self.pattern)

    def extract(self, text: str) -> Extracted | None:
        """Return the answer that a text states, or None; never raises, whatever the text."""
        text = without_thoughts(text)
        match self.kind:
            case "json":
                return _json(text)
            case "code":
                return _code(text)
            case "regex":
                found = last_match(self.pattern or "", text)
                return self._as(found, found.strip()) if found else None
            case _:
                return self._stated(text)

    def _stated(self, text: str) -> Extracted | None:
        is_list = self.kind == "choice" and ends_in_list(text)
        for statement in _statements(text, has_number=self.kind == "number"):
            if is_list and not statement.is_marked:
                continue
            value = self._read(statement)
            if value is not None:
                return self._as(statement.text, value)
        if self.kind == "choice" and (letter := first_letter(text, self.options)):
            return self._as(text.split("\n", 1)[0], letter)
        if self.kind == "boolean" and (truth := _first_word(text)) is not None:
            return self._as(text.split("\n", 1)[0], truth)
        return None

    def _read(self, statement: _Statement) -> str | None:
        match self.kind:
            case "number":
                return _number(statement)
            case "choice":
                return letter_in(statement.text, self.options, is_marked=statement.is_marked)
            case "boolean":
                return _truth(truth_in(statement.text, is_marked=statement.is_marked))
            case _:
                folded = fold(statement.text)
                return folded if 0 < len(folded) <= MAX_TEXT_ANSWER else None

    def _as(self, shown: str, value: str) -> Extracted:
        return Extracted(self.kind, value, shown.strip().strip("*_`$ ")[:_MAX_SHOWN])


def _number(statement: _Statement) -> str | None:
    if not statement.is_marked:
        return _canonical(numerals.last_in(statement.text))
    # "Answer: There are 3 boxes. …" opens a derivation; its first number is not its result.
    if statement.is_last or numerals.starts_with_number(statement.text) or "=" in statement.text:
        return _canonical(numerals.answer_in(statement.text))
    return None


def _canonical(value: float | None) -> str | None:
    return None if value is None else f"{value + 0.0:.15g}"


def _truth(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _first_word(text: str) -> str | None:
    return _truth(truth_in(re.split(r"(?<=[.,;:!\n])", text, maxsplit=1)[0], is_marked=False))


def _statements(text: str, *, has_number: bool) -> Iterator[_Statement]:
    """Yield where the answer may stand, best first; nothing past a marker that ends the text."""
    marked = _marked(text)
    if marked is not None:
        yield marked
        if marked.is_last:
            return
    line = _last_line(text, has_number=has_number)
    bold = [first or second for first, second in _BOLD.findall(line)]
    if len(bold) == 1:
        yield _Statement(bold[0], is_marked=True, is_last=True)
    yield _Statement(line, is_marked=False, is_last=True)


def _marked(text: str) -> _Statement | None:
    start, boxes = -1, [match.end() for match in _BOX.finditer(text)]
    found: _Statement | None = None
    for marker in reversed(list(_MARKER.finditer(text))):
        lines = text[marker.end() :].split("\n")
        place = next((i for i, line in enumerate(lines) if any(map(str.isalnum, line))), None)
        if place is not None:
            start = marker.end()
            found = _Statement(
                lines[place].strip(" :*_`\"'")[:MAX_STATEMENT],
                is_marked=True,
                is_last=not any(any(map(str.isalnum, line)) for line in lines[place + 1 :]),
            )
            break
    if boxes and boxes[-1] > start:
        end = _closing_brace(text, boxes[-1])
        is_last = not any(map(str.isalnum, text[end:]))
        return _Statement(text[boxes[-1] : end], is_marked=True, is_last=is_last)
    return found


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for place in range(start, min(len(text), start + MAX_STATEMENT)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return min(len(text), start + MAX_STATEMENT)


def _last_line(text: str, *, has_number: bool) -> str:
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if has_number:
        lines = [line for line in lines if any(map(str.isdigit, line))] or lines
    return _LIST_MARK.sub("", lines[-1][-_MAX_LINE:]) if lines else ""


def _json(text: str) -> Extracted | None:
    for part in reversed([text, *(block for _, block in _FENCE.findall(text))]):
        found = _last_json(part.strip())
        if found is not None:
            return found
    return None


def _last_json(text: str) -> Extracted | None:
    """Return the last object of a text, or its last list where it has none."""
    decoder = json.JSONDecoder(parse_constant=_refuse)
    found: dict[bool, Extracted] = {}
    place = starts = 0
    while starts < _MAX_JSON_STARTS and (start := _JSON_START.search(text, place)):
        starts += 1
        try:
            value, place = decoder.raw_decode(text, start.start())
            written = json.dumps(
                _plain_json(value, is_top=True), sort_keys=True, ensure_ascii=False
            )
            shown = text[start.start() : place][:_MAX_SHOWN]
            found[isinstance(value, dict)] = Extracted("json", written, shown)
        except (ValueError, RecursionError):
            place = start.end()
    return found.get(True) or found.get(False)


def _refuse(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _plain_json(value: object, *, is_top: bool = False) -> object:
    match value:
        case dict():
            kept = {key: item for key, item in value.items() if key.lower() not in EXPLANATIONS}
            fields = kept if is_top and kept else value
            return {key: _plain_json(item) for key, item in fields.items()}
        case list():
            return [_plain_json(item) for item in value]
        case float():
            if not math.isfinite(value):
                raise ValueError("too large")
            return int(value) if value.is_integer() else float(f"{value:.7g}")
        case _:
            return value


def _code(text: str) -> Extracted | None:
    blocks = [block for _, block in _FENCE.findall(text)]
    trees = [(block, _tree(block)) for block in sorted(blocks or [text], key=len, reverse=True)]
    for block, tree in trees:
        if tree is not None:
            return Extracted("code", tree, block.strip()[:_MAX_SHOWN])
    if not blocks:
        return None
    block = max(blocks, key=len)
    lines = [line.rstrip() for line in block.split("\n") if line.strip()]
    return Extracted("code", "\n".join(lines), block.strip()[:_MAX_SHOWN]) if lines else None


def _tree(code: str) -> str | None:
    """Return the syntax tree of Python code without documentation, or None where it is none."""
    if len(code) > MAX_CODE:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code)
        if all(isinstance(node, ast.Expr) for node in tree.body):
            return None  # a word of prose is an expression too
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                body = (
                    node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                )
                node.body = body or [ast.Pass()]
        return ast.dump(tree, annotate_fields=False)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
