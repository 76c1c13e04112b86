"""A writer that is killed, or whose disk is full: what was acknowledged is there, and all is sound.

``TRACE_KILLS=200`` kills as often as docs/threats.md tells of.
"""

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from localfusion.traces import TraceStore
from localfusion.traces.database import open_reader
from tests.traces.conftest import keeping

KILLS = int(os.environ.get("TRACE_KILLS", "20"))
MOST_SECONDS = 0.15
ROOT = Path(__file__).parent.parent.parent
CHILD = (sys.executable, "-m", "tests.traces.writer_child")


@contextmanager
def nursery(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*CHILD, "nursery", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def write_and_kill(process: subprocess.Popen[str], rng: random.Random) -> list[str]:
    """Let a writer write for a random time, kill it, and return what it has said."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    select.select([], [], [], rng.random() * MOST_SECONDS)  # whatever it does by then
    os.kill(pid, signal.SIGKILL)
    return list(until_reaped(process.stdout, pid))


def until_reaped(stream: IO[str], pid: int) -> Iterator[str]:
    while (line := stream.readline()) != f"reaped {pid}\n":
        assert line
        yield line.strip()


@pytest.mark.promise(9)
@pytest.mark.timeout(900)
async def test_acknowledged_traces_survive_kills(folder: Path, file: Path) -> None:
    rng = random.Random(1)
    acknowledged: set[str] = set()
    with nursery(folder) as process:
        for _ in range(KILLS):
            said = write_and_kill(process, rng)
            acknowledged |= {line[1:] for line in said if line.startswith("+") and len(line) == 33}
            acknowledged -= {line[1:] for line in said if line.startswith("-")}
            with closing(open_reader(file)) as reader:
                assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert not reader.execute("PRAGMA foreign_key_check").fetchall()
                rows = reader.execute("SELECT id FROM trace WHERE status <> 'running'")
                assert acknowledged <= {id for (id,) in rows}

    async with keeping(folder) as kept:
        await kept.settle()
    store = TraceStore(file)
    traces = {id: store.get(id) for id in store.ids()}
    assert len(acknowledged) > KILLS
    assert all((trace := traces[id]) and trace["answer"] for id in acknowledged)
    ends = {trace["reason"] for trace in traces.values() if trace and not trace["answer"]}
    assert ends <= {"process_ended"}


def run_child(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.promise(10)
def test_file_that_may_not_grow_costs_traces_and_no_answer(folder: Path) -> None:
    said = run_child(*CHILD, "limit", str(folder))

    assert "trouble: traces are not kept, answers go on" in said
    assert "resumed" in said


@pytest.mark.promise(10)
def test_full_disk_costs_traces_and_no_answer(folder: Path) -> None:
    folder.mkdir()
    probe = ("unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    mount = f'mount -t tmpfs -o size=2m tmpfs "{folder}" && exec "$@"'

    said = run_child("unshare", "-rm", "sh", "-c", mount, "sh", *CHILD, "full", str(folder))

    assert "trouble: traces are not kept, answers go on" in said
    assert "full" in said
    assert "resumed" in said
