"""Faults of real child processes under supervision: killed, hung, out of memory, no disk."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from localfusion.engines.base import Phase
from localfusion.engines.group import processes
from localfusion.engines.supervisor import SupervisedEngine
from localfusion.engines.vllm import VLLMEngine
from localfusion.errors import EngineError, EngineStartError
from tests.engines.kinds import SERVER, Script, collect, ignore, text_of, vllm_engine
from tests.engines.test_keeper import gone
from tests.engines.watched import (
    SHORT,
    SOON,
    Turns,
    becomes,
    error_of,
    restarted,
    say,
    watched,
)


def family(engine: SupervisedEngine) -> list[psutil.Process]:
    """Return keeper, server and core, in this order."""
    assert engine.pid is not None
    found = list(processes(engine.pid))
    assert len(found) == 3
    return sorted(found, key=lambda process: (process.pid != engine.pid, process.create_time()))


@pytest.mark.parametrize("victim", [0, 1, 2], ids=["keeper", "server", "core"])
async def test_killed_process_takes_its_family_along_and_the_engine_comes_back(
    run_dir: Path, victim: int
) -> None:
    async with watched(vllm_engine(Script("fine", has_core=True), run_dir), SOON) as engine:
        old = family(engine)

        old[victim].kill()
        await restarted(engine)

        await gone(*(process.pid for process in old))
        assert text_of(await collect(engine)) == "fine"
        assert len(family(engine)) == 3


async def test_calls_that_run_when_the_core_is_killed_fail(run_dir: Path) -> None:
    script = Script("word " * 1000, profile="cpu-135m", has_core=True)
    async with watched(vllm_engine(script, run_dir), SOON) as engine:
        core = family(engine)[2]
        async with asyncio.TaskGroup() as group:
            call = group.create_task(error_of(say(engine)))
            while not (await engine.stats()).running:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.02)
            core.kill()

        assert isinstance(call.result(), EngineError)
        await restarted(engine)
        assert engine.status.in_flight == 0


@pytest.mark.parametrize("whole_group", [False, True])
async def test_stopped_engine_is_found_and_replaced(run_dir: Path, whole_group: bool) -> None:
    inner, turns = vllm_engine(Script("fine", has_core=True), run_dir), Turns()
    async with watched(inner, SHORT, turn=turns) as engine:
        keeper, server, _ = old = family(engine)

        if whole_group:
            os.killpg(keeper.pid, signal.SIGSTOP)
        else:
            server.send_signal(signal.SIGSTOP)
        await restarted(engine)

        assert "gave no token" in turns.causes[0]
        await gone(*(process.pid for process in old))
        assert text_of(await collect(engine)) == "fine"


async def test_engine_that_is_healthy_but_silent_is_replaced(run_dir: Path) -> None:
    silent = ["--failure", "stall", "--at-token", "0", "--after-calls", "1"]
    inner, turns = vllm_engine(Script(), run_dir, server=[*SERVER, *silent]), Turns()
    async with watched(inner, SHORT, turn=turns) as engine:
        await restarted(engine)

        assert "gave no token" in turns.causes[0]


async def test_start_without_memory_says_so_and_is_tried_again(run_dir: Path) -> None:
    inner = vllm_engine(Script(start_failure="out_of_memory"), run_dir)
    async with watched(inner, SOON) as engine:
        await becomes(engine, "broken")

        assert "out of memory: ask for fewer" in engine.status.detail
        assert "CUDA out of memory. Tried to allocate" in engine.status.log[-1]
        assert engine.status.restarts == SOON.failures - 1


async def test_corrupt_weights_are_not_tried_again(run_dir: Path) -> None:
    inner = vllm_engine(Script(start_failure="corrupt_weights"), run_dir)
    async with watched(inner, SOON) as engine:
        assert engine.status.phase == "broken"
        assert "weights are corrupt" in engine.status.detail
        assert "SafetensorError" in engine.status.log[-1]


def limited(byte_count: int) -> list[str]:
    """Return a command line whose server cannot make a file larger than that: a full disk."""
    code = (
        "import os, resource, sys; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({byte_count}, {byte_count})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *SERVER]


async def test_full_disk_harms_neither_engine_nor_gateway(run_dir: Path) -> None:
    inner = vllm_engine(Script("fine"), run_dir, server=limited(40), logs=run_dir / "logs")
    async with watched(inner, SOON) as engine:
        assert text_of(await collect(engine)) == "fine"
        assert os.stat(run_dir / "logs" / "model-a.log").st_size == 40
        assert engine.status.phase == "ready"


async def test_engine_runs_without_a_log_where_none_can_be_made(run_dir: Path) -> None:
    (run_dir / "logs").write_text("not a folder")
    inner = vllm_engine(Script("fine"), run_dir, logs=run_dir / "logs")
    async with watched(inner, SOON) as engine:
        assert text_of(await collect(engine)) == "fine"
        assert engine.last_lines == []


async def test_start_that_makes_no_progress_is_given_up(run_dir: Path) -> None:
    endless = [*SERVER, "--start-seconds", "1000"]
    limits: dict[Phase, float] = {"launching": 30, "loading": 0.2}
    inner = vllm_engine(Script(), run_dir, server=endless, phase_seconds=limits)

    with pytest.raises(EngineStartError, match=r"no progress in 0\.2 s of loading"):
        await inner.start(ignore)

    assert inner.pid is None


async def test_idle_engine_is_gone_soon(run_dir: Path) -> None:
    inner: VLLMEngine = vllm_engine(Script(has_core=True), run_dir)
    await inner.start(ignore)
    assert inner.pid is not None
    old = [process.pid for process in processes(inner.pid)]

    async with asyncio.timeout(5):
        await inner.stop()

    await gone(*old)
