"""Real vLLM engines that are killed: nothing of them is left, and they come back."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localfusion.engines.group import processes
from localfusion.engines.rundir import run_directory
from localfusion.engines.supervisor import DEFAULT
from localfusion.errors import EngineError
from tests.engines.kinds import collect, text_of
from tests.engines.test_keeper import gone
from tests.engines.watched import Turns, error_of, restarted, say, watched
from tests.real.lone import ROOT, build

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lf") as folder:
        yield Path(folder)


def family(leader: int | None) -> list[psutil.Process]:
    """Return keeper, API server and engine core, in this order."""
    assert leader is not None
    found = sorted(processes(leader), key=lambda process: process.create_time())
    assert [process.ppid() for process in found[1:3]] == [found[0].pid, found[1].pid]
    assert found[0].pid == leader
    return found


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


async def test_killed_processes_leave_nothing_and_the_engine_comes_back(short: Path) -> None:
    before = shared_memory()
    with run_directory(short) as run:
        turns = Turns()
        async with watched(build(run), DEFAULT, turn=turns) as engine:
            for times, victim in enumerate((2, 1), start=1):  # the core, the server
                old = family(engine.pid)
                async with asyncio.TaskGroup() as group:
                    call = group.create_task(error_of(say(engine)))
                    while not engine.status.in_flight:  # noqa: ASYNC110  seen from outside
                        await asyncio.sleep(0.01)
                    old[victim].kill()

                assert isinstance(call.result(), EngineError)
                await restarted(engine, times)
                await gone(*(process.pid for process in old))
                assert text_of(await collect(engine))
            assert "core has ended" in turns.causes[0]
            assert "SIGKILL" in turns.causes[1]
            last = [process.pid for process in family(engine.pid)]
        await gone(*last)
        assert [path for path in run.rglob("*") if path.is_socket()] == []
    assert shared_memory() <= before


async def test_nothing_outlives_a_killed_gateway(short: Path) -> None:
    gateway = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.real.lone",
        str(short),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert gateway.stdout is not None
    group = [process.pid for process in family(int(await gateway.stdout.readline()))]

    gateway.kill()
    await gateway.wait()

    await gone(*group)
