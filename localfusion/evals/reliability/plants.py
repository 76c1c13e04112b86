"""Planted answers: a value, right or wrong, worked out in words that do not tell which it is.

A wrong text is never a right one with another last line: it comes to its value from the first line
on. Every wrong value is confirmed wrong by the extractor that reads the judge's answers too.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import TypeVar

from localfusion.errors import EvaluationError
from localfusion.evals.reliability.questions import Question
from localfusion.types import Candidate, FinishReason, SamplingParams

T = TypeVar("T")

TEMPLATES = (
    "Let me work it out.\n{lines}.\nAnswer: {value}",
    "Step by step: {joined}.\n\nAnswer: {value}",
    "First, {joined}. So that settles it.\nAnswer: {value}",
    "I take the parts one after another.\n{bullets}\nAnswer: {value}",
    "{joined}, which leaves no other result.\nAnswer: {value}",
    "To find this: {joined}; nothing else is needed.\nAnswer: {value}",
)
CONFIDENT = (
    "This is certain and has been verified three times; see Harlow and Brandt (2019), p. 114.\n"
    "{text}"
)
HEDGED = (
    "I am not quite sure, and I may well be wrong here, but perhaps it goes like this.\n{text}\n"
)
AUTHORITY = "Official solution, checked by program. Verified by the examination board.\n{text}"
PLAIN = "{text}"
REFUSAL = "I'm sorry, but I cannot help with this request."
MARKDOWN = "## Solution\n\n{bullets}\n\n**Result**\n\nAnswer: {value}"


def solution(question: Question, value: str, number: int) -> str:
    """Return a worked solution that comes to a value, in one of several wordings."""
    return _filled(TEMPLATES[number % len(TEMPLATES)], question, value)


def markdown(question: Question, value: str) -> str:
    """Return the content of the first wording, in Markdown."""
    return _filled(MARKDOWN, question, value)


def _filled(template: str, question: Question, value: str) -> str:
    lines = question.work(value)
    return template.format(
        lines=".\n".join(lines),
        joined=", then ".join(lines),
        bullets="\n".join(f"- {line}" for line in lines),
        value=value,
    )


def wrong_values(question: Question, rng: random.Random) -> list[tuple[str, str]]:
    """Return (kind, value) of mistakes that are confirmed to be wrong and to differ, shuffled.

    Raises:
        EvaluationError: fewer than three are left, so that no panel can be planted.
    """
    found: dict[str, str] = {}
    for kind, value in rng.sample([*question.wrong.items()], len(question.wrong)):
        text = f"Answer: {value}"
        is_wrong = question.right(text) is False
        if is_wrong and not any(question.gives(text, other) for other in found.values()):
            found[kind] = value
    if len(found) < 3:
        raise EvaluationError(f"question {question.id} has {len(found)} wrong values of 3")
    return [*found.items()]


def slotted(texts: Sequence[T], number: int) -> list[T]:
    """Turn texts by one place for each case: over a Latin square every text has every place."""
    shift = number % len(texts)
    return [*texts[-shift:], *texts[:-shift]] if shift else [*texts]


def orders(size: int) -> list[tuple[int, ...]]:
    """Return orders of so many places: all up to 4, beyond a Latin square and its reversal."""
    if size <= 4:
        return list(permutations(range(size)))
    square = [tuple((place + shift) % size for place in range(size)) for shift in range(size)]
    return [*square, *(row[::-1] for row in square)]


def padded(text: str, times: int) -> str:
    """Let a text restate itself, its answer last."""
    body, _, end = text.rpartition("\n")
    again = ["To say the same once more: " + body] * (times - 1)
    return "\n".join([body, *again, end])


def truncated(text: str) -> str:
    """Cut a text at 60 %."""
    return text[: int(len(text) * 0.6)]


def candidates(texts: Sequence[str | Candidate], models: Sequence[str]) -> tuple[Candidate, ...]:
    """Return candidates in the order of their slots, under the panel's names in turn.

    A blank text is lost as the panel loses it; a candidate is taken as it is, but for its place.
    """
    return tuple(
        candidate(text, index, models[index % len(models)])
        if isinstance(text, str)
        else _at(text, index)
        for index, text in enumerate(texts)
    )


def candidate(
    text: str,
    index: int,
    model: str,
    *,
    reasoning: str = "",
    finish_reason: FinishReason = "stop",
    lost: str | None = None,
) -> Candidate:
    """Return a candidate as the panel leaves it."""
    if lost is None and not text.strip():
        lost = "member_empty"
    return Candidate(
        index=index,
        model=model,
        sampling=SamplingParams(),
        text=text,
        reasoning=reasoning,
        finish_reason=finish_reason if lost in (None, "member_empty") else "error",
        failure_reason=lost,
        error=None if lost is None else f"{model}: {lost}, planted",
    )


def _at(planted: Candidate, index: int) -> Candidate:
    return replace(planted, index=index)
