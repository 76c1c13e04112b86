"""The start of a pool, and its end: order, devices, failures; nothing is left behind."""

import asyncio

import pytest

from localfusion.engines.base import PhaseChange
from localfusion.errors import STARTING, EngineStartError, EngineUnavailableError, OverloadedError
from localfusion.pool import EnginePool
from tests.pool.engines import Journal, WatchedSim, clock, say, sims, started

pytestmark = pytest.mark.virtual_time


async def test_engines_of_one_device_start_one_after_the_other_in_the_given_order() -> None:
    journal: Journal = []
    devices = {"a": ["gpu0"], "b": ["gpu0"], "c": ["gpu1"]}

    async with EnginePool(sims("bac", journal), devices) as pool:
        await pool.start(lambda _: None)

        assert journal == [(0, "start b"), (0, "start c"), (10, "start a")]


async def test_engine_on_two_devices_starts_alone_on_both() -> None:
    journal: Journal = []
    devices = {"a": ["gpu1", "gpu0"], "b": ["gpu0"], "c": ["gpu1"]}

    async with EnginePool(sims("abc", journal), devices) as pool:
        await pool.start(lambda _: None)

        assert journal[:1] == [(0, "start a")]
        assert sorted(journal[1:]) == [(10, "start b"), (10, "start c")]


async def test_engines_without_a_device_start_together() -> None:
    async with EnginePool(sims("abc", []), {"a": [], "b": []}) as pool:
        await pool.start(lambda _: None)

        assert clock() == 10


async def test_every_phase_is_heard_and_shown() -> None:
    heard: list[PhaseChange] = []

    async with EnginePool(sims("a", []), {}) as pool:
        assert pool.phases()["a"].phase == "waiting"
        await pool.start(heard.append)

        assert [change.phase for change in heard][-2:] == ["loading", "ready"]
        assert pool.phases()["a"].phase == "ready"


async def test_calls_are_refused_until_the_engine_has_started() -> None:
    async with EnginePool(sims("a", []), {}) as pool, pool.lease(["a"]) as engines:
        with pytest.raises(EngineUnavailableError) as refused:
            await say(engines["a"])
        assert refused.value.code == STARTING
        assert refused.value.retry_after


async def test_start_fails_with_the_first_engine_that_fails() -> None:
    engines = {"a": WatchedSim("a", []), "b": WatchedSim("b", [], start=3)}
    engines["b"].fail_starts()

    async with EnginePool(engines, {}) as pool:
        with pytest.raises(EngineStartError, match="'b' did not start"):
            await pool.start(lambda _: None)

        assert clock() == 3


async def test_start_can_go_on_without_what_fails_and_its_supervisor_tries_again() -> None:
    engines = sims("ab", [])
    engines["b"].fail_starts()

    async with EnginePool(engines, {}) as pool:
        failures = await pool.start(lambda _: None, require_all=False)

        assert list(failures) == ["b"]
        async with pool.lease("ab") as leased:
            assert await say(leased["a"]) == "a"
            with pytest.raises(EngineUnavailableError):
                await say(leased["b"])
            await asyncio.sleep(30)
            assert await say(leased["b"]) == "b"


async def test_with_groups_every_engine_starts_once_and_the_first_group_is_resident() -> None:
    journal: Journal = []
    devices = {name: ["gpu0"] for name in "abj"}

    async with EnginePool(sims("abj", journal, swap=2), devices, groups=["ab", "j"]) as pool:
        await pool.start(lambda _: None)

        assert journal == [(0, "start j"), (10, "sleep j"), (12, "start a"), (22, "start b")]
        assert {n: s.phase for n, s in pool.statuses().items()} == {
            "a": "ready",
            "b": "ready",
            "j": "asleep",
        }


async def test_restart_after_a_death_waits_for_a_start_on_its_device() -> None:
    journal: Journal = []
    engines = {**sims("a", journal, start=2), **sims("b", journal, start=10)}

    async with (
        EnginePool(engines, {"a": ["gpu0"], "b": ["gpu0"]}) as pool,
        asyncio.TaskGroup() as group,
    ):
        starting = group.create_task(pool.start(lambda _: None))
        await asyncio.sleep(3)
        engines["a"].kill()
        await starting
        await asyncio.sleep(3)

        assert journal[-2:] == [(3, "kill a"), (12, "start a")]


async def test_leaving_stops_every_engine_and_leaves_no_task() -> None:
    journal: Journal = []
    before = asyncio.all_tasks()

    async with started(sims("ab", journal), keep_alive=60):
        pass

    assert sorted(what for _, what in journal) == ["stop a", "stop b"]
    assert asyncio.all_tasks() == before


async def test_what_ends_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with started(sims("a", [])):
            raise ZeroDivisionError


async def test_stopped_pool_refuses_runs() -> None:
    async with started(sims("a", [])) as pool:
        pass

    with pytest.raises(OverloadedError) as refused:
        async with pool.lease("a"):
            pass
    assert refused.value.code == "draining"


async def test_call_that_waits_when_the_pool_ends_is_told() -> None:
    async def ask(pool: EnginePool) -> str:
        async with pool.lease("j") as engines:
            return await say(engines["j"])

    async with asyncio.TaskGroup() as group:
        async with started(sims("aj", [], swap=100), groups=["a", "j"]) as pool:
            waiting = group.create_task(_refusal(ask(pool)))
            await asyncio.sleep(1)
            assert pool.queue
        assert "stopped" in await waiting


async def _refusal(asking: object) -> str:
    with pytest.raises(EngineUnavailableError) as refused:
        await asking  # type: ignore[misc]  # a coroutine
    return str(refused.value)
