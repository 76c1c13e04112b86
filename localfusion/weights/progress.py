"""What `pull` tells about itself while it works."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PullPhase = Literal["wait", "fetch", "verify", "convert", "done"]

_LOOK_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far the pull of one model is.

    Attributes:
        phase: ``wait`` for another process that pulls the same model, then ``fetch``, ``verify``,
            ``convert``, ``done``.
        done_bytes: Bytes of this phase done, None where they cannot be counted.
        total_bytes: Bytes of this phase in all, None where they are not known.
        detail: One short text for people, or empty.
    """

    model: str
    phase: PullPhase
    done_bytes: int | None = None
    total_bytes: int | None = None
    detail: str = ""


PullListener = Callable[[PullProgress], None]


@contextmanager
def watch_folder(folder: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Report the bytes below ``folder`` four times a second while the block runs."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_EVERY):
            report(folder_bytes(folder))

    watcher = threading.Thread(target=look, name="watch-folder", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below ``folder``; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(Path(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total
