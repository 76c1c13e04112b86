"""An engine's log file: it tells the phases of a start, and the last words of a process.

The engine writes to the file itself, by appending: no pipe that could block it, and nothing is lost
when the gateway dies. A full disk loses lines, and nothing else: a running vLLM bears that, but one
that starts does not (it ends with code 120), so it gets no file on a disk without room.
"""

import errno
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from localfusion.engines.base import Phase

KEPT_LOGS = 5
MAX_LOG_BYTES = 20 << 20
"""Of one file; checked while the engine is watched."""
ROOM_BYTES = 16 << 20
"""Free on the disk, for a file to be begun there."""

_PHASE_MARKS: tuple[tuple[re.Pattern[str], Phase], ...] = (
    (re.compile(r"Loading safetensors checkpoint shards:\s+(\d+%)"), "loading"),
    (re.compile(r"Starting to load model"), "loading"),
    (re.compile(r"Model loading took"), "sizing"),
    (re.compile(r"KV cache size: ([\d,]+ tokens)"), "sizing"),
    (re.compile(r"Capturing CUDA graphs[^:]*:\s+(\d+%)"), "graphs"),
    (re.compile(r"Starting vLLM server"), "listening"),
)

_log = logging.getLogger(__name__)


class EngineLog:
    """One engine's log file and its four predecessors: ``name.log``, ``name.log.1`` and on.

    Args:
        room: Bytes that have to be free for it.

    Attributes:
        file: The newest.
    """

    def __init__(self, file: Path, *, room: int = ROOM_BYTES) -> None:
        self.file = file
        self._room = room
        self._read = 0

    def open(self) -> int:
        """Begin a new file; return its descriptor, of the null device where it cannot be made."""
        self._read = 0
        try:
            return self._begin()
        except OSError as error:
            _log.warning("an engine runs without a log: %s", error)
            return os.open(os.devnull, os.O_WRONLY)

    def _begin(self) -> int:
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(self.file)
        disk = os.statvfs(self.file.parent)
        if disk.f_bavail * disk.f_frsize < self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.file))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(self.file, flags, 0o600)

    def new_phase(self) -> tuple[Phase, str] | None:
        """Return the latest phase that it tells of since the last call, with its detail."""
        raw = self._read_from(self._read, 1 << 20)
        self._read += len(raw)
        found: tuple[Phase, str] | None = None
        for line in re.split(r"[\r\n]+", raw.decode(errors="replace")):
            for mark, phase in _PHASE_MARKS:
                if match := mark.search(line):
                    found = phase, match[1] if mark.groups else ""
        return found

    def last_lines(self) -> list[str]:
        """Return its last lines that say something, at most 60, without control characters."""
        with suppress(OSError):
            start = max(0, self.file.stat().st_size - 16_384)
            text = self._read_from(start, 16_384).decode(errors="replace")
            printable = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]", "", text)
            return [line.strip() for line in printable.splitlines() if line.strip()][-60:]
        return []

    def trim(self) -> None:
        """Move what is in a file that has become too large aside; the engine goes on in it."""
        with suppress(OSError):
            if self.file.stat().st_size <= MAX_LOG_BYTES:
                return
            try:
                _make_room(self.file)
                shutil.copyfile(self.file, _numbered(self.file, 1))
            finally:  # without room for the copy its lines are lost, but the disk is free again
                os.truncate(self.file, 0)
                self._read = 0

    def _read_from(self, start: int, count: int) -> bytes:
        with suppress(OSError), self.file.open("rb") as log:
            log.seek(start)
            return log.read(count)
        return b""


def rotate(file: Path) -> None:
    """Move old logs aside, ``name.log`` to ``name.log.1`` and on; keep five."""
    _make_room(file)
    with suppress(FileNotFoundError):
        file.replace(_numbered(file, 1))


def _make_room(file: Path) -> None:
    """Move the old logs so that number 1 is free."""
    for number in range(KEPT_LOGS - 1, 1, -1):
        with suppress(FileNotFoundError):
            _numbered(file, number - 1).replace(_numbered(file, number))


def _numbered(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")
