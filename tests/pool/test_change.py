"""Engines replaced, added and removed while runs go on."""

import asyncio

import pytest

from localfusion.errors import STARTING, EngineStartError, EngineUnavailableError
from localfusion.pool import EnginePool
from tests.pool.engines import Journal, WatchedSim, clock, say, sims, started

pytestmark = pytest.mark.virtual_time

GPU = {"a": ["gpu0"], "b": ["gpu1"]}


async def ask(pool: EnginePool, name: str) -> str:
    async with pool.lease([name]) as engines:
        return await say(engines[name])


def replacement(name: str, journal: Journal, **options: object) -> dict[str, WatchedSim]:
    """An engine for a name that exists, told apart by what it says."""
    return sims(name, journal, text=f"new {name}", **options)


async def test_run_keeps_the_engine_it_began_with() -> None:
    journal: Journal = []

    async with started(sims("ab", journal), GPU) as pool, asyncio.TaskGroup() as group:
        async with pool.lease("a") as engines:
            changing = group.create_task(pool.change(replacement("a", journal), [], GPU))
            await asyncio.sleep(50)
            assert await say(engines["a"]) == "a"
            assert journal == []
        await changing

        assert journal == [(61, "stop a"), (61, "start a")]
        assert await ask(pool, "a") == "new a"


async def test_calls_to_the_new_engine_are_refused_until_it_has_started() -> None:
    async with started(sims("ab", []), GPU) as pool, asyncio.TaskGroup() as group:
        changing = group.create_task(pool.change(replacement("a", []), [], GPU))
        await asyncio.sleep(1)

        with pytest.raises(EngineUnavailableError) as refused:
            await ask(pool, "a")
        assert refused.value.code == STARTING
        assert refused.value.retry_after
        assert await ask(pool, "b") == "b"
        await changing
        assert await ask(pool, "a") == "new a"


async def test_what_does_not_change_is_not_touched() -> None:
    journal: Journal = []

    async with started(sims("ab", journal), GPU) as pool:
        await pool.change(replacement("a", journal), [], GPU)

        assert [what for _, what in journal] == ["stop a", "start a"]
        assert list(pool) == ["b", "a"]


async def test_engine_elsewhere_starts_without_waiting_for_the_old_one() -> None:
    journal: Journal = []

    async with (
        started(sims("a", journal), {}) as pool,
        asyncio.TaskGroup() as group,
        pool.lease("a") as engines,
    ):
        group.create_task(pool.change(replacement("a", journal), [], {}))
        await asyncio.sleep(11)
        assert await ask(pool, "a") == "new a"
        assert await say(engines["a"]) == "a"
        assert [what for _, what in journal] == ["start a"]


async def test_engine_on_a_device_that_is_free_starts_without_waiting() -> None:
    journal: Journal = []
    after = {"b": ["gpu1"], "c": ["gpu2"]}

    async with (
        started(sims("ab", journal), GPU) as pool,
        asyncio.TaskGroup() as group,
        pool.lease("a"),
    ):
        group.create_task(pool.change(sims("c", journal), ["a"], after))
        await asyncio.sleep(11)
        assert await ask(pool, "c") == "c"


async def test_on_a_cpu_the_new_engine_waits_for_the_memory_of_the_old_one() -> None:
    journal: Journal = []

    async with started(sims("a", journal), {"a": []}) as pool, asyncio.TaskGroup() as group:
        async with pool.lease("a"):
            changing = group.create_task(pool.change(sims("b", journal), ["a"], {"b": []}))
            await asyncio.sleep(20)
            assert journal == []
        await changing
        assert journal == [(30, "stop a"), (30, "start b")]


async def test_removed_engine_is_gone_for_new_runs() -> None:
    async with started(sims("ab", []), GPU) as pool:
        await pool.change({}, ["a"], GPU)

        assert list(pool) == ["b"]
        with pytest.raises(EngineUnavailableError):
            await ask(pool, "a")


async def test_failed_start_is_told_and_tried_again_and_the_others_stay() -> None:
    journal: Journal = []

    async with started(sims("ab", journal), GPU) as pool:
        new = replacement("a", journal)
        new["a"].fail_starts()
        with pytest.raises(EngineStartError, match="a: engine 'a' did not start"):
            await pool.change(new, [], GPU)

        assert await ask(pool, "b") == "b"
        with pytest.raises(EngineUnavailableError):
            await ask(pool, "a")
        await asyncio.sleep(30)
        assert await ask(pool, "a") == "new a"


async def test_change_during_the_start_waits_for_it() -> None:
    journal: Journal = []

    async with EnginePool(sims("ab", journal), GPU) as pool, asyncio.TaskGroup() as group:
        group.create_task(pool.start(lambda _: None))
        await asyncio.sleep(1)
        await pool.change(replacement("a", journal), [], GPU)

        assert journal[2:] == [(10, "stop a"), (10, "start a")]
        assert await ask(pool, "a") == "new a"


