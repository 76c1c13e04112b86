"""One figure beside its bar, and on which machine it was measured."""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Row:
    """One figure beside the bar it should stay under, or above with ``at_least``."""

    what: str
    value: float
    unit: str
    bar: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self) -> str:
        verdict = "ok" if self.is_met else "MISSED"
        return f"{self.what:58} {self.value:8.2f} {self.unit:3} bar {self.bar:6.2f}  {verdict}"


def machine() -> str:
    """Name the processor, its cores and the memory."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line for line in info if "model name" in line]
    memory = psutil.virtual_memory().total / 2**30
    return f"{names[0].partition(':')[2].strip()}, {len(names)} cores, {memory:.0f} GiB"
