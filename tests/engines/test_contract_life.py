"""How every engine starts, dies, sleeps and stops, asked of each kind alike."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from localfusion.errors import EngineError, EngineUnavailableError
from tests.engines.kinds import KINDS, PROMPT, MakeEngine, Script, collect, ignore, text_of


def sockets_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


async def test_stopped_engine_says_that_it_is_unavailable(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        was_ready = engine.is_ready

        await engine.stop()
        await engine.stop()

        assert (was_ready, engine.is_ready) == (True, False)
        with pytest.raises(EngineUnavailableError):
            await collect(engine, PROMPT)
        with pytest.raises(EngineUnavailableError):
            await engine.stats()


async def test_stop_in_mid_stream_is_an_error_of_the_engine(make_engine: MakeEngine) -> None:
    script = Script("word " * 1000, profile="cpu-135m")

    async with make_engine(script) as engine, aclosing(engine.generate(PROMPT)) as deltas:
        await anext(deltas)

        await engine.stop()

        with pytest.raises(EngineError):
            [delta async for delta in deltas]


async def test_stop_leaves_no_child_and_no_socket(make_engine: MakeEngine, run_dir: Path) -> None:
    before = set(psutil.Process().children(recursive=True))

    async with make_engine(Script()) as engine:
        await collect(engine, PROMPT)

    assert set(psutil.Process().children(recursive=True)) == before
    assert sockets_in(run_dir) == []


async def test_stopped_engine_starts_again(make_engine: MakeEngine) -> None:
    async with make_engine(Script("fine")) as engine:
        await engine.stop()
        await engine.start(ignore)

        assert engine.is_ready
        assert text_of(await collect(engine)) == "fine"


async def test_asked_stop_is_no_death(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine, asyncio.TaskGroup() as group:
        death = group.create_task(engine.died())
        await engine.stop()
        await engine.start(ignore)
        await collect(engine)

        assert not death.done()
        death.cancel()


@pytest.mark.parametrize("kind", ["sim", "vllm"])
async def test_death_is_told_with_its_reason_and_mended_by_a_start(
    kind: str, run_dir: Path
) -> None:
    async with KINDS[kind](Script("one two three", failure="die"), run_dir) as engine:
        with pytest.raises(EngineError):
            await collect(engine)

        async with asyncio.timeout(30):
            reason = await engine.died()
        was_ready = engine.is_ready
        await engine.stop()
        await engine.start(ignore)

        assert reason
        assert (was_ready, engine.is_ready) == (False, True)


async def test_process_is_named_while_it_runs(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        pid = engine.pid
        lines = engine.last_lines
        await engine.stop()

        assert engine.pid is None
    if pid is not None:  # it leads a process group of its own
        assert not psutil.pid_exists(pid)
        assert lines


@pytest.mark.parametrize("kind", ["sim", "vllm"])
async def test_sleeping_engine_comes_back(kind: str, run_dir: Path) -> None:
    async with KINDS[kind](Script("fine", can_sleep=True), run_dir) as engine:
        assert engine.can_sleep

        await engine.sleep()
        with pytest.raises(EngineError, match="sleep"):
            await collect(engine)
        await engine.wake()

        assert text_of(await collect(engine)) == "fine"


async def test_engine_without_the_means_cannot_sleep(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        assert not engine.can_sleep
        with pytest.raises(EngineError):
            await engine.sleep()
        with pytest.raises(EngineError):
            await engine.wake()

        assert text_of(await collect(engine))
