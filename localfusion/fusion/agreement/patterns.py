"""Regular expressions of callers, held to bounded time. Pure.

Python's matcher backtracks and cannot be interrupted, so a pattern is measured before it runs: how
many ways it has to match a text of some length. The text is cut so that they stay few; a pattern
for which that leaves too little, or that repeats what is itself ambiguous (``(a+)+``), is refused.
"""

import math
import re
import warnings
from dataclasses import dataclass

from localfusion.errors import RequestError

MAX_PATTERN = 256
PARAM = "fusion.extract.pattern"

_STEPS = 50_000_000
"""Ways to match that a pattern may have on a text: about a second at worst."""
_MOST_UNBOUNDED = 4
_SHORTEST, _LONGEST = 100, 20_000
"""Characters of text."""

_TOKEN = re.compile(
    r"(?P<open>\((?:\?(?P<kind>[:=!>#]|<[=!]|P<\w+>|P=|\(|[-a-zA-Z]+[:)]))?)"
    r"|(?P<close>\))|(?P<or>\|)"
    r"|(?P<repeat>[*+?]|\{\d*,?\d*\})[?+]?"
    r"|(?P<atom>\\(?:[1-9]\d?|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|.)",
    re.DOTALL,
)
_SUPPORTED = re.compile(r"[:=!>]|<[=!]|P<\w+>|[ims]+[:)]")
_REFERENCE = re.compile(r"\\[1-9]\d?")
_BLANK = re.compile(r"\\s|\[(?:\\[stnr]| )+\]| ")


@dataclass(slots=True)
class _Group:
    """What one pair of parentheses can do.

    Attributes:
        unbounded: Repeats whose number grows with the text.
        choices: Ways to match beside those, multiplied.
    """

    unbounded: int = 0
    choices: int = 1

    def add(self, other: "_Group") -> None:
        self.unbounded += other.unbounded
        self.choices *= other.choices

    @property
    def is_ambiguous(self) -> bool:
        return self.unbounded > 0 or self.choices > 1


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a caller's pattern.

    Raises:
        RequestError: it is no pattern, too long, or could take long to match.
    """
    if not pattern or len(pattern) > MAX_PATTERN:
        raise _refusal(f"has {len(pattern)} characters; give 1 to {MAX_PATTERN}")
    try:
        with warnings.catch_warnings(action="error"):
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise _refusal(f"is no regular expression: {error}") from error
    if longest_text(pattern) < _SHORTEST:
        raise _refusal("has too many ways to match; use fewer *, +, ? and |")
    return compiled


def last_match(pattern: str, text: str) -> str | None:
    r"""Return the first group of the last match, or all of it where the pattern has no group.

    Only the end of a long text is searched. Runs of blanks in it count as one, so that ``\s*``
    costs nothing.
    """
    compiled = compile_pattern(pattern)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r"\s*\n\s*", "\n", text)[-longest_text(pattern) :]
    found = None
    for match in compiled.finditer(text):
        value = match[1] if compiled.groups else match[0]
        found = value or found
    return found


def longest_text(pattern: str) -> int:
    """Return how many characters of text a pattern may be let loose on.

    With k repeats whose number grows with the text there are about n^(k+1) / (k+1)! ways to match,
    times those of its alternatives.

    Raises:
        RequestError: a repeat around something that can match in several ways.
    """
    total = _measure(pattern)
    if total.unbounded > _MOST_UNBOUNDED:
        return 0
    power = total.unbounded + 1
    ways = _STEPS / total.choices * math.factorial(power)
    return min(_LONGEST, int(ways ** (1 / power)))


def _measure(pattern: str) -> _Group:
    groups = [_Group()]  # those that are open; the first is the pattern
    last, atom = _Group(), ""  # what a repeat would repeat
    for token in _TOKEN.finditer(pattern):
        match token.lastgroup:
            case "open" | "kind":
                groups += _opened(token["open"], token["kind"])
            case "close":
                last, atom = groups.pop(), ""
                groups[-1].add(last)
            case "or":
                groups[-1].choices += 1
            case "repeat":
                is_blank = bool(_BLANK.fullmatch(atom))
                groups[-1].add(_repeat(token["repeat"], last, is_blank=is_blank))
            case _:
                last, atom = _Group(), token["atom"]
                if _REFERENCE.fullmatch(atom):
                    raise _refusal("refers back to a group, which is not supported")
    return groups[0]


def _opened(text: str, kind: str | None) -> list[_Group]:
    if kind is not None and not _SUPPORTED.fullmatch(kind):
        raise _refusal(f"uses (?{kind}, which is not supported")
    return [] if text.endswith(")") else [_Group()]  # (?i) is closed already


def _repeat(repeat: str, repeated: _Group, *, is_blank: bool) -> _Group:
    if repeat == "?":
        return _Group(choices=2)
    bounds = re.fullmatch(r"\{(\d*)(,?)(\d*)\}", repeat)
    if bounds and not bounds[2]:
        most = int(bounds[1] or 1)
        return _Group(repeated.unbounded * (most - 1), min(repeated.choices**most, _STEPS))
    if repeated.is_ambiguous:
        raise _refusal("repeats a group that itself repeats or chooses; write it without nesting")
    if is_blank:
        return _Group()
    if bounds and bounds[3]:
        return _Group(choices=int(bounds[3]) - int(bounds[1] or 0) + 1)
    return _Group(unbounded=1)


def _refusal(what: str) -> RequestError:
    return RequestError(f"{PARAM} {what}", param=PARAM)
