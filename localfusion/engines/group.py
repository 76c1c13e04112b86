"""An engine's processes: all that share the process group of the one we started."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Stat:
    """What /proc/PID/stat says, see proc(5)."""

    pid: int
    state: str
    group: int
    session: int
    started: int

    @property
    def lives(self) -> bool:
        """Whether it runs; one that its parent has not reaped yet does not."""
        return self.state not in "ZX"


@dataclass(frozen=True, slots=True)
class Group:
    """A process group that is a session too, told apart from a later one with the same id.

    Attributes:
        id: Its leader's process id.
        started: Clock ticks from boot to the start of its leader.
        boot: The kernel's name for this boot.
    """

    id: int
    started: int
    boot: str

    @classmethod
    def of(cls, leader: int) -> "Group":
        """Name the group of a living leader.

        Raises:
            ProcessLookupError: there is no such process.
        """
        stat = _read_stat(leader)
        if stat is None:
            raise ProcessLookupError(leader)
        return cls(leader, stat.started, _BOOT_ID.read_text().strip())

    @classmethod
    def read(cls, file: Path) -> "Group":
        """Read what ``write`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(**json.loads(file.read_bytes()))
        except TypeError as error:
            raise ValueError(f"{file} names no process group") from error

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))

    def lives(self) -> bool:
        """Whether any process of it runs."""
        if self.boot != _BOOT_ID.read_text().strip():
            return False
        leader = _read_stat(self.id)
        if leader is not None and leader.started != self.started:
            return False  # an id is given away again only when its group has no process left
        return any(stat.lives and stat.session == self.id for stat in _members(self.id))

    def kill(self) -> None:
        """Send SIGKILL to whatever is left of it."""
        if self.lives():
            with suppress(ProcessLookupError):
                os.killpg(self.id, signal.SIGKILL)


def processes(leader: int) -> Iterator[psutil.Process]:
    """Find the living processes of a group by its leader's id."""
    for stat in _members(leader):
        if stat.lives:
            with suppress(psutil.NoSuchProcess):  # it ended while we looked
                yield psutil.Process(stat.pid)


def _members(leader: int) -> Iterator[_Stat]:
    for entry in Path("/proc").glob("[0-9]*"):
        stat = _read_stat(int(entry.name))
        if stat is not None and stat.group == leader:
            yield stat


def _read_stat(pid: int) -> _Stat | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # it has ended
    return _Stat(pid, fields[0], int(fields[2]), int(fields[3]), int(fields[19]))


def memory_bytes(leader: int) -> int:
    """Sum the proportional set sizes of a group: shared pages count by their share."""
    total = 0
    for process in processes(leader):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def cpu_seconds(leader: int) -> float:
    """Sum the processor time that a group has used."""
    total = 0.0
    for process in processes(leader):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
