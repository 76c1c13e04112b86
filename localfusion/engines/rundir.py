"""The run directory: sockets and temporary files of one gateway, gone when it is gone."""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from localfusion.engines.group import Group
from localfusion.engines.process import GROUP_SUFFIX
from localfusion.errors import ConfigError

_log = logging.getLogger(__name__)

PREFIX = "localfusion-"
MAX_PATH = 64
"""Bytes of the folder for temporary files: a socket's path has 107, of which an engine's own folder
takes 6 and vLLM up to 37."""


def temporary_folder(run: Path, engine: str) -> Path:
    """Name an engine's own folder for temporary files: what it leaves can be removed with it."""
    return run / "t" / hashlib.sha256(engine.encode()).hexdigest()[:5]


@contextmanager
def run_directory(base: Path | None = None) -> Generator[Path, None, None]:
    """Make a folder for us alone (0700), locked while we live; remove it at the end.

    Folders that a killed gateway left behind are removed first, and what its engines left running
    is killed.

    Args:
        base: Where to make it; the system's folder for temporary files when None.

    Raises:
        ConfigError: its path would be too long for sockets.
    """
    root = base or Path(tempfile.gettempdir())
    sweep(root)
    path = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=root))  # 0700
    try:
        if len(os.fsencode(path / "t")) > MAX_PATH:
            raise ConfigError(f"{path} is too long a path for sockets; set TMPDIR to a shorter one")
        (path / "t").mkdir(mode=0o700)
        with (path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Only now may others see it: a folder without a locked lock is a dead one.
            path = path.rename(root / path.name.removeprefix("."))
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove run directories of ours whose gateway is dead: nobody holds their lock.

    Process groups that they name are killed first, if any of their processes still runs.
    """
    for path in dead_directories(root):
        with suppress(OSError):
            _kill_orphans(path)
        shutil.rmtree(path, ignore_errors=True)


def dead_directories(root: Path) -> Iterator[Path]:
    """Yield run directories of ours whose gateway is dead, each locked until the next is asked."""
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            with (path / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path


def _kill_orphans(path: Path) -> None:
    for record in path.glob(f"*{GROUP_SUFFIX}"):
        with suppress(OSError, ValueError):  # a half-written file, a process of another user
            group = Group.read(record)
            if group.lives():
                _log.warning("process group %d of a killed gateway is killed", group.id)
                group.kill()
