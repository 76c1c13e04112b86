"""Groups that take turns on the hardware: sleep and wake, stop and start, who waits for what."""

import asyncio

import pytest

from localfusion.errors import ASLEEP, EngineUnavailableError
from localfusion.pool import EnginePool
from tests.pool.engines import PROMPT, Journal, clock, say, sims, started

pytestmark = pytest.mark.virtual_time

GROUPS = ["ab", "j"]
DEVICES = {name: ["gpu0"] for name in "abj"}


async def fuse(pool: EnginePool, *, after: float = 0.0) -> float:
    """Ask the panel, then the judge twice; return when the answer was there."""
    await asyncio.sleep(after)
    async with pool.lease("abj") as engines:
        async with asyncio.TaskGroup() as panel:
            for name in "ab":
                panel.create_task(say(engines[name]))
        await say(engines["j"])
        await say(engines["j"])
    return clock()


async def ask(pool: EnginePool, name: str) -> str:
    async with pool.lease([name]) as engines:
        return await say(engines[name])


async def test_panel_sleeps_while_the_judge_works() -> None:
    journal: Journal = []

    async with started(sims("abj", journal, swap=2), DEVICES, groups=GROUPS) as pool:
        began = clock()
        ended = await fuse(pool)

        swap = [(began + 1, "sleep a"), (began + 3, "sleep b"), (began + 5, "wake j")]
        assert journal == swap
        assert ended == began + 1 + 6 + 2


async def test_engines_that_cannot_sleep_are_stopped_and_started() -> None:
    journal: Journal = []

    async with started(sims("abj", journal), DEVICES, groups=GROUPS) as pool:
        began = clock()
        await fuse(pool)

        assert sorted(journal) == [
            (began + 1, "start j"),
            (began + 1, "stop a"),
            (began + 1, "stop b"),
        ]


async def test_run_that_is_over_gives_its_turn_up_at_once() -> None:
    journal: Journal = []

    async with started(sims("aj", journal, swap=2), groups=["a", "j"]) as pool:
        began = clock()
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(pool, "a"))
            group.create_task(ask(pool, "j"))

        assert journal == [(began + 1, "sleep a"), (began + 3, "wake j")]


async def test_runs_share_the_swaps() -> None:
    journal: Journal = []

    async with started(sims("abj", journal, swap=2), DEVICES, groups=GROUPS) as pool:
        async with asyncio.TaskGroup() as group:
            for place in range(20):
                group.create_task(fuse(pool, after=place / 40))

        assert [what for _, what in journal] == ["sleep a", "sleep b", "wake j"]


async def test_every_run_ends_soon_under_steady_load() -> None:
    async with started(sims("abj", [], swap=2), DEVICES, groups=GROUPS) as pool:
        began = clock()
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(fuse(pool, after=place * 0.7)) for place in range(100)]

        seconds = [run.result() - began - place * 0.7 for place, run in enumerate(runs)]
        # Three swaps of 6 s, two turns of others and its own calls; the load never lets up.
        assert max(seconds) < 3 * 6 + 6 + 3


async def test_waiting_runs_are_shown_in_order() -> None:
    async with started(sims("abj", [], swap=2), DEVICES, groups=GROUPS) as pool:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(pool, "j"))
            await asyncio.sleep(0.5)
            group.create_task(ask(pool, "a"))
            await asyncio.sleep(1)

            assert [(w.models, w.position, w.seconds) for w in pool.queue] == [
                (("j",), 1, 1.5),
                (("a",), 2, 1.0),
            ]
        assert pool.queue == ()


async def test_run_that_leaves_is_out_of_the_queue_at_once() -> None:
    journal: Journal = []
    engines = sims("aj", journal, swap=2, call=100)

    async with started(engines, groups=["a", "j"]) as pool, asyncio.TaskGroup() as group:
        going = group.create_task(ask(pool, "a"))
        await asyncio.sleep(1)
        leaving = group.create_task(ask(pool, "j"))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert pool.queue == ()
        await going
        assert await ask(pool, "a") == "a"
        assert journal == []


