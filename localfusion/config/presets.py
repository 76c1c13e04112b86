"""``presets``: named ways to answer; a panel, a judge, and limits."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from localfusion.config.section import Seconds, Section
from localfusion.document import misplaced

MAX_CANDIDATES = 8


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


def _member_from_name(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class Preset(Section):
    description: str = ""
    """One line for lists."""
    policy: str = "fuse"
    """How the answer is made; ``single`` and ``fuse``."""
    panel: tuple[Annotated[Member, BeforeValidator(_member_from_name)], ...] = Field(min_length=1)
    """Members: a model's name, or a mapping with its sampling."""
    judge: str | None = None
    """Model that compares the candidates and writes the answer; may be a member's."""
    quorum: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Usable candidates that start the grace clock; None: all but one, at least two."""
    deadline: Seconds = 300.0
    """For the whole request."""
    grace: Seconds = 15.0
    """Wait for stragglers after the quorum."""
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
        if self.policy != "single" and self.judge is None:
            raise ValueError(f"policy {self.policy} needs a judge; add one, or use policy single")
        return self
