"""The last two steps of a pull: a manifest over everything, then the model appears at once."""

import shutil

from localfusion.config import HubSource
from localfusion.durable import flush
from localfusion.weights.allowed import MANIFEST, check_folder
from localfusion.weights.hub import Snapshot, check_snapshot
from localfusion.weights.job import Job
from localfusion.weights.manifest import Manifest, hash_files, read_manifest, write_manifest
from localfusion.weights.store import describe_source, write_stamp


def seal(job: Job, snapshot: Snapshot | None) -> None:
    """Write the manifest of a whole output folder: from now on it is a model."""
    names = check_folder(job.output)
    total = sum((job.output / name).stat().st_size for name in names)
    files = hash_files(job.output, names, job.counter(total))
    if isinstance(job.spec.source, HubSource) and snapshot is not None:
        check_snapshot(job.spec.source, snapshot, files, job)
    for name in names:
        flush(job.output / name)
    manifest = Manifest(
        job.name,
        describe_source(job.config, job.name),
        job.spec.license,
        job.spec.origin,
        snapshot.commit if snapshot else None,
        files,
    )
    write_manifest(manifest, job.output / MANIFEST)
    flush(job.output)


def publish(job: Job) -> None:
    """Move the sealed output folder into its place, in one step; the staging folder goes."""
    folder = job.place.folder
    if folder.exists():
        shutil.rmtree(folder)  # damaged, or `resolve` would have taken it
    job.output.rename(folder)
    flush(folder.parent)
    manifest = read_manifest(folder / MANIFEST)
    write_stamp(job.place, manifest)
    shutil.rmtree(job.staging)
    job.report("done", manifest.bytes, manifest.bytes, "")
