r"""Numbers as people and models write them: ``1,234.5``, ``1 234``, ``$18``, ``\frac{1}{2}``.

What looks like a number but is none (a date, a time, a range, ``2\sqrt{3}``, ``5x``) is never read
as a part of itself: no number is better than a wrong one. Units, currencies and percent signs do
not count; ``50%`` is 50.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

_FRACTIONS = {
    char: f" {top}/{bottom}"
    for char, top, bottom in zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357", "233445555668888", strict=True
    )
}
_SUPERSCRIPTS = {char: str(value) for value, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"\u207b": "-"}
_SIGNS = str.maketrans(
    _FRACTIONS | {"\u2212": "-", "\u2013": "-", "\u00d7": "*", "·": "*", "⋅": "*", "\uff1a": ":"}
)
_LATEX: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\[dt]?frac\s*\{\s*([\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|boxed)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\\(?:left|right|displaystyle|quad)\b"), ""),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), " "),
    (re.compile(r"\\[,;:!]|\\ |~"), "\u2009"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?=[%$#&_])"), ""),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\*\*|__|[`$€£¥₹]"), ""),
)
_SYMBOLIC = re.compile(r"[√π∞±]|\\(?:sqrt|pi|infty|log|ln|sin|cos|tan|pm|int|sum)\b")
_SPACE = " \u00a0\u2009\u202f"

_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z0-9_^.,/:\\+-])
    (?P<sign>[-+][ ]?)?
    (?:
        (?:(?P<whole>\d{{1,9}})[ ]+)?(?P<top>\d{{1,15}})[ ]?/[ ]?(?P<bottom>\d{{1,15}})
      | (?P<body>\d{{1,3}}(?:[{_SPACE}'\u2019]\d{{3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*|\.\d+)
        (?:[eE](?P<e>[-+]?\d{{1,3}})(?!\w|\.\d)
          |[ ]?[*x][ ]?10[ ]?\^[ ]?\(?(?P<ten>[-+]?\d{{1,3}})
          |\^\(?(?P<power>[-+]?\d{{1,3}}))?
    )
    (?P<rest>[-+/:.,*^]?\d[\w.,/:+-]*|[ ]?\*[ ]?\(?\d)?
    (?:[ -]?(?P<scale>hundred|thousand|million|billion|trillion|mn|bn)s?\b)?
    (?P<glued>[A-Za-z]\w*)?
    """,
    re.VERBOSE,
)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_SCALES |= {"mn": 1e6, "bn": 1e9, "k": 1e3, "K": 1e3}
_VARIABLES = frozenset("abeinpqrtuvwxyzMB")
"""Letters that make a term of the number before them, or say who knows what: 5x, 5M; but 5m."""

