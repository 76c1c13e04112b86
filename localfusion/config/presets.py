"""``presets``: named ways to answer; a panel, a judge, and limits."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from localfusion.config.section import Seconds, Section
from localfusion.document import misplaced
from localfusion.types import Effort

MAX_CANDIDATES = 8

Perturbation = Literal["reworded", "second_method", "assumptions", "backwards"]


class Extract(Section):
    """How the answer proper is found in a candidate's text, for policies that compare answers."""

    kind: Literal["number", "choice", "boolean", "json", "code", "text", "regex"]
    """What they are; numbers that differ by rounding and letters in brackets count as the same."""
    pattern: str | None = Field(default=None, max_length=256)
    """A regular expression, with kind ``regex`` alone: its first group, or the whole match."""

    @model_validator(mode="after")
    def _has_its_pattern(self) -> "Extract":
        if (self.kind == "regex") != (self.pattern is not None):
            raise misplaced("belongs to kind regex, and only to it", "pattern")
        return self


class Member(Section):
    """One model of a panel and how it is sampled."""

    model: str
    """A name under ``models``."""
    n: int = Field(default=1, ge=1, le=MAX_CANDIDATES)
    """Samples; each is one candidate, with consecutive seeds."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """None: 0.7."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """None: 1."""
    max_tokens: int | None = Field(default=None, ge=1, le=131_072)
    """Longest answer; None: the preset's panel_max_tokens."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """None: derived from the request's seed."""
    effort: Effort | None = None
    """How long a reasoning model may think; ``none``: not at all. None: its own default."""
    perturb: Perturbation | None = None
    """A request at the end of the question that keeps its meaning: ``reworded`` (read it anew),
    ``second_method`` (check by another way), ``assumptions`` (list them first), ``backwards``."""


def _member_from_name(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class Preset(Section):
    description: str = ""
    """One line for lists."""
    policy: str = "fuse"
    """How the answer is made: ``single``, ``fuse``, ``vote``, ``select``, ``consensus``,
    ``verify``, ``cascade``, ``self_fusion``, ``layered`` or ``auto`` (docs/fusion.md)."""
    panel: tuple[Annotated[Member, BeforeValidator(_member_from_name)], ...] = Field(min_length=1)
    """Members: a model's name, or a mapping with its sampling."""
    judge: str | None = None
    """Model that compares the candidates and writes the answer; may be a member's."""
    fallback_judge: str | None = None
    """A member's model that judges when the judge fails before its first word."""
    tool_caller: str | None = None
    """The judge's or a member's model that calls the client's functions; None: the judge."""
    quorum: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Usable candidates that start the grace clock; None: all but one, at least two."""
    deadline: Seconds = 300.0
    """For the whole request."""
    grace: Seconds | Literal["adaptive"] = "adaptive"
    """Wait for stragglers after the quorum; adaptive: a quarter of the time so far, 1 to 15 s."""
    partial: Literal["keep", "drop"] = "keep"
    """Whether the judge reads the unfinished text of a straggler, from 64 tokens on."""
    order: Literal["arrival", "fixed", "random"] = "arrival"
    """In which the judge reads the drafts; ``fixed``: the panel's, ``random``: by the seed."""
    traces: Literal["keep", "drop"] = "keep"
    """Whether the judge reads the reasoning behind the drafts, as far as it fits."""
    prefill: bool = True
    """Let the judge read drafts while the panel still works."""
    agreement: bool = False
    """Ask the judge for its choice in both orders and tell how far they agree."""
    extract: Extract | None = None
    """How to find the answers that ``vote`` and ``consensus`` compare; None: by the question."""
    panel_max_tokens: int = Field(default=1024, ge=1, le=131_072)
    """Longest candidate, reasoning included."""
    analysis_max_tokens: int = Field(default=1024, ge=64, le=131_072)
    """Longest analysis, reasoning included."""
    answer_max_tokens: int = Field(default=2048, ge=1, le=131_072)
    """For the answer when the request names none."""
    options: dict[str, str | int | float | bool] = Field(default={})
    """The policy's own options."""

    _warning: str | None = PrivateAttr(default=None)

    @property
    def warning(self) -> str | None:
        """Code of what was lost before any request: such answers are never ``full``."""
        return self._warning

    def with_warning(self, code: str) -> "Preset":
        """Return a copy whose answers all carry a reason for being less than ``full``."""
        copy = self.model_copy()
        copy._warning = code
        return copy

    @property
    def candidates(self) -> int:
        return sum(member.n for member in self.panel)

    @property
    def judge_tokens(self) -> int:
        """What the judge reads and writes beside the conversation: drafts, analysis, answer."""
        drafts = sum(m.n * (m.max_tokens or self.panel_max_tokens) for m in self.panel)
        return drafts + self.analysis_max_tokens + self.answer_max_tokens

    @property
    def caller(self) -> str:
        """The model that calls the client's functions."""
        return self.tool_caller or self.judge or self.panel[0].model

    @property
    def models(self) -> tuple[str, ...]:
        """All models that the preset needs, each once, members first."""
        names = [member.model for member in self.panel]
        return tuple(dict.fromkeys([*names, self.judge] if self.judge else names))

    @model_validator(mode="after")
    def _is_consistent(self) -> "Preset":
        if self.candidates > MAX_CANDIDATES:
            raise misplaced(
                f"{self.candidates} candidates; at most {MAX_CANDIDATES}, so lower an n", "panel"
            )
        if self.quorum is not None and self.quorum > self.candidates:
            raise misplaced(
                f"{self.quorum} is more than the panel's {self.candidates} candidates; lower it",
                "quorum",
            )
        if self.fallback_judge is not None and all(
            member.model != self.fallback_judge for member in self.panel
        ):
            raise misplaced(
                f"{self.fallback_judge} is no member of the panel; name one, for it is loaded "
                "anyway",
                "fallback_judge",
            )
        if self.tool_caller is not None and self.tool_caller not in self.models:
            raise misplaced(
                f"{self.tool_caller} is no judge or member; name one, for it is loaded anyway",
                "tool_caller",
            )
        if self.policy != "single" and self.judge is None:
            raise ValueError(f"policy {self.policy} needs a judge; add one, or use policy single")
        return self
