"""Appends to the log beside the event loop, on a thread; several processes may share the file."""

import asyncio
import fcntl
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

from localfusion.audit.chain import GENESIS, MENDED, decode, encode, torn_digest
from localfusion.errors import AuditError
from localfusion.events import (
    CallStarted,
    Event,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunStarted,
)

FILE_NAME = "audit.jsonl"
MOST_WAITING = 10_000
"""Entries that wait for a disk that takes nothing; further ones are lost, and counted."""
_PIECE = 1 << 16

_log = logging.getLogger(__name__)


class AuditLog:
    """Notes of each run who asked for what and which models took part; nothing that was said.

    Args:
        file: Is made where it is missing.
        clock: Seconds since 1970.

    Attributes:
        failure: Why nothing is written now, None while it is.
        lost: Entries that were not written and will not be.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self.failure: AuditError | None = None
        self.lost = 0
        self._clock = clock
        self._runs: dict[str, tuple[RunStarted, set[str]]] = {}
        self._queue: SimpleQueue[dict[str, object] | None] = SimpleQueue()
        self._waiting: list[dict[str, object]] = []
        self._thread = threading.Thread(target=self._main, name="audit", daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            AuditError: the file cannot be written.
        """
        self._append([])
        self._thread.start()

    def close(self) -> None:
        """Write what there is, and end."""
        self._queue.put(None)
        self._thread.join()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: that nothing is written now, or that entries were lost."""
        notes = [] if self.failure is None else [f"answers go on, but {self.failure}"]
        if self.lost:
            notes.append(f"audit log: {self.lost} entries could not be written and are lost")
        return tuple(notes)

    # On the event loop.

    def observe(self, event: Event) -> None:
        """Take note of an event; it never waits, and most events it does not look at."""
        match event:
            case RunStarted():
                self._runs[event.run_id] = (event, set())
            case CallStarted() if event.run_id in self._runs:
                self._runs[event.run_id][1].add(event.model)
            case RunRequested():
                self._put(event, "asked", key=event.request.origin.key or None)
            case RunCompleted(answer=answer):
                self._end(event, "answered", status=answer.status, writer=answer.model)
            case RunFailed(error=error):
                self._end(event, "failed", code=error.code)
            case RunAborted(reason=reason):
                self._end(event, "aborted", code=reason)

    def _end(self, event: Event, name: str, **fields: object) -> None:
        _, asked = self._runs.get(event.run_id, (None, set[str]()))
        self._put(event, name, models=sorted(asked), **fields)
        self._runs.pop(event.run_id, None)

    def _put(self, event: Event, name: str, **fields: object) -> None:
        if event.run_id not in self._runs:
            return
        if self._queue.qsize() >= MOST_WAITING:
            self.lost += 1
            return
        started, _ = self._runs[event.run_id]
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        whose = {"run": event.run_id, "preset": started.preset, "policy": started.policy}
        self._queue.put({"at": at, "event": name, **whose, **fields})

    # On the thread.

    def _main(self) -> None:
        is_last = False
        while not is_last:
            taken = [self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get())
            is_last = taken[-1] is None
            self._waiting += [entry for entry in taken if entry is not None]
            self._write()
        self.lost += len(self._waiting)

    def _write(self) -> None:
        try:
            self._append(self._waiting)
        except AuditError as error:
            if self.failure is None:
                _log.warning("%s", error)
            self.failure = error
            surplus = max(0, len(self._waiting) - MOST_WAITING)
            self.lost += surplus
            del self._waiting[:surplus]
        else:
            self.failure = None
            self._waiting = []

    def _append(self, entries: list[dict[str, object]]) -> None:
        """Append entries in one write, behind whatever other processes have written by now."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.file, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _write_behind(descriptor, entries, self._clock())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AuditError(
                f"{self.file}: the audit log cannot be written: {error.strerror}; make room or "
                "mend the folder, or set audit.enabled: false"
            ) from error


def _write_behind(descriptor: int, entries: list[dict[str, object]], now: float) -> None:
    """Write entries behind the last one; a torn piece is closed and noted, never taken away."""
    head, piece = _find_head(descriptor)
    blocks = []
    if piece and (found := decode(piece + b"\n")):
        head = found[1]  # only its line end is missing
        blocks.append(b"\n")
    elif piece:
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        entries = [{"at": at, "event": MENDED, "torn": torn_digest(piece)}, *entries]
        blocks.append(b"\n")
    for entry in entries:
        line, head = encode(entry, head)
        blocks.append(line)
    rest = memoryview(b"".join(blocks))
    before = os.fstat(descriptor).st_size
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        with suppress(OSError):  # what stays is a torn piece, and the next write notes it
            os.ftruncate(descriptor, before)  # a full disk; all of it is tried again later
        raise


def _find_head(descriptor: int) -> tuple[str, bytes]:
    """Return the digest of the last whole entry, and what stands torn behind the last line end."""
    at = os.fstat(descriptor).st_size
    tail = b""
    while True:
        lines = tail.split(b"\n")
        # The first piece may begin in the middle of a line, unless it is the file's beginning.
        whole: list[bytes] = lines[0 if at == 0 else 1 : -1]
        for line in reversed(whole):
            if found := decode(line + b"\n"):
                return found[1], lines[-1]
        if at == 0:
            return GENESIS, lines[-1]
        start = max(0, at - _PIECE)
        tail = os.pread(descriptor, at - start, start) + tail
        at = start


def read_lines(file: Path) -> list[bytes]:
    """Return the lines of a log with their ends.

    Raises:
        AuditError: it cannot be read.
    """
    try:
        *whole, last = file.read_bytes().split(b"\n")
    except OSError as error:
        raise AuditError(
            f"{file}: the audit log cannot be read: {error.strerror}; name another with --file"
        ) from error
    return [line + b"\n" for line in whole] + ([last] if last else [])


@asynccontextmanager
async def open_audit(file: Path, *, is_enabled: bool) -> AsyncGenerator[AuditLog | None]:
    """Keep the log for the length of a block; None: it is turned off.

    Raises:
        AuditError: the log cannot be written.
    """
    if not is_enabled:
        yield None
        return
    log = AuditLog(file)
    await asyncio.to_thread(log.start)
    try:
        yield log
    finally:
        await asyncio.to_thread(log.close)
