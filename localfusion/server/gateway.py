"""What the server may know of the runtime."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from localfusion.config import Settings
from localfusion.engines.base import PhaseChange
from localfusion.fusion.fusion import Fusion
from localfusion.overview import EngineRow
from localfusion.pool import Waiting
from localfusion.telemetry import Telemetry
from localfusion.traces import Traces


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

    @property
    def traces(self) -> Traces: ...

    @property
    def telemetry(self) -> Telemetry: ...

    def phases(self) -> Mapping[str, PhaseChange]:
        """Return the latest phase of each engine, by the engine's name."""
        ...

    def not_ready(self) -> tuple[str, ...]:
        """Return why the default preset cannot answer now; empty when it can."""
        ...

    async def look(self) -> Sequence[EngineRow]:
        """Return what each engine does now."""
        ...

    @property
    def queue(self) -> Sequence[Waiting]:
        """Runs that wait until their engines get the hardware, the next one first."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know: models that were lost or replaced, compromises of the plan."""
        ...

    async def load(self, name: str) -> None:
        """Start an engine; returns when it is ready.

        Raises:
            FusionError: it cannot start, or is not of ours to start.
        """
        ...

    async def unload(self, name: str) -> None:
        """Stop an engine once its calls have ended."""
        ...

    async def reload(self) -> Sequence[str]:
        """Read models.yaml again and swap what changed; say what did, a line each.

        Raises:
            FusionError: the file is invalid or cannot be had; then nothing has changed.
        """
        ...
