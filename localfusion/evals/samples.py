"""What is asked in an evaluation, and what an answer to it is worth. No behaviour but digests."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from localfusion.types import Message

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt and what is known of its answer.

    Attributes:
        id: Unique in its data set.
        task: Kind of prompt that it belongs to, such as ``chain_sum`` or a subject; reports group
            by it.
        messages: What is asked.
        scorer: Name of the scorer that scores answers to it.
        gold: What that scorer compares with; its keys are the scorer's.
        group: Samples of one group are one for statistics, such as a pair in both orders; empty:
            it stands by itself.
    """

    id: str
    task: str
    messages: tuple[Message, ...]
    scorer: str
    gold: Mapping[str, object]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples of one suite, in their order.

    Attributes:
        name: Of the suite.
        source: Where they come from: a file's name, or a generator and its version.
        note: What a reader of the report must know of them, such as how far they may be compared.
    """

    name: str
    samples: tuple[Sample, ...]
    source: str
    note: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is asked and expected."""
        return digest_of([sample_form(sample) for sample in self.samples])


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth.

    Attributes:
        value: From 0 to 1; None: it could not be scored, and counts neither as right nor as wrong.
        high: Where part of it could not be scored: the value if all of that were in its favour;
            ``value`` is then the value if none were. None elsewhere.
        extracted: The answer proper that was found in the text; None: there was none.
        detail: In words: why, where that is not plain.
        parts: What it is made of, such as criterion id to whether it is met (None: unscored).
    """

    value: float | None
    high: float | None = None
    extracted: str | None = None
    detail: str = ""
    parts: Mapping[str, bool | None] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores answers; the same text of the same sample scores the same, unless a model scores."""

    @property
    def identity(self) -> str:
        """What scores depend on besides sample and text; different ones do not share a table."""
        ...

    async def score(self, sample: Sample, text: str) -> Score:
        """Return what a text is worth as answer to a sample.

        Raises:
            FusionError: it cannot be scored here, such as code where nothing isolates it.
        """
        ...


class ScoringModel(Protocol):
    """The model that grades open answers; never the judge."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str:
        """Digest of its weights, where they are known."""
        ...

    async def reply(
        self, messages: tuple[Message, ...], schema: Mapping[str, object], *, seed: int = 0
    ) -> str:
        """Return its answer at temperature 0, bound to a JSON schema, without its reasoning.

        Raises:
            FusionError: it does not answer.
        """
        ...


def sample_form(sample: Sample) -> Json:
    """Return a sample as JSON values; ``sample_of`` reads it."""
    return {
        "id": sample.id,
        "task": sample.task,
        "messages": [{"role": m.role, "content": m.content} for m in sample.messages],
        "scorer": sample.scorer,
        "gold": dict(sample.gold),
    }


def fold_of(sample: Sample) -> int:
    """Return which of two folds a sample is in: what is chosen on one is scored on the other."""
    return hashlib.sha256((sample.group or sample.id).encode()).digest()[0] & 1


def digest_of(value: object) -> str:
    """SHA-256 of canonical JSON."""
    told = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()
