"""Traces as lines of JSON, for other machines and other times; and out of a damaged file."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json as parse

from localfusion.errors import TraceError
from localfusion.traces import form, upkeep
from localfusion.traces.database import open_reader, open_writer, sole_writer, wal_of
from localfusion.traces.records import write_trace
from localfusion.traces.store import TraceStore
from localfusion.traces.trace import Trace

MOST_LINE_BYTES = 64 << 20


def read_lines(lines: Iterable[bytes]) -> Iterator[Trace]:
    """Yield the traces of an export, a line each; empty lines are none.

    Raises:
        TraceError: a line is no trace; names it.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > MOST_LINE_BYTES:
            raise TraceError(f"line {number} is longer than {MOST_LINE_BYTES} bytes: no trace")
        try:
            told = parse(line, allow_inf_nan=False)
            if not isinstance(told, dict):
                raise ValueError("it is no object")  # noqa: TRY004, TRY301  of the line
            trace = form.from_json(told)
        except ValueError as error:
            # The whole of pydantic's message would repeat the line.
            reason = str(error).splitlines()[0]
            raise TraceError(
                f"line {number} is no trace of localfusion ({reason}); traces before it are in"
            ) from error
        yield trace


@dataclass(frozen=True, slots=True)
class Recovery:
    """What came of a damaged file.

    Attributes:
        kept: Traces that are in the new file; ``lost`` could not be read whole.
        damaged: Where the old one is now, None: it was sound and is where it was.
    """

    kept: int
    lost: int
    damaged: Path | None


def recover(folder: Path, clock: Callable[[], float] = time.time) -> Recovery:
    """Write what can be read into a new file, and put it in the old one's place, which is kept.

    Raises:
        TraceError: there is no file, another process writes, or there is no room.
    """
    with sole_writer(folder, 0) as file:
        fresh = file.with_name(f"{file.name}.recovered")
        for path in (fresh, wal_of(fresh)):
            path.unlink(missing_ok=True)  # of an attempt that broke off
        fresh.touch(mode=0o600)
        kept, lost = _take_over(file, fresh)
        if not lost and _is_sound(file):
            fresh.unlink()
            return Recovery(kept, lost, None)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(clock()))
        damaged = file.with_name(f"{file.name}.damaged-{stamp}")
        if wal_of(file).exists():
            wal_of(file).rename(wal_of(damaged))
        file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
        file.rename(damaged)
        fresh.rename(file)
    return Recovery(kept, lost, damaged)


def _take_over(file: Path, fresh: Path) -> tuple[int, int]:
    store, kept, lost = TraceStore(file), 0, 0
    with closing(open_writer(fresh, "power")) as connection:
        for id in _readable_ids(file):
            try:
                told = store.get(id)
                if told is not None:
                    write_trace(connection, form.from_json(told), "full")
                    kept += 1
            except (TraceError, ValueError):
                lost += 1
        upkeep.checkpoint(connection, 0)
    return kept, lost


def _readable_ids(file: Path) -> Iterator[str]:
    """Yield ids from the oldest on, and from the newest back, as far as the damage lets."""
    seen: set[str] = set()
    for order in ("ASC", "DESC"):
        try:
            with closing(open_reader(file, None)) as reader:
                for (id,) in reader.execute(f"SELECT id FROM trace ORDER BY place {order}"):
                    if id not in seen:
                        seen.add(id)
                        yield id
        except (TraceError, sqlite3.Error):
            continue


def _is_sound(file: Path) -> bool:
    try:
        with closing(open_reader(file)) as reader:
            found = reader.execute("PRAGMA integrity_check").fetchall()
            return bool(found == [("ok",)])
    except (TraceError, sqlite3.Error):
        return False
