"""One process at a time in a folder. Standard library only."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localfusion.errors import BundleError


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, against every other process of ours.

    Raises:
        BundleError: another one holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BundleError(
            f"{folder}: {error.strerror}; name a folder that you may write"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BundleError(f"another process is at work in {folder}; wait for it") from error
        yield
    finally:
        os.close(handle)
