"""What engines' starts took here, kept between runs: to show, and to predict a plan's."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from localfusion.config import cache_dir
from localfusion.placement import Plan


@dataclass(frozen=True, slots=True)
class Start:
    """A good start: from its launch to its first token, and the processor time of it.

    Attributes:
        cpu_seconds: Does not grow when other engines start beside it, as ``seconds`` does.
    """

    seconds: float
    cpu_seconds: float


def predict(plan: Plan, starts: Mapping[str, Start]) -> float | None:
    """Predict within how long a plan's engines are ready; None without records of each.

    The slowest device's sum: engines start one after the other on each GPU, and GPUs side by side.
    On a CPU they start together, but a start is one thread that imports and then copies weights, so
    two cores rarely halve the sum (docs/log.md); the work of all is the bound there.
    """
    found = {slot.model: starts[slot.model] for slot in plan.slots if slot.model in starts}
    if len(found) < len(plan.slots):
        return None
    if not plan.hardware.gpus:
        return sum(start.cpu_seconds for start in found.values())
    sums: dict[str, float] = {}
    for slot in plan.slots:
        for device in slot.devices:
            sums[device] = sums.get(device, 0.0) + found[slot.model].seconds
    return max(sums.values(), default=0.0)


class StartRecords:
    """The last good start of each model, in a small file; a broken file counts as empty.

    Args:
        file: None: the one in the user's cache.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_dir() / "starts.json"

    def read(self) -> dict[str, Start]:
        try:
            raw = json.loads(self._file.read_bytes())
            return {
                str(name): Start(**{k: float(v) for k, v in s.items()}) for name, s in raw.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def record(self, model: str, start: Start) -> None:
        """Remember a start; the file appears whole or not at all."""
        kept = {name: asdict(known) for name, known in self.read().items()}
        kept[model] = asdict(start)
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(kept, indent=1))
        draft.replace(self._file)
