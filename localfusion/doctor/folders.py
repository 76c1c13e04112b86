"""The folders that engines need: a run directory for sockets, and the cache with the weights."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from localfusion.doctor.finding import Finding, ok, problem, warn
from localfusion.engines.rundir import MAX_PATH, PREFIX, dead_directories
from localfusion.weights import ModelStatus
from localfusion.weights.space import free_bytes_at

LITTLE_BYTES = 2_000_000_000
"""Free space below which logs and engines' caches may fill the disk."""
SHORTER = "set TMPDIR to a folder with a shorter path"


def check_run_directory() -> list[Finding]:
    """Make a run directory as a gateway does, with a socket in it, and remove it again."""
    root = Path(tempfile.gettempdir())
    return [_check_root(root), _check_sockets(root), *_check_stale(root)]


def _check_root(root: Path) -> Finding:
    name = "temporary folder"
    found = root.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        text = f"{root} has mode {mode:o}: others can replace what is in it"
        return problem(name, text, f"chmod +t {root}, or set TMPDIR to a folder of your own")
    if found.st_uid not in (0, os.getuid()):
        text = f"{root} belongs to user {found.st_uid}, who can replace what is in it"
        return warn(name, text, "set TMPDIR to a folder of your own")
    return ok(name, f"{root}, mode {mode:o}")


def _check_sockets(root: Path) -> Finding:
    name = "run directory"
    try:
        # The dot hides it from a gateway that looks for dead ones.
        path = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=root))
    except OSError as error:
        text = f"none can be made in {root}: {error.strerror}"
        return problem(name, text, "make room there, or set TMPDIR to another folder")
    try:
        if len(os.fsencode(path / "t")) > MAX_PATH:
            return problem(name, f"{path} is too long a path for sockets", SHORTER)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode != stat.S_IRWXU:
            text = f"{path} was made with mode {mode:o} instead of 700"
            return problem(name, text, "set TMPDIR to a folder on a local disk")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(path / "a.sock"))
            server.listen(1)
            client.connect(str(path / "a.sock"))
    except OSError as error:
        text = f"no socket can be used in {path}: {error.strerror}"
        return problem(name, text, "set TMPDIR to a folder on a local disk")
    else:
        return ok(name, f"sockets work in {root}")
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _check_stale(root: Path) -> list[Finding]:
    stale = list(dead_directories(root))
    if not stale:
        return []
    text = f"{len(stale)} left behind by a gateway that was killed: {stale[0]}"
    return [
        warn(
            "run directory",
            text,
            "nothing to do: the next ask or serve removes it, and what it left running",
        )
    ]


def check_disk(cache: Path, missing: Sequence[ModelStatus]) -> list[Finding]:
    """Judge the free space for weights that are not there yet, and for logs.

    Args:
        cache: Folder for weights, logs and engines' caches; need not exist yet.
        missing: Models to be pulled.
    """
    name = "disk"
    free = free_bytes_at(cache)
    if not os.access(_existing(cache), os.W_OK):
        text = f"{cache} cannot be written to"
        return [problem(name, text, "name another folder with LOCALFUSION_CACHE")]
    needed = sum(status.bytes or 0 for status in missing)
    said = f"{free / 1e9:.1f} GB free at {cache}"
    remedy = "make room, or name another folder with LOCALFUSION_CACHE"
    if needed > free:
        names = ", ".join(status.name for status in missing)
        return [problem(name, f"{said}; {names} need {needed / 1e9:.1f} GB", remedy)]
    if free < LITTLE_BYTES:
        return [warn(name, f"{said}: little for logs and caches", remedy)]
    return [ok(name, said)]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
