"""One model on its way: what every step of its pull needs."""

import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localfusion.config import Config, ModelSpec
from localfusion.errors import WeightsError
from localfusion.weights.children import Children
from localfusion.weights.progress import PullPhase
from localfusion.weights.store import Place
from localfusion.weights.turns import Turns

_LOOK_EVERY = 0.5

Report = Callable[[PullPhase, int | None, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """The pull of one model.

    Attributes:
        rank: Among several pulls, the lowest goes first.
        python: Interpreter with torch and transformers, for the conversion.
        threads: Threads that the conversion may use.
        ended: Set when the whole pull is over, well or not.
        report: Tells the listener phase, bytes done, bytes in all, detail.
    """

    config: Config
    place: Place
    spec: ModelSpec
    rank: int
    python: Path
    threads: int
    children: Children
    downloads: Turns
    conversions: Turns
    ended: threading.Event
    report: Report

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def staging(self) -> Path:
        return self.place.staging

    @property
    def output(self) -> Path:
        """The model folder until it is renamed into its place."""
        return self.staging / "out"

    def fresh(self, name: str) -> Path:
        """Return an empty folder in the staging folder; what lay there is deleted."""
        folder = self.staging / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def counter(self, total: int) -> Callable[[int], None]:
        """Return what adds up the bytes that were hashed and reports them."""
        done = 0

        def count(piece: int) -> None:
            nonlocal done
            done += piece
            self.report("verify", done, total, "")

        return count


@contextmanager
def holding(staging: Path, *, wait: Callable[[], bool]) -> Iterator[None]:
    """Hold a staging folder, made if need be, against every other process.

    Args:
        staging: The folder.
        wait: Called while another process holds it; False gives up.

    Raises:
        WeightsError: another process pulls the model and ``wait`` gave up.
    """
    handle = _lock(staging, wait)
    try:
        yield
    finally:
        os.close(handle)


def _lock(staging: Path, wait: Callable[[], bool]) -> int:
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        handle = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            if not wait():
                raise WeightsError(
                    f"another process is pulling into {staging}; wait for it, or stop it"
                ) from error
            continue
        # Who held it before may have deleted the folder: then our lock is on nothing.
        if _is_same(handle, staging):
            return handle
        os.close(handle)


def _is_same(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def patience(ended: threading.Event, report: Callable[[], None]) -> Callable[[], bool]:
    """Return a ``wait`` for `holding` that reports once and waits until the pull is over."""
    said: list[bool] = []

    def wait() -> bool:
        if not said:
            said.append(True)
            report()
        return not ended.wait(_LOOK_EVERY)

    return wait


def sweep_stale(place: Place) -> None:
    """Delete staging folders of other sources that the model had; one in use stays."""
    pattern = re.compile(rf"\.partial-{re.escape(place.name)}-[0-9a-f]{{12}}")
    for folder in place.staging.parent.glob(".partial-*"):
        if folder != place.staging and pattern.fullmatch(folder.name):
            try:
                with holding(folder, wait=lambda: False):
                    shutil.rmtree(folder)
            except WeightsError:
                continue