async def test_long_answer_is_not_interrupted_by_a_waiting_run() -> None:
    journal: Journal = []
    engines = {**sims("a", journal, swap=2, call=500), **sims("j", journal, swap=2)}

    async with started(engines, groups=["a", "j"]) as pool, asyncio.TaskGroup() as group:
        began = clock()
        long = group.create_task(ask(pool, "a"))
        await asyncio.sleep(1)
        group.create_task(ask(pool, "j"))

        assert await long == "a"
        assert clock() == began + 500
        assert all(at == began + 500 for at, _ in journal)


async def test_tokens_of_a_sleeping_engine_are_counted_later() -> None:
    async with started(sims("aj", [], swap=2), groups=["a", "j"]) as pool, pool.lease("aj") as e:
        assert await e["a"].count_tokens(PROMPT.messages) > 0
        with pytest.raises(EngineUnavailableError) as unknown:
            await e["j"].count_tokens(PROMPT.messages)
        assert unknown.value.code == ASLEEP


async def test_engine_that_does_not_wake_is_started_anew() -> None:
    journal: Journal = []
    engines = sims("aj", journal, swap=2)

    async with started(engines, groups=["a", "j"]) as pool:
        engines["j"].fail("wake")
        assert await ask(pool, "j") == "j"
        assert [what for _, what in journal] == ["sleep a", "wake j", "stop j", "start j"]


async def test_engine_that_does_not_sleep_is_stopped() -> None:
    journal: Journal = []
    engines = sims("aj", journal, swap=2)

    async with started(engines, groups=["a", "j"]) as pool:
        engines["a"].fail("sleep")
        assert await ask(pool, "j") == "j"
        assert await ask(pool, "a") == "a"
        assert [what for _, what in journal] == [
            *["sleep a", "stop a", "wake j"],
            *["sleep j", "start a"],
        ]


async def test_failed_swap_fails_those_who_wait_for_it_and_nobody_else() -> None:
    engines = sims("abj", [])

    async with started(engines, DEVICES, groups=GROUPS) as pool:
        engines["j"].fail_starts()
        with pytest.raises(EngineUnavailableError):
            await ask(pool, "j")

        assert await ask(pool, "a") == "a"
        assert await ask(pool, "j") == "j"


async def test_sleeping_engine_that_dies_is_not_restarted_before_its_turn() -> None:
    journal: Journal = []
    engines = sims("aj", journal, swap=2)

    async with started(engines, groups=["a", "j"]) as pool:
        engines["j"].fail("wake")
        engines["j"].kill()
        await asyncio.sleep(60)
        assert [what for _, what in journal] == ["kill j"]
        assert await ask(pool, "j") == "j"


async def test_dead_engine_of_the_resident_group_is_stopped_for_the_other() -> None:
    journal: Journal = []
    engines = {**sims("a", journal, swap=2, start=50), **sims("j", journal, swap=2)}

    async with started(engines, groups=["a", "j"]) as pool:
        engines["a"].kill()
        await asyncio.sleep(10)  # it is being started again

        assert await ask(pool, "j") == "j"
        assert [what for _, what in journal] == ["kill a", "start a", "stop a", "wake j"]
        assert await ask(pool, "a") == "a"


async def test_idle_engine_of_the_waiting_group_comes_back_in_its_turn() -> None:
    journal: Journal = []

    async with started(sims("aj", journal, swap=2), groups=["a", "j"], keep_alive=60) as pool:
        await asyncio.sleep(100)
        journal.clear()
        assert await ask(pool, "j") == "j"
        assert [what for _, what in journal] == ["wake j"]
        assert await ask(pool, "a") == "a"
        assert [what for _, what in journal] == ["wake j", "sleep j", "start a"]


async def test_engine_loaded_by_hand_gets_its_groups_turn() -> None:
    journal: Journal = []

    async with started(sims("aj", journal, swap=2), groups=["a", "j"]) as pool:
        await pool.unload("j")
        await pool.load("j")

        assert pool.statuses()["j"].phase == "ready"
        assert pool.statuses()["a"].phase == "asleep"


async def test_engine_in_both_groups_stays() -> None:
    journal: Journal = []

    async with started(sims("abj", journal, swap=2), groups=["ab", "bj"]) as pool:
        async with pool.lease("abj") as engines:
            await say(engines["a"])
            await say(engines["b"])
            await say(engines["j"])

        assert [what for _, what in journal] == ["sleep a", "wake j"]
