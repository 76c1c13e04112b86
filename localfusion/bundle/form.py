"""manifest.json of a bundle: every file with size, SHA-256, origin, revision and license.

Standard library only.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from localfusion.errors import BundleError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
INSTALLER = "install.pyz"
BESIDE = frozenset({MANIFEST, SIGNATURE, INSTALLER})
"""What lies at the root of a bundle, or of each of its volumes, and is no file of the manifest."""
MAX_MANIFEST = 64 << 20
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A file on a medium; ``path`` starts at the bundle's folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle.

    Attributes:
        kind: weights, wheel, license, settings, docs or sbom.
        origin: Who made it, or the package that it is.
        revision: Commit of the hub or version of the package; None where there is none.
        pieces: Where its bytes lie, in their order.
    """

    path: str
    size: int
    sha256: str
    kind: str
    origin: str
    revision: str | None
    license: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that a bundle is for: ``3.11``, ``linux-x86_64``, ``cpu`` or ``gpu``."""

    python: str
    platform: str
    accelerator: str

    @classmethod
    def here(cls, accelerator: str) -> "Target":
        return cls(
            f"{sys.version_info.major}.{sys.version_info.minor}",
            f"{sys.platform}-{platform.machine().lower()}",
            accelerator,
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that should be in the bundle and is not, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """What a bundle holds.

    Attributes:
        localfusion: Version that made it.
        installer: SHA-256 of install.pyz.
        volumes: Number of folders ``volume-NN``; 0: everything lies in one folder.
        missing: What a user must bring otherwise.
    """

    localfusion: str
    presets: tuple[str, ...]
    models: tuple[str, ...]
    target: Target
    installer: str
    volumes: int
    files: tuple[BundleFile, ...]
    missing: tuple[Missing, ...]

    @property
    def size(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def pieces(self) -> Iterator[Piece]:
        for file in self.files:
            yield from file.pieces

    def of_kind(self, kind: str) -> list[BundleFile]:
        return [file for file in self.files if file.kind == kind]

    def render(self) -> bytes:
        """Return the text of manifest.json: the same bundle gives the same bytes."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        return text.encode() + b"\n"


def volume_name(number: int) -> str:
    return f"volume-{number:02}"


def read_manifest(file: Path) -> tuple[BundleManifest, str]:
    """Return a bundle's manifest and the SHA-256 of its bytes.

    Raises:
        BundleError: unreadable, not of this form, or with a path that leaves the bundle.
    """
    try:
        if file.stat().st_size > MAX_MANIFEST:
            raise BundleError(f"{file} is larger than any manifest; copy the bundle again")
        raw = file.read_bytes()
        value = json.loads(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read: {error}; copy the bundle again") from error
    try:
        return _from_json(value), hashlib.sha256(raw).hexdigest()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{file} is no manifest of a bundle: {error}") from error


def _from_json(value: Mapping[str, object]) -> BundleManifest:
    match value:
        case {
            "format": 1,
            "localfusion": str(version),
            "presets": list(presets),
            "models": list(models),
            "target": dict(target),
            "installer": str(installer),
            "volumes": int(volumes),
            "files": list(files),
            "missing": list(missing),
        } if 0 <= volumes < 100:
            return BundleManifest(
                version,
                tuple(map(str, presets)),
                tuple(map(str, models)),
                Target(**target),
                installer,
                volumes,
                _unique(map(_read_file, files)),
                tuple(Missing(**item) for item in missing),
            )
        case _:
            raise ValueError("unknown format; was it made by a newer localfusion?")


def _read_file(value: Mapping[str, object]) -> BundleFile:
    match value:
        case {
            "path": str(path),
            "size": int(size),
            "sha256": str(sha256),
            "kind": str(kind),
            "origin": str(origin),
            "revision": (str() | None) as revision,
            "license": str(license_),
            "pieces": [_, *_] as entries,
        }:
            pieces = tuple(map(_read_piece, entries))
        case _:
            raise ValueError("a file lacks path, size, sha256, kind, origin, license or pieces")
    if sum(piece.size for piece in pieces) != size:
        raise ValueError(f"the pieces of {path!r} are not its size")
    return BundleFile(
        _inside(path),
        size,
        sha256,
        kind,
        origin,
        revision=revision,
        license=license_,
        pieces=pieces,
    )


def _read_piece(value: object) -> Piece:
    match value:
        case {"path": str(path), "size": int(size), "sha256": str(sha256)} if size >= 0:
            return Piece(_inside(path), size, sha256)
        case _:
            raise ValueError("a piece lacks path, size or sha256")


def _inside(path: str) -> str:
    """Refuse a path that could leave the folder it is joined to (threats.md T6)."""
    pure = PurePosixPath(path)
    parts = path.split("/")
    if pure.is_absolute() or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"impossible path {path!r}")
    return path


def _unique(files: Iterable[BundleFile]) -> tuple[BundleFile, ...]:
    found = tuple(files)
    for paths in ([f.path for f in found], [p.path for f in found for p in f.pieces]):
        if len(set(paths)) != len(paths):
            raise ValueError("a path stands in it twice")
    return found