_EQUALS = re.compile(r"(?<![<>!=≤≥])=(?!=)|≈|→|\bequals\b")
_SAYS = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|equals|makes?|costs?|earns?|gets?|needs?|totals?|gives?)"
    r"(?: (?:a|the|only|just|exactly|about|approximately|around|total|of|now|left|with))*\W*$",
    re.IGNORECASE,
)
_ODDS = re.compile(r"\s*(?:in|out of|to|per|by)\s+\d")
_ALTERNATIVE = re.compile(r"\s*[,;]?\s*(?:or|and|to|through|nor)?\s*", re.IGNORECASE)
_TWO_UNKNOWNS = re.compile(r"\b[a-z]\s*=[^,;=]{1,40}(?:,|;|\band\b)\s*[a-z]\s*=")
_CLAUSE_END = re.compile(
    r"[.;!?](?!\d)|\(|\n|,\s(?!\s*[-+]?[\d.])|\s-+\s(?!\d)|—"
    r"|\b(?:because|since|as|so|which|that|for|per|each|every|in|on|at|after|from|by|with|when)\b"
)
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = {
    word: 20 + 10 * place
    for place, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
    )
}
_WORDS = {word: value for value, word in enumerate(_UNITS)} | _TENS
_NUMBER_WORD = re.compile(
    rf"\b(?:{'|'.join(_WORDS)}|hundred|thousand|million|half)\b", re.IGNORECASE
)
_PRONOUN = re.compile(r"(?<!only )(?<!exactly )(?<!just )\bone\b", re.IGNORECASE)
_IN_WORDS = re.compile(
    rf"\W*({'|'.join(_TENS)})?[ -]?({'|'.join(sorted(_UNITS, key=len, reverse=True))})?\b", re.I
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number or what looks like one, with its place in the text as ``plain`` makes it.

    Attributes:
        value: None where it is no number: a date, a range, a term.
    """

    value: float | None
    start: int
    end: int


def plain(text: str) -> str:
    """Write the LaTeX and typography of numbers in ASCII; drop currencies and emphasis."""
    if not text.isascii():
        text = re.sub(
            "[⁰¹²³⁴⁵⁶⁷⁸⁹\u207b]+", lambda m: "^" + "".join(_SUPERSCRIPTS[c] for c in m[0]), text
        )
        text = text.translate(_SIGNS)
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text that ``plain`` has made, in order."""
    return [
        Number(_value(match, text), match.start(), match.end()) for match in _NUMBER.finditer(text)
    ]


def answer_in(text: str) -> float | None:
    """Return the number that a short statement of the answer gives.

    It stands behind the last ``=``, or at the beginning, or alone. Several, and no telling which:
    None.
    """
    text = plain(text)
    if _TWO_UNKNOWNS.search(text):
        return None
    text = next((part for part in reversed(_EQUALS.split(text)) if _says_number(part)), "")
    if _SYMBOLIC.search(text):
        return None
    found = numbers(text)
    if not found:
        return _in_words(text)
    first = found[0]
    if not any(char.isalpha() for char in text[: first.start]):
        if _ODDS.match(text, first.end):
            return None
        end = _CLAUSE_END.search(text, first.end)
        found = [number for number in found if end is None or number.start < end.start()]
    values = {number.value for number in found}
    return first.value if len(values) == 1 else None


def last_in(text: str) -> float | None:
    """Return the number that a line of reasoning ends in; None where the last is no number."""
    line = plain(text)
    parts = _EQUALS.split(line)
    if len(parts) > 1 and _says_number(parts[-1]):
        return answer_in(text)
    found = numbers(line)
    if not found:
        return _only_word(line)
    # "There are 19 solutions of |x + 5| < 10": what is said to be is the result, not the last.
    said = [
        place
        for place, number in enumerate(found)
        if _SAYS.search(line[max(0, number.start - 40) : number.start])
    ]
    place = said[-1] if said else len(found) - 1
    result = found[place]
    if _SYMBOLIC.search(line[max(0, result.start - 8) : result.end + 8]):
        return None
    neighbors = pairwise(found[max(0, place - 1) : place + 2])
    if any(_ALTERNATIVE.fullmatch(line, one.end, other.start) for one, other in neighbors):
        return None
    return result.value


def starts_with_number(text: str) -> bool:
    """Tell whether nothing but signs stands before the first number, so that it is the answer."""
    found = numbers(text := plain(text))
    return bool(found) and not any(char.isalpha() for char in text[: found[0].start])


def _says_number(text: str) -> bool:
    return bool(_NUMBER.search(text)) or bool(_SYMBOLIC.search(text)) or _in_words(text) is not None


def _in_words(text: str) -> float | None:
    match = _IN_WORDS.match(text)
    if match is None or not (match[1] or match[2]):
        return None
    return float(sum(_WORDS[word.lower()] for word in match.groups() if word))


def _only_word(line: str) -> float | None:
    """Return the number that one word of a line without figures gives."""
    words = list(_NUMBER_WORD.finditer(_PRONOUN.sub("", line) if len(line.split()) > 1 else line))
    return (
        float(_WORDS[word]) if len(words) == 1 and (word := words[0][0].lower()) in _WORDS else None
    )


def _value(match: re.Match[str], text: str) -> float | None:
    glued = match["glued"] or ""
    if match["rest"] or glued in _VARIABLES or re.match(r"[eE]\d", glued):
        return None
    try:
        value = _magnitude(
            match, is_listed=text[max(0, match.start() - 1) : match.start()] in ("(", "[")
        )
        value *= _SCALES.get(match["scale"] or glued, 1.0)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    if not math.isfinite(value):
        return None
    return -value if value and (match["sign"] or "").strip() == "-" else value


def _magnitude(match: re.Match[str], *, is_listed: bool) -> float:
    if match["top"]:
        return int(match["whole"] or 0) + int(match["top"]) / int(match["bottom"])
    value = _decimal(match["body"], is_listed=is_listed)
    if match["power"]:
        return float(value ** int(match["power"]))
    return float(value * 10.0 ** int(match["e"] or match["ten"] or 0))


def _decimal(body: str, *, is_listed: bool) -> float:
    """Tell thousands from decimals; raises ValueError where a body is neither: 1.2.3."""
    body = re.sub(f"[{_SPACE}'\u2019]", "", body)
    if "," in body and "." in body:
        mark = max(",.", key=body.rfind)
        body = body.replace("," if mark == "." else ".", "_")
        return float(body.replace(mark, ".")) if _is_grouped(body.split(mark)[0]) else math.nan
    if "," in body:
        if not body.startswith("0") and _is_grouped(body.replace(",", "_")):
            return float(body.replace(",", ""))
        return math.nan if is_listed else float(body.replace(",", "."))  # (3,4) is a pair
    if body.count(".") > 1 and _is_grouped(body.replace(".", "_")):
        return float(body.replace(".", ""))
    return float(body)


def _is_grouped(digits: str) -> bool:
    return bool(re.fullmatch(r"\d{1,3}(?:_\d{3})+|\d{1,2}(?:_\d{2})*_\d{3}", digits))
