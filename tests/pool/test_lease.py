"""What a run gets: admission, idle engines brought back, engines loaded and unloaded by hand."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from localfusion.engines.base import Engine
from localfusion.errors import (
    ASLEEP,
    EngineStartError,
    EngineUnavailableError,
    OverloadedError,
)
from localfusion.pool import EnginePool
from tests.pool.engines import PROMPT, Journal, WatchedSim, clock, say, sims, started

pytestmark = pytest.mark.virtual_time


async def ask(pool: EnginePool, name: str) -> str:
    async with pool.lease([name]) as engines:
        return await say(engines[name])


async def test_run_gets_the_engines_it_names() -> None:
    async with started(sims("abc", [])) as pool, pool.lease(["a", "c"]) as engines:
        assert set(engines) == {"a", "c"}
        assert await say(engines["c"]) == "c"
        assert await engines["a"].count_tokens(PROMPT.messages) > 0
        assert engines["a"].facts == pool["a"].facts


async def test_lease_beyond_the_limit_is_refused_with_a_time() -> None:
    async with started(sims("a", []), limits={"a": 2}) as pool, pool.lease("a"), pool.lease("a"):
        with pytest.raises(OverloadedError, match="a has 2 calls") as refused:
            async with pool.lease("a"):
                pass
        assert refused.value.retry_after
        assert refused.value.retry_after >= 1


async def test_lease_refused_by_one_engine_takes_nothing_of_the_others() -> None:
    async with started(sims("ab", []), limits={"a": 1, "b": 1}) as pool:
        async with pool.lease("b"):
            with pytest.raises(OverloadedError):
                async with pool.lease("ab"):
                    pass
        async with pool.lease("ab"):
            pass


async def test_lease_counts_as_many_calls_as_it_names() -> None:
    async with started(sims("a", []), limits={"a": 3}) as pool, pool.lease("aa"):
        with pytest.raises(OverloadedError):
            async with pool.lease("aa"):
                pass
        async with pool.lease("a"):
            pass


async def test_run_that_wants_more_than_the_limit_gets_the_engine_alone() -> None:
    async with started(sims("a", []), limits={"a": 2}) as pool:
        async with pool.lease("aaa") as engines:
            assert await say(engines["a"]) == "a"
        async with pool.lease("a"):
            with pytest.raises(OverloadedError):
                async with pool.lease("aaa"):
                    pass


async def test_idle_engine_is_unloaded_and_the_next_run_brings_it_back() -> None:
    journal: Journal = []

    async with started(sims("a", journal), keep_alive=60) as pool:
        await asyncio.sleep(61)
        assert pool.statuses()["a"].phase == "asleep"
        assert await ask(pool, "a") == "a"

        assert journal == [(70, "stop a"), (71, "start a")]
        assert clock() == 71 + 10 + 1


async def test_engine_in_use_is_not_unloaded() -> None:
    journal: Journal = []

    async with started(sims("a", journal), keep_alive=60) as pool:
        async with pool.lease("a"):
            await asyncio.sleep(1000)
        assert journal == []
        assert pool.unload_seconds() == {"a": 60}
        await asyncio.sleep(59)
        assert journal == []
        await asyncio.sleep(2)
        assert journal == [(1070, "stop a")]
        assert pool.unload_seconds() == {"a": None}


async def test_keep_alive_may_differ_by_engine() -> None:
    async with started(sims("ab", []), keep_alive={"a": 5, "b": None}) as pool:
        await asyncio.sleep(1000)

        assert {n: s.phase for n, s in pool.statuses().items()} == {"a": "asleep", "b": "ready"}


async def test_many_runs_share_one_start_and_one_that_leaves_does_not_stop_it() -> None:
    journal: Journal = []

    async with started(sims("a", journal), keep_alive=60) as pool:
        await asyncio.sleep(100)
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(ask(pool, "a"))
            staying = [group.create_task(ask(pool, "a")) for _ in range(5)]
            await asyncio.sleep(5)
            leaving.cancel()

        assert [task.result() for task in staying] == ["a"] * 5
        assert [what for _, what in journal] == ["stop a", "start a"]


async def test_all_engines_of_a_run_are_brought_back_at_once() -> None:
    async with started(sims("ab", []), keep_alive=60) as pool:
        await asyncio.sleep(90)

        async with pool.lease("ab") as engines:
            await say(engines["a"])
            await say(engines["b"])

        assert clock() == 100 + 10 + 1 + 1


async def test_engine_that_does_not_come_back_fails_the_call_and_is_tried_again() -> None:
    engines = sims("a", [])

    async with started(engines, keep_alive=60) as pool:
        await asyncio.sleep(100)
        engines["a"].fail_starts()
        with pytest.raises(EngineUnavailableError):
            await ask(pool, "a")
        await asyncio.sleep(20)
        assert await ask(pool, "a") == "a"


async def test_engine_that_is_away_is_not_brought_back_to_count_tokens_or_for_stats() -> None:
    journal: Journal = []

    async with started(sims("a", journal), keep_alive=60) as pool:
        await asyncio.sleep(100)
        async with pool.lease("a") as engines:
            for question in (engines["a"].count_tokens(PROMPT.messages), engines["a"].stats()):
                with pytest.raises(EngineUnavailableError) as unknown:
                    await question
                assert unknown.value.code == ASLEEP
            assert [what for _, what in journal] == ["stop a"]


async def test_stats_and_logprobs_reach_the_run() -> None:
    engines = sims("a", [], token=1.0, text="one two")

    async with started(engines) as pool, pool.lease("a") as leased:
        prompt = replace(PROMPT, logprobs=3, effort="none")
        async with aclosing(leased["a"].generate(prompt)) as deltas:
            first = await anext(deltas)
            stats = await leased["a"].stats()

        assert isinstance(leased["a"], Engine)
        assert [place.alternatives for place in first.logprobs] == [{"one": 0.0}]
        assert stats.running == 1
        assert engines["a"].sim.calls[-1] == prompt


async def test_engine_unloaded_by_hand_refuses_until_it_is_loaded() -> None:
    journal: Journal = []

    async with started(sims("ab", journal)) as pool:
        await pool.unload("a")
        assert journal == [(10, "stop a")]
        with pytest.raises(EngineUnavailableError, match="localfusion load a") as refused:
            await ask(pool, "a")
        assert refused.value.code == "engine_unloaded"
        async with pool.lease("a") as engines:
            with pytest.raises(EngineUnavailableError, match="localfusion load a"):
                await engines["a"].stats()
        assert await ask(pool, "b") == "b"
        assert pool.statuses()["a"].phase == "stopped"
        assert "localfusion load a" in pool.statuses()["a"].detail

        await pool.load("a")
        assert await ask(pool, "a") == "a"


async def test_unload_waits_for_the_runs_that_have_the_engine() -> None:
    journal: Journal = []

    async with started(sims("a", journal)) as pool, asyncio.TaskGroup() as group:
        async with pool.lease("a") as engines:
            unloading = group.create_task(pool.unload("a"))
            await asyncio.sleep(50)
            assert await say(engines["a"]) == "a"
            assert journal == []
        await unloading
        assert journal == [(61, "stop a")]


async def test_load_takes_an_unload_back_that_still_waits() -> None:
    journal: Journal = []

    async with started(sims("a", journal)) as pool, asyncio.TaskGroup() as group:
        async with pool.lease("a"):
            group.create_task(pool.unload("a"))
            await asyncio.sleep(1)
            await pool.load("a")
        assert await ask(pool, "a") == "a"
        assert journal == []


async def test_unload_that_was_taken_back_does_not_stop_the_engine_under_a_later_run() -> None:
    journal: Journal = []

    async with started(sims("a", journal), keep_alive=60) as pool, asyncio.TaskGroup() as group:
        await asyncio.sleep(100)
        async with pool.lease("a"):
            await asyncio.sleep(1)  # its start takes nine more seconds
        group.create_task(pool.unload("a"))
        await asyncio.sleep(1)
        group.create_task(pool.load("a"))
        await asyncio.sleep(1)
        async with pool.lease("a") as engines:
            group.create_task(pool.unload("a"))
            await asyncio.sleep(20)
            assert await say(engines["a"]) == "a"
            assert [what for _, what in journal] == ["stop a", "start a"]


async def test_load_tells_the_phases_and_what_fails() -> None:
    engines = sims("a", [])

    async with started(engines) as pool:
        await pool.unload("a")
        engines["a"].fail_starts()
        heard: list[str] = []
        with pytest.raises(EngineStartError, match="did not start"):
            await pool.load("a", lambda change: heard.append(change.phase))
        assert heard == ["waiting", "loading", "failed"]


async def test_load_starts_a_broken_engine_at_once() -> None:
    journal: Journal = []
    engines = sims("a", journal)

    async with started(engines) as pool:
        engines["a"].kill()
        await pool.load("a")

        assert clock() == 20
        assert await ask(pool, "a") == "a"


async def test_unload_goes_on_when_nobody_waits_for_it() -> None:
    journal: Journal = []

    async with started(sims("a", journal)) as pool, asyncio.TaskGroup() as group:
        async with pool.lease("a"):
            unloading = group.create_task(pool.unload("a"))
            await asyncio.sleep(1)
            unloading.cancel()
            await asyncio.wait([unloading])
        await asyncio.sleep(1)
        assert journal == [(11, "stop a")]


async def test_unknown_engine_is_refused() -> None:
    async with started(sims("a", [])) as pool:
        with pytest.raises(EngineUnavailableError, match="no engine z"):
            await ask(pool, "z")


async def test_closing_a_call_aborts_it_in_the_engine() -> None:
    engine = WatchedSim("a", [], call=1000)

    async with started({"a": engine}) as pool, asyncio.TaskGroup() as group:
        asking = group.create_task(ask(pool, "a"))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.wait([asking])
        assert engine.sim.aborts == 1


async def test_run_that_comes_while_an_idle_engine_stops_waits_for_its_next_start() -> None:
    class Slow(WatchedSim):
        async def stop(self) -> None:
            await super().stop()
            await asyncio.sleep(5)

    async with started({"a": Slow("a", [])}, keep_alive=60) as pool:
        await asyncio.sleep(61)
        assert await ask(pool, "a") == "a"
        assert clock() == 70 + 5 + 10 + 1


async def test_limit_that_changes_during_a_run_counts_it_as_it_was() -> None:
    async with started(sims("a", []), limits={"a": 2}) as pool:
        async with pool.lease("aa"):
            await pool.change({}, [], {}, limits={"a": 1})
        async with pool.lease("a"):
            with pytest.raises(OverloadedError):
                async with pool.lease("a"):
                    pass
