"""What a judge finds out: its analysis, its verdict, and what is to be trusted of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    # extra="forbid" puts additionalProperties: false into the schema that the decoder obeys.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stance(_Part):
    model: str
    stance: str


class Contradiction(_Part):
    topic: str
    stances: tuple[Stance, ...]


class PartialCoverage(_Part):
    models: tuple[str, ...]
    point: str


class UniqueInsight(_Part):
    model: str
    insight: str


class Analysis(_Part):
    """The judge's reading of the drafts in five parts; ``model`` fields hold candidates' names.

    Source: the analysis object of OpenRouter's Fusion (its OpenAPI schema of 2026-08-22).
    """

    consensus: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    partial_coverage: tuple[PartialCoverage, ...]
    unique_insights: tuple[UniqueInsight, ...]
    blind_spots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's choice in one token, as probabilities; with those of "none alone" they sum to 1.

    Attributes:
        probabilities: Of each candidate that was put to the choice, by its index.
        synthesize: That no draft is good enough alone.
        agreement: Overlap of the verdicts in both orders, sum of min(p, q), 0 to 1; None where one
            order was asked for.
        margin: Between the best two.
    """

    probabilities: Mapping[int, float]
    synthesize: float
    agreement: float | None = None
    margin: float = 0.0

    @property
    def choice(self) -> int | None:
        """Index of the likeliest candidate; None where writing a new answer is likelier."""
        best = max(self.probabilities, key=lambda index: self.probabilities[index])
        return best if self.probabilities[best] > self.synthesize else None


@dataclass(frozen=True, slots=True)
class TruncatedDraft:
    """A draft that did not fit into the judge's window whole; tokens by the judge's tokenizer."""

    index: int
    kept_tokens: int
    of: int


@dataclass(frozen=True, slots=True)
class Judging:
    """Who judged and wrote, and how far that is to be trusted.

    Attributes:
        in_panel: The judge also was a member: it graded its own drafts.
        attempts: Calls that were to write the answer; more than 1 after a failure.
        verdict: None where none was asked for or it was unusable.
        agreement: How much of the verdict survives a reversed order, 0 to 1, None if not asked.
    """

    model: str
    in_panel: bool
    attempts: int = 1
    verdict: Verdict | None = None
    agreement: float | None = None
