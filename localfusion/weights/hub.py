"""A model from the Hugging Face hub, at a commit that models.lock pins from the first pull on."""

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from localfusion.config import HubSource
from localfusion.errors import WeightsError
from localfusion.weights.allowed import check_no_code, is_allowed
from localfusion.weights.children import Finished
from localfusion.weights.job import Job
from localfusion.weights.lock import LockedModel, read_lock, write_lock
from localfusion.weights.manifest import FileEntry, Manifest
from localfusion.weights.progress import watch_folder

_CHILD = Path(__file__).with_name("hub_child.py")
_ENV = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*")
_REFUSALS = ("RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the hub says is in one commit, reduced to what may be loaded.

    Attributes:
        files: Size and, where the hub knows it, SHA-256 by name.
    """

    commit: str
    files: dict[str, tuple[int, str | None]]

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())


def find_snapshot(source: HubSource, job: Job) -> Snapshot:
    """Resolve the revision, or take the commit that models.lock has, and list its files.

    Raises:
        WeightsError: the hub cannot be reached or has no such model, or it has no safetensors.
    """
    locked = read_lock(job.config.lock_file).get(job.name)
    is_pinned = locked is not None and locked.is_for(source)
    revision = locked.commit if locked is not None and is_pinned else source.revision
    job.report("fetch", None, None, f"asking for {source.hub} at {revision}")
    ended = job.children.run([sys.executable, "-P", _CHILD, "info", source.hub, revision], _ENV)
    snapshot = _parse(_need(ended, source, revision), source)
    if is_pinned and snapshot.commit != revision:
        raise WeightsError(f"the hub gave {snapshot.commit} of {source.hub}, not {revision}")
    return snapshot


def fetch_hub(source: HubSource, snapshot: Snapshot, job: Job) -> str:
    """Download a snapshot into the job's output folder and return its commit.

    Configuration comes first, so that a model that brings code is refused before its weights.

    Raises:
        WeightsError: a download failed, or the model needs code of its own.
    """
    job.output.mkdir(parents=True, exist_ok=True)
    for stale in job.output.iterdir():  # of a commit that a branch has left since
        if stale.is_file() and stale.name not in snapshot.files:
            stale.unlink()
    weights = [name for name in snapshot.files if name.endswith(".safetensors")]
    others = [name for name in snapshot.files if name not in weights]

    def measure(done: int) -> None:
        job.report("fetch", min(done, snapshot.bytes), snapshot.bytes, source.hub)

    fetch: list[str | Path] = [
        sys.executable,
        "-P",
        _CHILD,
        "fetch",
        source.hub,
        snapshot.commit,
        job.output,
    ]
    with job.downloads.turn(job.rank), watch_folder(job.output, measure):
        _need(job.children.run([*fetch, *others], _ENV), source, snapshot.commit)
        for file in job.output.glob("*config*.json"):
            check_no_code(file)
        _need(job.children.run([*fetch, *weights], _ENV), source, snapshot.commit)
    shutil.rmtree(job.output / ".cache", ignore_errors=True)
    return snapshot.commit


def check_snapshot(
    source: HubSource, snapshot: Snapshot, files: tuple[FileEntry, ...], job: Job
) -> None:
    """Hold what was downloaded against the hub's digests and models.lock; write the lock.

    Raises:
        WeightsError: a file differs; it is deleted, so that the next pull fetches it again.
    """
    locked = read_lock(job.config.lock_file).get(job.name)
    pinned = locked.files if locked is not None and locked.is_for(source) else None
    for file in files:
        _, announced = snapshot.files.get(file.name, (0, None))
        wanted = announced if pinned is None else pinned.get(file.name)
        if wanted is not None and wanted != file.sha256:
            (job.output / file.name).unlink()
            who = "the hub" if pinned is None else str(job.config.lock_file)
            raise WeightsError(
                f"{job.name!r}: {file.name} has SHA-256 {file.sha256}, {who} says {wanted}; the "
                f"file is deleted, run: localfusion models pull {job.name}"
            )
    digests = {file.name: file.sha256 for file in files}
    wanted_names = snapshot.files.keys() if pinned is None else pinned.keys()
    if odd := sorted(wanted_names ^ digests.keys()):
        raise WeightsError(f"{job.name!r}: {odd[0]} is missing or too many; pull it again")
    entry = LockedModel(source.hub, source.revision, snapshot.commit, digests)
    write_lock(job.config.lock_file, job.name, entry)


def pin(lock_file: Path, name: str, source: HubSource, manifest: Manifest) -> None:
    """Write what is on disk to models.lock if it has no entry for this source yet."""
    locked = read_lock(lock_file).get(name)
    if manifest.revision is not None and (locked is None or not locked.is_for(source)):
        digests = {file.name: file.sha256 for file in manifest.files}
        entry = LockedModel(source.hub, source.revision, manifest.revision, digests)
        write_lock(lock_file, name, entry)


def _parse(text: str, source: HubSource) -> Snapshot:
    value = json.loads(text)
    # Files in folders are other formats of the same weights (onnx, original); no engine needs them.
    files = {
        file["name"]: (int(file["size"]), file["sha256"])
        for file in value["files"]
        if _NAME.fullmatch(file["name"]) and is_allowed(file["name"])
        if not file["name"].startswith("consolidated")
    }
    if not any(name.endswith(".safetensors") for name in files):
        raise WeightsError(f"{source.hub} has no safetensors, the only format that is loaded")
    if not _COMMIT.fullmatch(str(value["commit"])):
        raise WeightsError(f"the hub names no commit for {source.hub} {source.revision}")
    return Snapshot(value["commit"], files)


def _need(ended: Finished, source: HubSource, revision: str) -> str:
    if ended.code == 0:
        return ended.stdout
    if ended.last_line.startswith(_REFUSALS):
        remedy = "check the name, accept the model's terms on its page, or set HF_TOKEN"
    else:
        remedy = "cannot reach the hub; on an offline machine use source: path"
    raise WeightsError(f"{source.hub} at {revision}: {remedy} ({ended.last_line})")
