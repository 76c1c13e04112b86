"""A child process: everything of it ends, whatever it does; its log tells phases and remedies."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from localfusion.engines.process import ChildProcess, Command
from localfusion.engines.rundir import run_directory, sweep
from localfusion.errors import ConfigError

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("both up", flush=True)
signal.pause()
"""


def child(tmp_path: Path, *code: str, cores: tuple[int, ...] = ()) -> ChildProcess:
    argv = [sys.executable, "-c", *code]
    command = Command(argv, {"PATH": os.environ["PATH"]}, cores)
    return ChildProcess("a", command, tmp_path / "logs" / "a.log", tmp_path)


async def log_has(process: ChildProcess, text: str, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while process.log.file.read_text().count(text) < count:  # noqa: ASYNC110  a file
            await asyncio.sleep(0.02)


async def test_stop_kills_the_whole_group(tmp_path: Path) -> None:
    process = child(tmp_path, STUBBORN)
    await process.start()
    await log_has(process, "both up", 2)
    group = process.pid

    await process.stop(patience=0.1)

    assert not process.is_running
    assert [p for p in psutil.process_iter() if _in_group(p, group)] == []


def _in_group(process: psutil.Process, group: int | None) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


async def test_stop_is_safe_before_the_start_and_twice(tmp_path: Path) -> None:
    process = child(tmp_path, "pass")
    await process.stop()
    await process.start()
    await process.stop()
    await process.stop()

    assert not process.is_running


async def test_child_runs_on_its_cores_and_hides_its_files(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    code = "import os; print(os.sched_getaffinity(0), oct(os.umask(0)), os.environ.get('HOME'))"
    process = child(tmp_path, code, cores=(core,))
    await process.start()
    await log_has(process, "None")

    assert process.log.file.read_text().strip() == f"{{{core}}} 0o77 None"
    assert process.log.file.stat().st_mode & 0o777 == 0o600
    await process.stop()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("raise SystemExit('operator torchvision::nms does not exist')", "run scripts/install"),
        ("import os; os.kill(os.getpid(), 9)", "somebody killed its process"),
        ("raise ValueError('strange \\x1b[31m')", "ValueError: strange"),
        ("print('To serve at least one request with')", "lower max_model_len"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
async def test_death_is_explained(tmp_path: Path, code: str, remedy: str) -> None:
    process = child(tmp_path, code)
    await process.start()
    async with asyncio.timeout(30):
        while process.is_running:  # noqa: ASYNC110  it ends by itself
            await asyncio.sleep(0.02)

    assert remedy in process.explain().text
    assert "\x1b" not in process.explain().text
    await process.stop()


async def test_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    process = child(tmp_path, "pass")
    process.log.file.parent.mkdir()
    other = tmp_path / "other"
    other.write_text("precious")
    process.log.file.symlink_to(other)

    await process.start()
    await process.stop()

    assert other.read_text() == "precious"
    assert not process.log.file.is_symlink()


def test_run_directory_is_ours_alone_and_goes_away(short: Path) -> None:
    with run_directory(short) as run:
        assert run.stat().st_mode & 0o777 == 0o700
        sweep(short)
        assert run.exists()

    assert not run.exists()


def test_run_directory_of_a_killed_gateway_is_swept(short: Path) -> None:
    dead = short / "localfusion-dead"
    dead.mkdir()
    (dead / "lock").touch()

    with run_directory(short):
        assert not dead.exists()


def test_long_path_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()

    with pytest.raises(ConfigError, match="TMPDIR"), run_directory(deep):
        pass

    assert list(deep.iterdir()) == []
