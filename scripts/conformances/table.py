"""Outcomes beside what is expected, and the table of them."""

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformances.suite import Cases

EXPECTED = Path(__file__).parent / "expected.toml"

Reasons = Mapping[str, str]
"""Why each case is expected to fail; a name may have ``*`` and then is all that it matches."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a suite.

    Attributes:
        failed: Cases that are not expected to fail, and why they did.
        stale: Expected failures that passed, or that no case has the name of.
        seconds: What it took.
    """

    suite: str
    passed: int
    expected: int
    failed: Cases
    stale: Sequence[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        return not self.failed and not self.stale

    def __str__(self) -> str:
        figures = f"{self.passed:6} {self.expected:8} {len(self.failed):4} {len(self.stale):6}"
        return f"{self.suite:26} {figures} {self.seconds:7.1f}"


HEADER = f"{'suite':26} {'passed':>6} {'expected':>8} {'new':>4} {'mended':>6} {'seconds':>7}"


def read_expected(suite: str, *, is_real: bool, file: Path = EXPECTED) -> Reasons:
    """Return the expected failures of a suite: in both modes, and those in this one alone."""
    tables = tomllib.loads(file.read_text())
    mode = "real" if is_real else "sim"
    reasons: dict[str, str] = {}
    for name in (suite, f"{suite} {mode}"):
        reasons |= tables.get(name, {})
    return reasons


def judge(suite: str, cases: Cases, reasons: Reasons, seconds: float) -> Verdict:
    """Hold a suite's cases against what is expected of them."""
    failed = {name: why for name, why in cases.items() if why is not None}
    stale = [
        pattern
        for pattern in reasons
        if not (matched := _matching(cases, pattern)) or any(name not in failed for name in matched)
    ]
    known = {name for pattern in reasons for name in _matching(failed, pattern)}
    new = {name: why for name, why in failed.items() if name not in known}
    return Verdict(suite, len(cases) - len(failed), len(known), new, stale, seconds)


def _matching(cases: Cases, pattern: str) -> list[str]:
    # Names of parameters stand in brackets, which fnmatch would read as a set of letters.
    return [name for name in cases if fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))]
