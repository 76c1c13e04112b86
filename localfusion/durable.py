"""Files that are on disk, whole, before what comes next. Standard library only.

It also travels in a bundle's install.pyz.
"""

import os
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Replace ``file`` in one step: a reader, or a power cut, sees the old or the new one."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def flush(path: Path) -> None:
    """Have a file or folder on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
