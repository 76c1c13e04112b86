"""What an evaluation is made of while it runs: the job, its progress, the calls that it makes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from localfusion.config import Member, Preset
from localfusion.evals.arms import Arm
from localfusion.evals.results import Plan
from localfusion.evals.samples import Dataset, Scorer
from localfusion.events import CallStarted, Event
from localfusion.fusion import Fusion
from localfusion.types import Answer

IN_FLIGHT = 32
"""Prompts asked at once: more than engines compute at once, so that none of them is ever idle."""


class Progress(Protocol):
    """Told how far a run is."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage with so many pieces left to do."""
        ...

    def advance(self) -> None:
        """Count a finished piece."""
        ...

    def note(self, text: str) -> None:
        """Say something that a user should see at once."""
        ...


@dataclass(slots=True)
class Calls:
    """Engine calls, counted where they are made."""

    panel: int = 0
    judge: int = 0
    is_counting: bool = True

    def observe(self, event: Event) -> None:
        if self.is_counting and isinstance(event, CallStarted):
            if event.stage == "panel":
                self.panel += 1
            else:
                self.judge += 1


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated, and with what.

    Attributes:
        preset: As it is served.
        scorers: By name, all that the data set needs.
        fusion: Answers; its calls are counted by ``calls``.
        named: Waits until an answer's trace is on disk, and names it.
        ready: Returns when every engine can answer.
        at_once: Prompts in flight.
    """

    plan: Plan
    dataset: Dataset
    preset: Preset
    arms: tuple[Arm, ...]
    scorers: Mapping[str, Scorer]
    fusion: Fusion
    calls: Calls
    named: Callable[[Answer], Awaitable[Answer]]
    ready: Callable[[], Awaitable[None]]
    at_once: int = IN_FLIGHT

    @property
    def members(self) -> dict[str, Member]:
        """The panel's members by their names."""
        return dict(zip(self.plan.members, self.preset.panel, strict=True))
