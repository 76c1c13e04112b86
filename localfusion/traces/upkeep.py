"""What keeps the file of traces small and honest: retention, deletion, and what deletion leaves.

``secure_delete`` overwrites rows at once. The index of words still has the terms of a deleted text
until its segments are merged, the log still has the old pages, and copies of earlier versions have
all of it: ``scrub`` ends these too, in small steps beside the writing.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from localfusion.errors import RequestError, TraceError
from localfusion.traces.database import BUSY_MS, wal_of
from localfusion.traces.migrate import copies_of
from localfusion.traces.rows import transaction

DAY = 86_400.0
SLICE = 100
"""Traces that one transaction deletes."""
STEP_PAGES = 200
"""Of the index or the file that one step of a scrub works on, about 10 ms."""
READERS_MS = 50
"""How long the writer waits for readers of the log; it tries again."""
PATIENCE = 1.0
"""Seconds until it tries again."""
WAL_BYTES = 16 << 20
"""Size of the log from which on it is brought into the database."""


def delete(connection: sqlite3.Connection, places: Sequence[int]) -> None:
    """Delete traces, and the messages that nobody else has; a scrub is due then."""
    with transaction(connection):
        for place in places:
            used = connection.execute(
                "SELECT message FROM message_use WHERE trace = ?", [place]
            ).fetchall()
            connection.execute("DELETE FROM trace WHERE place = ?", [place])
            connection.execute("DELETE FROM words WHERE rowid = ?", [place])
            connection.executemany(
                "DELETE FROM message WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM message_use WHERE message = message.id)",
                used,
            )
        connection.execute(
            "INSERT INTO due (chore, asked) VALUES ('scrub', 1) "
            "ON CONFLICT DO UPDATE SET asked = asked + 1"
        )


def delete_one(connection: sqlite3.Connection, id: str, key: str | None) -> bool:
    """Delete a trace; False: there is none, or it is not of this key.

    Raises:
        RequestError: it still grows.
    """
    found = connection.execute(
        "SELECT place, status FROM trace WHERE id = ? AND (? IS NULL OR key = ?)", [id, key, key]
    ).fetchone()
    if found is None:
        return False
    place, status = found
    if status == "running":
        raise RequestError(
            "the run of this trace still goes; delete it when it has ended", code="trace_running"
        )
    delete(connection, [place])
    return True


def purge(connection: sqlite3.Connection, file: Path, before: float) -> int:
    """Delete all traces from before a time, so that nothing of them is left in any file of ours.

    Returns:
        How many there were.

    Raises:
        sqlite3.Error: there is no room to rewrite the file.
        TraceError: somebody keeps reading, so that the log stays.
    """
    count = 0
    while places := expired(connection, before):
        delete(connection, places)
        count += len(places)
    Scrub(connection, file).all()
    return count


def expired(connection: sqlite3.Connection, before: float) -> list[int]:
    """Return some of the traces from before a time, in seconds since 1970; not those that go on."""
    found = connection.execute(
        "SELECT place FROM trace WHERE created < ? AND status <> 'running' LIMIT ?",
        [before, SLICE],
    )
    return [place for (place,) in found]


def surplus(connection: sqlite3.Connection, max_bytes: int) -> list[int]:
    """Return some of the oldest traces where all take more than they may."""
    [(size,)] = connection.execute(
        "SELECT (page_count - freelist_count) * page_size "
        "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
    if size <= max_bytes:
        return []
    found = connection.execute(
        "SELECT place FROM trace WHERE status <> 'running' ORDER BY place LIMIT ?", [SLICE]
    )
    return [place for (place,) in found]


class Scrub:
    """Takes the last of deleted texts out of the file, a step at a time.

    Args:
        connection: The writer's.
        file: The database.
    """

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self._connection = connection
        self._file = file
        self._begun: int | None = None

    @property
    def is_due(self) -> bool:
        return self._asked is not None

    @property
    def _asked(self) -> int | None:
        found = self._connection.execute("SELECT asked FROM due WHERE chore = 'scrub'").fetchone()
        return None if found is None else int(found[0])

    def step(self) -> float | None:
        """Do a little of it; return after how many seconds to go on, None: it is done.

        Source of the merge: "The 'merge' Command" of SQLite's FTS5 documentation. The first, with a
        negative number, makes all segments one; the others go on until nothing changes any more.
        """
        asked = self._asked
        # What has been deleted since may be in segments that this merge left out.
        pages = STEP_PAGES if self._begun == asked else -STEP_PAGES
        self._begun = asked
        before = self._connection.total_changes
        self._connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", [pages])
        if self._connection.total_changes - before >= 2:
            return 0.0
        [(free,)] = self._connection.execute("PRAGMA freelist_count")
        if free:
            self._connection.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
            return 0.0
        return None if self._finish(READERS_MS) else PATIENCE

    def all(self) -> None:
        """Do all of it at once, and rewrite the file: long where there is much.

        Raises:
            sqlite3.Error: there is no room for that.
            TraceError: somebody keeps reading, so that the log stays.
        """
        self._connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        self._connection.execute("VACUUM")
        if not self._finish(BUSY_MS):
            raise TraceError("somebody reads the traces just now; purge again")

    def _finish(self, wait_ms: int) -> bool:
        if not checkpoint(self._connection, wait_ms):
            return False
        for copy in copies_of(self._file):
            copy.unlink()
        self._connection.execute("DELETE FROM due WHERE chore = 'scrub'")
        checkpoint(self._connection, wait_ms)
        self._begun = None
        return True


def checkpoint(connection: sqlite3.Connection, wait_ms: int) -> bool:
    """Bring the log into the database and empty it; False: somebody reads what is in it.

    Args:
        connection: The only one that may do this.
        wait_ms: For readers.
    """
    connection.execute(f"PRAGMA busy_timeout={wait_ms}")
    try:
        [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    return not is_busy


def log_bytes(file: Path) -> int:
    """Return the size of the log."""
    try:
        return wal_of(file).stat().st_size
    except FileNotFoundError:
        return 0
