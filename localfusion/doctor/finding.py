"""What a check says: one finding, with a verdict and, unless all is well, a remedy."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``localfusion doctor``.

    Attributes:
        check: What was looked at.
        verdict: ``problem``: something will not work; ``warn``: it works, and may be better.
        text: What was found.
        remedy: What to do; empty when there is nothing.
    """

    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def warn(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "warn", text, remedy)


def problem(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "problem", text, remedy)
