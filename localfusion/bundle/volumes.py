"""Deal a bundle out to media of one size: whole files where they fit, else pieces."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from localfusion.bundle.form import BundleFile, Piece, volume_name
from localfusion.errors import BundleError

SMALLEST = 64 << 10
_CHUNK = 4 << 20


@dataclass(slots=True)
class _Deal:
    """How full the volume is that is being filled."""

    size: int
    number: int = 1
    used: int = 0

    def room(self) -> int:
        return self.size - self.used

    def turn(self) -> None:
        self.number, self.used = self.number + 1, 0

    def place(self, path: str, size: int) -> str:
        self.used += size
        return f"{volume_name(self.number)}/{path}"


def plan_volumes(files: Iterable[BundleFile], size: int) -> tuple[tuple[BundleFile, ...], int]:
    """Give every file its pieces' paths and sizes, without digests; return the number of volumes.

    Args:
        files: Of a bundle in one folder.
        size: Most bytes of files on a volume; manifest and installer come on top.

    Raises:
        BundleError: volumes so small that there would be more than 99.
    """
    if size < SMALLEST:
        raise BundleError(f"volumes of {size} bytes are too small; at least {SMALLEST}")
    deal = _Deal(size)
    dealt = tuple(replace(file, pieces=_pieces(file, deal)) for file in files)
    if deal.number > 99:
        raise BundleError(f"{deal.number} volumes are too many; make them larger")
    return dealt, deal.number


def _pieces(file: BundleFile, deal: _Deal) -> tuple[Piece, ...]:
    if file.size <= deal.size:
        if file.size > deal.room():
            deal.turn()
        return (Piece(deal.place(file.path, file.size), file.size, file.sha256),)
    pieces: list[Piece] = []
    left = file.size
    while left:
        if not deal.room():
            deal.turn()
        part = min(left, deal.room())
        path = deal.place(f"{file.path}.part-{len(pieces) + 1:03}", part)
        pieces.append(Piece(path, part, ""))
        left -= part
    return tuple(pieces)


def deal_out(files: Iterable[BundleFile], content: Path, out: Path) -> tuple[BundleFile, ...]:
    """Write the pieces that `plan_volumes` planned; return the files with the pieces' digests."""
    return tuple(_deal_file(file, content, out) for file in files)


def _deal_file(file: BundleFile, content: Path, out: Path) -> BundleFile:
    source = content / file.path
    if len(file.pieces) == 1:
        target = out / file.pieces[0].path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)  # both are ours, and the source goes in the end
        except OSError:
            shutil.copyfile(source, target)  # a file system without links, as on sticks
        return file
    with source.open("rb") as stream:
        pieces = []
        for piece in file.pieces:
            target = out / piece.path
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, left = hashlib.sha256(), piece.size
            with target.open("wb") as output:
                while left and (chunk := stream.read(min(left, _CHUNK))):
                    output.write(chunk)
                    digest.update(chunk)
                    left -= len(chunk)
            pieces.append(replace(piece, sha256=digest.hexdigest()))
    return replace(file, pieces=tuple(pieces))
