"""models.lock: the commit that each hub model was pulled at, with the digest of every file."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from localfusion.config import HubSource
from localfusion.durable import write_whole
from localfusion.errors import WeightsError

_HEADER = """\
# Written by `localfusion models pull`; keep it beside models.yaml, under version control.
# Each hub model's revision as it was resolved once, and the SHA-256 of every file; every later pull
# must give the same. To move a model to a newer commit, delete its entry, then run
# `localfusion models rm NAME` and `localfusion models pull NAME`.
"""


@dataclass(frozen=True, slots=True)
class LockedModel:
    """One entry: what ``revision`` of the repository ``hub`` was when it was first pulled."""

    hub: str
    revision: str
    commit: str
    files: Mapping[str, str]

    def is_for(self, source: HubSource) -> bool:
        """Say whether the entry belongs to this source; models.yaml may have moved on."""
        return (self.hub, self.revision) == (source.hub, source.revision)


def read_lock(file: Path) -> dict[str, LockedModel]:
    """Read models.lock; no file is no entries.

    Raises:
        WeightsError: it is no YAML or not of the form that `write_lock` writes.
    """
    try:
        value = yaml.safe_load(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error
    try:
        return {name: _from_yaml(entry) for name, entry in (value or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is damaged: {error}; restore it, or delete it") from error


def _from_yaml(entry: object) -> LockedModel:
    match entry:
        case {"hub": str(hub), "revision": str(revision), "commit": str(commit), "files": dict(f)}:
            files = {str(name): str(digest) for name, digest in f.items()}
            return LockedModel(hub, revision, commit, files)
        case _:
            raise ValueError("an entry lacks hub, revision, commit or files")


def write_lock(file: Path, name: str, model: LockedModel) -> None:
    """Add or replace one entry.

    Raises:
        WeightsError: the folder cannot be written.
    """
    with _guarded(file):
        _write(file, read_lock(file) | {name: model})


@contextmanager
def _guarded(file: Path) -> Iterator[None]:
    """Keep threads and processes apart: two that read and write at once would lose an entry."""
    handle = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(file: Path, entries: Mapping[str, LockedModel]) -> None:
    document = {
        key: {
            "hub": entry.hub,
            "revision": entry.revision,
            "commit": entry.commit,
            "files": dict(sorted(entry.files.items())),
        }
        for key, entry in sorted(entries.items())
    }
    try:
        text = _HEADER + yaml.safe_dump(document, sort_keys=False)
        write_whole(file, text.encode())
    except OSError as error:
        raise WeightsError(
            f"{file}: {error.strerror}; copy models.yaml to a folder of yours and name it with "
            "--config or LOCALFUSION_CONFIG"
        ) from error
