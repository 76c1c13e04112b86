"""The keeper: it ends as the engine does, and leaves no descendant, whoever is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from localfusion.engines.group import Group, processes
from localfusion.engines.process import ChildProcess, Command
from localfusion.engines.rundir import run_directory

# An engine that takes no notice of SIGTERM, with a core that does not either and has left for a
# session of its own.
FAMILY = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
core = os.fork()
if core == 0:
    os.setsid()
    print("core:", os.getpid(), flush=True)
    if os.fork() == 0:
        print("strays:", os.getpid(), flush=True)
    signal.pause()
print("engine:", os.getpid(), flush=True)
signal.pause()
"""

OBEDIENT = "import signal; print('engine: up', flush=True); signal.pause()"


@pytest.fixture
async def process(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ChildProcess]:
    code = request.param if hasattr(request, "param") else FAMILY
    command = Command([sys.executable, "-c", code], {"PATH": os.environ["PATH"]})
    made = ChildProcess("a", command, tmp_path / "logs" / "a.log", tmp_path)
    await made.start()
    yield made
    await made.stop(patience=0)


async def pids(process: ChildProcess, *names: str) -> list[int]:
    """Wait until the log tells these ids."""
    async with asyncio.timeout(30):
        while True:
            words = process.log.file.read_text().split()
            if all(f"{name}:" in words[:-1] for name in names):
                return [int(words[words.index(f"{name}:") + 1]) for name in names]
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


async def gone(*wanted: int) -> None:
    """Wait until none of these processes runs."""
    async with asyncio.timeout(30):
        while any(lives(pid) for pid in wanted):  # noqa: ASYNC110  foreign processes
            await asyncio.sleep(0.02)


async def test_keeper_is_the_parent_and_is_small(process: ChildProcess) -> None:
    engine, core = await pids(process, "engine", "core")

    assert process.pid is not None
    keeper = psutil.Process(process.pid)
    assert [child.pid for child in keeper.children()] == [engine]
    assert keeper.memory_full_info().uss < 15 << 20
    assert os.getpgid(engine) == keeper.pid != os.getpgid(core)


async def test_nothing_is_left_when_the_engine_is_killed(process: ChildProcess) -> None:
    engine, core, stray = await pids(process, "engine", "core", "strays")

    os.kill(engine, signal.SIGKILL)

    assert await process.ended(30)
    await gone(engine, core, stray)


async def test_group_of_a_killed_keeper_is_killed_by_the_gateway(process: ChildProcess) -> None:
    # The engine ignores its death signal, and the others have left the group.
    engine, core, stray = await pids(process, "engine", "core", "strays")
    assert process.pid is not None

    os.kill(process.pid, signal.SIGKILL)
    assert await process.ended(30)
    await process.stop()

    await gone(engine)
    for pid in (core, stray):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("process", [OBEDIENT], indirect=True)
async def test_engine_ends_by_itself_when_its_keeper_is_killed(process: ChildProcess) -> None:
    keeper = process.pid
    assert keeper is not None
    async with asyncio.timeout(30):
        while not (children := psutil.Process(keeper).children()):  # noqa: ASYNC110  it forks
            await asyncio.sleep(0.02)

    os.kill(keeper, signal.SIGKILL)

    await gone(children[0].pid)


async def test_stop_ends_descendants_that_left_the_group(process: ChildProcess) -> None:
    family = await pids(process, "engine", "core", "strays")

    await process.stop(patience=0.1)

    await gone(*family)


async def test_stopped_group_is_killed_too(process: ChildProcess) -> None:
    engine, core, stray = await pids(process, "engine", "core", "strays")
    keeper = process.pid
    assert keeper is not None
    os.killpg(keeper, signal.SIGSTOP)

    await process.stop(patience=0.1)

    await gone(keeper, engine)
    for pid in (core, stray):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("raise SystemExit(3)", "code 3"),
        ("pass", "code 0"),
        ("import os; os.kill(os.getpid(), 9)", "killed its process (SIGKILL)"),
        ("import os; os.kill(os.getpid(), 15)", "code -15"),
        ("import os; os.abort()", "code -6"),
    ],
    indirect=["process"],
)
async def test_keeper_ends_as_the_engine_did(process: ChildProcess, said: str) -> None:
    assert await process.ended(30)

    assert said in process.explain().text


async def test_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = Command(["/nowhere/python"], {})
    process = ChildProcess("a", command, tmp_path / "a.log", tmp_path)

    await process.start()

    assert await process.ended(30)
    assert "cannot run /nowhere/python" in process.explain().text


async def test_nothing_outlives_a_killed_gateway(short: Path) -> None:
    gateway = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.engines.lone_gateway",
        str(short),
        stdout=asyncio.subprocess.PIPE,
    )
    assert gateway.stdout is not None
    keeper = int(await gateway.stdout.readline())
    family = [process.pid for process in processes(keeper)]
    assert len(family) == 3  # keeper, server, core

    gateway.kill()
    await gateway.wait()

    await gone(*family)


@pytest.fixture
async def orphan() -> AsyncIterator[Group]:
    """Give a process group whose gateway is dead."""
    code = "import signal; print(flush=True); signal.pause()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    await process.stdout.readline()
    yield Group.of(process.pid)
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def leave_behind(root: Path, group: Group) -> None:
    dead = root / "localfusion-dead"
    dead.mkdir()
    (dead / "lock").touch()
    group.write(dead / "a.group")


async def test_next_gateway_kills_the_groups_of_a_dead_one(short: Path, orphan: Group) -> None:
    leave_behind(short, orphan)

    with run_directory(short) as run:
        await gone(orphan.id)

        assert os.listdir(short) == [run.name]


@pytest.mark.parametrize("field", ["started", "boot"])
async def test_other_process_with_the_same_id_is_left_alone(
    short: Path, orphan: Group, field: str
) -> None:
    changes: dict[str, Group] = {
        "started": Group(orphan.id, orphan.started + 1, orphan.boot),
        "boot": Group(orphan.id, orphan.started, "another"),
    }
    leave_behind(short, changes[field])

    with run_directory(short):
        pass

    assert lives(orphan.id)


async def test_record_that_was_half_written_harms_nothing(short: Path, orphan: Group) -> None:
    leave_behind(short, orphan)
    (short / "localfusion-dead" / "a.group").write_text('{"id": ')

    with run_directory(short) as run:
        assert os.listdir(short) == [run.name]


async def test_group_is_noted_in_the_run_directory_while_it_runs(
    process: ChildProcess, tmp_path: Path
) -> None:
    record = tmp_path / "a.group"
    noted = Group.read(record)
    assert (noted.id, noted.lives()) == (process.pid, True)

    await process.stop(patience=0)

    assert not record.exists()
    assert not noted.lives()