async def test_two_changes_at_once_happen_one_after_the_other() -> None:
    journal: Journal = []

    async with started(sims("ab", journal), GPU) as pool:
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.change(replacement("a", journal), [], GPU))
            group.create_task(pool.change({}, ["a"], {"b": ["gpu1"]}))

        assert journal == [(10, "stop a"), (10, "start a"), (20, "stop a")]
        assert list(pool) == ["b"]


async def test_change_goes_on_when_nobody_waits_for_it() -> None:
    async with started(sims("ab", []), GPU) as pool, asyncio.TaskGroup() as group:
        changing = group.create_task(pool.change(replacement("a", []), [], GPU))
        await asyncio.sleep(1)
        changing.cancel()
        await asyncio.sleep(10)

        assert await ask(pool, "a") == "new a"


async def test_leaving_during_a_change_stops_old_and_new() -> None:
    journal: Journal = []
    before = asyncio.all_tasks()

    async with started(sims("a", journal), {"a": ["gpu0"]}) as pool:
        lease = pool.lease("a")
        await lease.__aenter__()
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.change(replacement("a", journal), [], {"a": ["gpu0"]})).cancel()
        async with asyncio.timeout(5):
            await asyncio.sleep(1)

    await lease.__aexit__(None, None, None)
    assert {what for _, what in journal} <= {"stop a"}
    assert asyncio.all_tasks() == before


async def test_limits_and_keep_alive_change_without_a_restart() -> None:
    journal: Journal = []

    async with started(sims("a", journal), GPU, keep_alive=10_000) as pool:
        await pool.change({}, [], GPU, keep_alive=60)
        assert journal == []
        await asyncio.sleep(61)
        assert journal == [(70, "stop a")]


async def test_engine_of_a_waiting_group_is_replaced_without_a_swap() -> None:
    journal: Journal = []
    devices = {"a": ["gpu0"], "j": ["gpu0"]}
    groups = ["a", "j"]

    async with started(sims("aj", journal, swap=2), devices, groups=groups) as pool:
        new = replacement("j", journal, swap=2)
        await pool.change(new, [], devices, groups=groups)

        assert [what for _, what in journal] == ["stop j"]
        assert await ask(pool, "j") == "new j"
        assert [what for _, what in journal] == ["stop j", "sleep a", "start j"]


async def test_old_engine_has_its_turns_until_its_runs_are_over() -> None:
    journal: Journal = []
    devices = {"a": ["gpu0"], "j": ["gpu0"]}
    groups = ["a", "j"]

    async with (
        started(sims("aj", journal, swap=2), devices, groups=groups) as pool,
        asyncio.TaskGroup() as group,
    ):
        async with pool.lease("aj") as engines:
            new = replacement("j", journal, swap=2)
            changing = group.create_task(pool.change(new, [], devices, groups=groups))
            await asyncio.sleep(1)
            assert await say(engines["a"]) == "a"
            assert await say(engines["j"]) == "j"
            with pytest.raises(EngineUnavailableError):
                await ask(pool, "j")
        await changing
        assert await ask(pool, "j") == "new j"


async def test_engines_may_become_groups_and_one_again() -> None:
    journal: Journal = []
    devices = {"a": ["gpu0"], "j": ["gpu0"]}

    async with started(sims("aj", journal, swap=2), devices) as pool:
        await pool.change({}, [], devices, groups=["a", "j"])
        assert [what for _, what in journal] == ["sleep j"]
        assert await ask(pool, "j") == "j"
        await pool.change({}, [], devices)

        assert {s.phase for s in pool.statuses().values()} == {"ready"}
        assert await ask(pool, "a") == "a"


async def test_answer_goes_on_when_its_engine_is_put_into_another_group() -> None:
    journal: Journal = []
    engines = {**sims("a", journal, swap=2), **sims("j", journal, swap=2, call=100)}
    devices = {"a": ["gpu0"], "j": ["gpu0"]}

    async with started(engines, devices) as pool, asyncio.TaskGroup() as group:
        answer = group.create_task(ask(pool, "j"))
        await asyncio.sleep(1)
        began = clock()
        await pool.change({}, [], devices, groups=["a", "j"])

        assert await answer == "j"
        assert clock() == began + 99 + 2
        assert [what for _, what in journal] == ["sleep j"]


async def test_change_before_the_start_is_part_of_it() -> None:
    async with EnginePool(sims("ab", []), GPU) as pool:
        await pool.change(replacement("a", []), [], GPU)
        await pool.start(lambda _: None)

        assert await ask(pool, "a") == "new a"
        assert await ask(pool, "b") == "b"


async def test_replaced_engine_that_was_unloaded_by_hand_is_loaded() -> None:
    async with started(sims("ab", []), GPU) as pool:
        await pool.unload("a")
        await pool.change(replacement("a", []), [], GPU)

        assert await ask(pool, "a") == "new a"
