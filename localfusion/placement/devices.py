"""What the planner must know of a kind of hardware: its rooms, what engines take, their slots."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from localfusion.placement.needs import Demand, ModelNeed
from localfusion.placement.search import Choice, Placed, Room
from localfusion.placement.sizes import Size
from localfusion.placement.slots import Slot


@dataclass(frozen=True, slots=True)
class Division:
    """Engines with their sizes and places.

    Attributes:
        groups: Models that are resident together; one group, or panel and judges in turns.
        sizes: By model.
        placed: By model.
    """

    demand: Demand
    groups: tuple[tuple[str, ...], ...]
    sizes: Mapping[str, Size]
    placed: Placed

    def sleeps(self, model: str) -> bool:
        return not all(model in group for group in self.groups)


class Devices(Protocol):
    """GPUs, or the cores and the memory of a machine without one."""

    def rooms(self, phases: int) -> tuple[Room, ...]:
        """Return every device with what is free on it, in each phase."""
        ...

    def choices(
        self, need: ModelNeed, size: Size, awake: tuple[bool, ...], *, spread: bool
    ) -> tuple[Choice, ...]:
        """Return the ways to place an engine, the preferred first.

        Args:
            need: The engine's.
            size: What it shall hold.
            awake: Whether it works in each phase.
            spread: Also over more devices than it needs when it is alone.
        """
        ...

    def can_swap(self, demand: Demand) -> bool:
        """Whether engines that are not at work have somewhere to go."""
        ...

    def slots(self, division: Division) -> tuple[Slot, ...]:
        """Return the slots in start order."""
        ...

    def notes(self, division: Division) -> tuple[str, ...]:
        """Say what is particular about engines on these devices."""
        ...
