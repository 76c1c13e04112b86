"""What the server may know of the runtime."""

from collections.abc import Mapping
from typing import Protocol

from localfusion.config import Settings
from localfusion.engines.base import PhaseChange
from localfusion.fusion.fusion import Fusion


class Gateway(Protocol):
    """A running system, as the server sees it.

    Attributes:
        draining: True once a stop was asked for; the server sets it, and admits no further run.
    """

    draining: bool

    @property
    def fusion(self) -> Fusion: ...

    @property
    def settings(self) -> Settings: ...

    def phases(self) -> Mapping[str, PhaseChange]:
        """Return the latest phase of each engine, by the engine's name."""
        ...

    def not_ready(self) -> tuple[str, ...]:
        """Return why the default preset cannot answer now; empty when it can."""
        ...
