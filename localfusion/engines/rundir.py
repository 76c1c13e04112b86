"""The run directory: sockets and temporary files of one gateway, gone when it is gone."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from localfusion.errors import ConfigError

PREFIX = "localfusion-"
MAX_PATH = 70
"""Bytes: a socket's path has 107, and vLLM appends up to 37 of its own."""


@contextmanager
def run_directory(base: Path | None = None) -> Generator[Path, None, None]:
    """Make a folder for us alone (0700), locked while we live; remove it at the end.

    Folders that a killed gateway left behind are removed first.

    Args:
        base: Where to make it; the system's folder for temporary files when None.

    Raises:
        ConfigError: its path would be too long for sockets.
    """
    root = base or Path(tempfile.gettempdir())
    sweep(root)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))  # 0700
    try:
        if len(os.fsencode(path / "t")) > MAX_PATH:
            raise ConfigError(f"{path} is too long a path for sockets; set TMPDIR to a shorter one")
        (path / "t").mkdir(mode=0o700)
        with (path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove run directories of ours whose gateway is dead: nobody holds their lock."""
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            with (path / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
