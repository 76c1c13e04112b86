"""manifest.json: every file of a model with size and SHA-256, and where it came from."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from localfusion.durable import write_whole
from localfusion.errors import WeightsError
from localfusion.weights.facts import read_json

FORMAT = 1
_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path inside the model folder, its bytes, its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model folder holds and where that came from.

    Attributes:
        source: The source as models.yaml gave it.
        revision: Resolved commit of the hub, None for other sources.
        files: All but manifest.json, sorted by name.
    """

    model: str
    source: Mapping[str, object]
    license: str
    origin: str
    revision: str | None
    files: tuple[FileEntry, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over names and digests of all files: the same digest is the same model."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def hash_file(path: Path, count: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file in hex; ``count`` gets the bytes of each piece read."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            count(len(piece))
    return digest.hexdigest()


def hash_files(
    folder: Path, names: Sequence[str], count: Callable[[int], None] = lambda _: None
) -> tuple[FileEntry, ...]:
    """Return the entries of ``names`` in ``folder``, in their order."""
    return tuple(
        FileEntry(name, (folder / name).stat().st_size, hash_file(folder / name, count))
        for name in names
    )


def write_manifest(manifest: Manifest, file: Path) -> None:
    """Write a manifest so that it exists either whole and on disk, or not at all."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1, ensure_ascii=False)
    write_whole(file, f"{text}\n".encode())


def read_manifest(file: Path) -> Manifest:
    """Read a manifest.

    Raises:
        WeightsError: missing, or not what `write_manifest` writes.
    """
    value = read_json(file)
    try:
        return _from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is no manifest of localfusion: {error!r}") from error


def _from_json(value: Mapping[str, object]) -> Manifest:
    match value:
        case {
            "format": 1,
            "model": str(model),
            "source": dict(source),
            "license": str(license_),
            "origin": str(origin),
            "revision": (str() | None) as revision,
            "files": list(entries),
        }:
            files = tuple(FileEntry(**entry) for entry in entries)
        case _:
            raise ValueError("unknown format")
    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or not isinstance(file.size, int):
            raise ValueError(f"impossible entry {file.name!r}")
    return Manifest(model, source, license_, origin, revision, files)
