"""A sample, the dataset that it is from, and what a scorer makes of an answer. Data alone."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from localfusion.types import Message

TaskKind = Literal["number", "choice", "text", "code", "facts", "rubric", "pair", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One thing to ask, and what a right answer is.

    Attributes:
        id: Unique in its dataset; never changes for the same content, for folds hang on it.
        messages: What models are asked.
        target: The right answer in words, None where a rubric, tests or a pair decide.
        kind: How an answer is found in a text and compared.
        scorer: Key in ``scorers.SCORERS``.
        task: Family or type of task, for tables.
        group: Samples of a group are resampled together (one passage, one template); empty: alone.
        distractors: Answers known to be wrong, for planted faults.
        details: What the scorer needs beyond the target, as JSON values: options, tests, a rubric.
    """

    id: str
    messages: tuple[Message, ...]
    target: str | None = None
    kind: TaskKind = "text"
    scorer: str = "text"
    task: str = ""
    group: str = ""
    distractors: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples in their order.

    Attributes:
        name: As tables and reports call it.
        source: Where they are from: a generator with its version and seed, or a file.
        digest: SHA-256 over all samples' content, hexadecimal.
    """

    name: str
    source: str
    samples: tuple[Sample, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an answer is worth.

    Attributes:
        value: 0..1; None: unscored, which is no zero and is counted apart.
        low: Worst that the value can be where parts of it are unscored; None: the value.
        high: Best that it can be, likewise.
        found: The answer proper that was found in the text; None: nothing was.
        reason: Why it is unscored or what was wrong, in words.
        parts: Of a rubric: each criterion's verdict, None: unscored.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    found: str | None = None
    reason: str = ""
    parts: Mapping[str, bool | None] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing; partial credit is not right."""
        return self.value is not None and self.value >= RIGHT


RIGHT = 0.999

Scorer = Callable[[Sample, str], Awaitable[Score]]
"""Scores an answer's text; never raises for what a model wrote."""
