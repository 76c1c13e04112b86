"""The file of traces: who may write it, how it is opened, when it is refused.

SQLite 3.7.0 to 3.51.2 may corrupt a file that two connections write or checkpoint at the same
instant (the WAL-reset fault). So one process holds the lock, and writes through one connection.
"""

import fcntl
import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from localfusion.errors import TraceError
from localfusion.traces.migrate import LATEST, migrate

FILE_NAME = "traces.db"
BUSY_MS = 5000
POLL_SECONDS = 0.05
Durability = Literal["process", "power"]

_NETWORK = frozenset(
    re.findall(
        r"\S+",
        "9p afs beegfs ceph cifs fuse.glusterfs fuse.sshfs gpfs lustre nfs nfs4 smb3 smbfs",
    )
)


@contextmanager
def sole_writer(folder: Path, wait: float) -> Iterator[Path]:
    """Hold the right to write for the length of a block; yield the database file, 0600 in 0700.

    Args:
        folder: Of the file, made where it is missing.
        wait: Seconds for another process to let go.

    Raises:
        TraceError: another process writes, the folder cannot be written, or is not on a local disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        lock = _open_private(folder / "traces.lock")
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        _refuse_network(folder)
        _take(lock, folder, time.monotonic() + wait)
        file = folder / FILE_NAME
        try:
            os.close(_open_private(file))
        except OSError as error:
            raise _unusable(file, error) from error
        yield file
    finally:
        os.close(lock)


def open_writer(file: Path, durability: Durability) -> sqlite3.Connection:
    """Open the database for its sole writer, migrated; it may be used by one thread at a time.

    Raises:
        TraceError: it is damaged or a newer localfusion's; it has not been touched.
    """
    is_unclean = _has_content(wal_of(file))
    if file.stat().st_size or is_unclean:
        # Only read: closing a connection that may write would bring the log into a damaged file.
        with closing(open_reader(file, None)) as reader:
            _refuse_damage(reader, file, is_unclean)
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    try:
        _configure(connection, durability)
        migrate(connection, file)
    except sqlite3.Error as error:
        connection.close()
        raise explain(file, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(file: Path, version: int | None = LATEST) -> sqlite3.Connection:
    """Open the database only to read, beside whoever writes it.

    Args:
        file: It.
        version: That it must have; None: any.

    Raises:
        TraceError: it is not there, damaged, or of another version.
    """
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(file))}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise explain(file, error) from error
    try:
        for pragma in (
            "query_only=ON",
            "wal_autocheckpoint=0",
            "mmap_size=0",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        found = version_of(connection)
    except sqlite3.Error as error:
        connection.close()
        raise explain(file, error) from error
    if version is not None and found != version:
        connection.close()
        raise _other_version(file, found)
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration that the database has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def wal_of(file: Path) -> Path:
    """Return the write-ahead log of a database; it is empty or gone after a clean end."""
    return file.with_name(f"{file.name}-wal")


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether the file itself is at fault: nothing may be written to it any more."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def explain(file: Path, error: sqlite3.Error) -> TraceError:
    """Return what a failure of SQLite means for the user."""
    if is_damage(error):
        return damaged(file, str(error))
    return TraceError(f"{file}: {error}; see that the disk has room and the file is yours")


def damaged(file: Path, what: str) -> TraceError:
    """Return the refusal of a file that is not what was written."""
    return TraceError(
        f"{file} is damaged ({what}) and is left as it is; stop the server and run localfusion "
        "traces recover, which keeps it and takes over what can be read",
        code="traces_damaged",
    )


def _unusable(path: Path, error: OSError) -> TraceError:
    return TraceError(
        f"{path}: {error.strerror}; set LOCALFUSION_STATE to a folder of yours on a local disk"
    )


def _open_private(path: Path) -> int:
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(handle, stat.S_IRUSR | stat.S_IWUSR)
    return handle


def _take(lock: int, folder: Path, until: float) -> None:
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TraceError(
                    f"another localfusion process writes the traces in {folder}; stop it, or set "
                    "LOCALFUSION_STATE to another folder",
                    code="traces_in_use",
                ) from None
        else:
            return
        pause.wait(POLL_SECONDS)


def _refuse_network(folder: Path) -> None:
    """Refuse file systems on which locks and shared memory do not hold."""
    found, best = "", -1
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        mount, _, rest = line.partition(" - ")
        point = Path(mount.split(" ")[4].replace("\\040", " "))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= best:
            found, best = rest.split(" ")[0], len(point.parts)
    if found in _NETWORK:
        raise TraceError(
            f"{folder} is on a network file system ({found}), where SQLite is not safe; set "
            "LOCALFUSION_STATE to a folder on a local disk"
        )


def _refuse_damage(reader: sqlite3.Connection, file: Path, is_unclean: bool) -> None:
    """Look at a file before anything is written to it.

    Raises:
        TraceError: it is damaged, or newer than this program.
    """
    found = version_of(reader)
    if found > LATEST:
        raise _other_version(file, found)
    if not is_unclean:
        return
    try:
        [(verdict,), *_] = reader.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise explain(file, error) from error
    if verdict != "ok":
        raise damaged(file, str(verdict).splitlines()[-1])


def _other_version(file: Path, found: int) -> TraceError:
    if found > LATEST:
        return TraceError(
            f"{file} is of a newer localfusion (version {found}, this one knows {LATEST}); update, "
            "or set LOCALFUSION_STATE to another folder",
            code="traces_newer",
        )
    return TraceError(
        f"{file} is of an older localfusion (version {found} of {LATEST}); localfusion serve "
        "brings it up to date"
    )


def _configure(connection: sqlite3.Connection, durability: Durability) -> None:
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # holds for a file that is still empty
    [(mode,)] = connection.execute("PRAGMA journal_mode=WAL")
    if mode != "wal":
        raise sqlite3.OperationalError(f"this file system allows no write-ahead log, only {mode}")
    pragmas = {
        "synchronous": "FULL" if durability == "power" else "NORMAL",
        "wal_autocheckpoint": 0,
        "foreign_keys": "ON",
        "trusted_schema": "OFF",
        "cell_size_check": "ON",
        "secure_delete": "ON",
        "busy_timeout": BUSY_MS,
        "mmap_size": 0,
    }
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name}={value}")


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
