"""Is a bundle what was made? Every byte is read; no network, no key, no other machine is needed.

Standard library only.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from localfusion.bundle.form import (
    BESIDE,
    INSTALLER,
    MANIFEST,
    SIGNATURE,
    BundleFile,
    BundleManifest,
    read_manifest,
    volume_name,
)
from localfusion.errors import BundleError

_CHUNK = 4 << 20
Count = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on this disk.

    Attributes:
        digest: SHA-256 of its manifest: it stands for every byte of the bundle.
        roots: Its folder, or those of its volumes.
    """

    folder: Path
    manifest: BundleManifest
    digest: str
    roots: tuple[Path, ...]

    @property
    def manifest_file(self) -> Path:
        return self.roots[0] / MANIFEST

    @property
    def signature_file(self) -> Path:
        return self.roots[0] / SIGNATURE


def open_bundle(folder: Path) -> Bundle:
    """Find a bundle's manifest and all its volumes; no other file is read.

    Raises:
        BundleError: no bundle, a volume that is not there, or volumes of different bundles.
    """
    if (folder / MANIFEST).is_file():
        manifest, digest = read_manifest(folder / MANIFEST)
        if manifest.volumes:
            raise BundleError(
                f"{folder} is one of {manifest.volumes} volumes; put all of them side by side into "
                "one folder and name that"
            )
        return Bundle(folder, manifest, digest, (folder,))
    found = sorted(folder.glob(f"volume-*/{MANIFEST}"))
    if not found:
        raise BundleError(
            f"{folder} is no bundle: it has neither {MANIFEST} nor volume-01/{MANIFEST}; name the "
            "folder that `bundle create` wrote"
        )
    manifest, digest = read_manifest(found[0])
    for file in found[1:]:
        if read_manifest(file)[1] != digest:
            raise BundleError(
                f"{file} and {found[0]} belong to different bundles; keep one of them"
            )
    roots = tuple(folder / volume_name(n) for n in range(1, manifest.volumes + 1))
    gone = [root.name for root in roots if not (root / MANIFEST).is_file()]
    if gone:
        raise BundleError(
            f"{folder}: {', '.join(gone)} of {manifest.volumes} volumes is missing; copy it there"
        )
    return Bundle(folder, manifest, digest, roots)


def verify(folder: Path, count: Count = lambda _: None) -> Bundle:
    """Read every byte of a bundle and compare it with the manifest.

    Args:
        folder: The bundle, or the folder that holds its volumes.
        count: Gets the bytes of each piece read.

    Raises:
        BundleError: a file added, removed, changed or cut, or a link; names the first one.
    """
    bundle = open_bundle(folder)
    _check_names(bundle)
    for root in bundle.roots:
        with (root / INSTALLER).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != bundle.manifest.installer:
                raise BundleError(f"{root / INSTALLER} differs from the manifest; do not run it")
    for file in bundle.manifest.files:
        for piece in read_pieces(bundle, file):
            count(len(piece))
    return bundle


def _check_names(bundle: Bundle) -> None:
    wanted = {bundle.folder / piece.path: piece.size for piece in bundle.manifest.pieces}
    found = set(_walk(bundle))
    for path in sorted(found ^ wanted.keys()):
        if path in wanted:
            raise BundleError(f"{path} is missing; copy the bundle again")
        raise BundleError(f"{path} is not in the manifest; remove it, or copy the bundle again")
    for path, size in wanted.items():
        if (actual := path.stat().st_size) != size:
            raise BundleError(f"{path} has {actual} bytes, the manifest says {size}; copy it again")


def _walk(bundle: Bundle) -> Iterator[Path]:
    for root in bundle.roots:
        for parent, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(parent, name)
                if path.is_symlink() or (name in files and not path.is_file()):
                    raise BundleError(f"{path} is no plain file; a bundle has no links; remove it")
                if name in files and not (path.parent == root and name in BESIDE):
                    yield path
        if not (root / INSTALLER).is_file():
            raise BundleError(f"{root / INSTALLER} is missing; copy the bundle again")


def read_pieces(bundle: Bundle, file: BundleFile) -> Iterator[bytes]:
    """Give the bytes of a file; raises before its end when they are not what the manifest says.

    Raises:
        BundleError: names the piece on the medium.
    """
    whole = hashlib.sha256()
    for piece in file.pieces:
        path = bundle.folder / piece.path
        digest, left = hashlib.sha256(), piece.size
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(path.open("rb", buffering=0))
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    whole.update(chunk)
                    left -= len(chunk)
                    yield chunk
            except OSError as error:
                raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        if left or digest.hexdigest() != piece.sha256:
            raise BundleError(f"{path} differs from the manifest; copy it again, or do not use it")
    if whole.hexdigest() != file.sha256:
        raise BundleError(f"{file.path}, put together from its pieces, differs from the manifest")
