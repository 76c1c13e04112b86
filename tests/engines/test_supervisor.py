"""The supervisor over simulated engines, in virtual time: watch, restart, breaker, drain."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from localfusion.engines.base import EngineStats, PhaseChange, WatchedEngine
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.engines.supervisor import REMOTE, SupervisedEngine, Supervision
from localfusion.errors import (
    STARTING,
    EngineError,
    EngineStartError,
)
from tests.engines.asking import ask
from tests.engines.kinds import NAME, collect, ignore
from tests.engines.watched import (
    RULES,
    START,
    Turns,
    becomes,
    clock,
    error_of,
    failure_of,
    say,
    sim,
    watched,
)

pytestmark = pytest.mark.virtual_time

SLOW = SimProfile(inter_token=1.0)


async def test_engine_answers_once_it_has_started() -> None:
    changes: list[PhaseChange] = []
    engine = SupervisedEngine(sim(), NAME)
    assert isinstance(engine, WatchedEngine)
    assert engine.status.phase == "waiting"

    await engine.start(changes.append)

    assert [change.phase for change in changes] == ["loading", "ready"]
    assert (engine.status.phase, engine.is_ready) == ("ready", True)
    assert await say(engine) == "one two three"
    assert await engine.count_tokens(ask("Hello").messages) > 0
    await engine.stop()


async def test_killed_engine_is_started_again() -> None:
    inner, turns = sim(), Turns()
    async with watched(inner, RULES, turn=turns) as engine:
        inner.kill()
        await becomes(engine, "restarting")
        status = engine.status
        await becomes(engine, "ready")

        assert "was killed" in status.detail
        assert 0.5 <= turns.taken[0] - START <= 1.1
        assert clock() - turns.taken[0] == pytest.approx(START, abs=0.1)
        assert engine.status.restarts == 1
        assert await say(engine) == "one two three"


async def test_calls_that_run_when_it_dies_fail_and_later_ones_say_when_to_come_back() -> None:
    inner = sim(profile=SimProfile(inter_token=1.0, start_seconds=START))
    async with watched(inner, RULES) as engine:
        async with aclosing(engine.generate(ask("Hello"))) as deltas:
            await anext(deltas)
            inner.kill()
            with pytest.raises(EngineError):
                await anext(deltas)

        at_once = await failure_of(engine)
        await becomes(engine, "restarting")
        soon = await failure_of(engine)
        await becomes(engine, "loading")
        loading = await failure_of(engine)

        assert {at_once.code, soon.code, loading.code} == {STARTING}
        assert START < (soon.retry_after or 0) < START + 1
        assert (loading.retry_after or 0) == pytest.approx(START, abs=0.1)
        assert engine.status.in_flight == 0


async def test_hung_engine_is_found_while_idle_and_started_again() -> None:
    inner = sim()
    async with watched(inner, RULES) as engine:
        inner.hang()
        await becomes(engine, "restarting")

        expected = START + RULES.idle_seconds + RULES.misses * RULES.busy_seconds
        assert clock() == pytest.approx(expected, abs=0.1)
        assert "gave no token in 3 tries of 10 s" in engine.status.detail
        await becomes(engine, "ready")


async def test_hung_engine_is_found_sooner_while_calls_run_and_fails_them() -> None:
    inner = sim("word " * 20, SLOW)
    async with watched(inner, RULES) as engine, asyncio.TaskGroup() as group:
        call = group.create_task(error_of(say(engine)))
        await asyncio.sleep(3.5)
        inner.hang()

        error = await call

        assert isinstance(error, EngineError)
        expected = 3 + RULES.busy_seconds + RULES.misses * RULES.busy_seconds
        assert clock() == pytest.approx(expected, abs=0.1)


async def test_healthy_engine_is_asked_at_lowest_priority_only_when_silent() -> None:
    inner = sim()
    async with watched(inner, RULES) as engine:
        await asyncio.sleep(20)
        await say(engine)
        await asyncio.sleep(29)
        asked_early = len(inner.calls)
        await asyncio.sleep(31)

        assert asked_early == 1
        assert len(inner.calls) == 2
        assert (inner.calls[1].priority, inner.calls[1].sampling.max_tokens) == (20, 1)
        assert engine.status.phase == "ready"


async def test_question_of_ours_is_no_call() -> None:
    inner = SimEngine(name=NAME, delay=5)
    async with watched(inner, RULES) as engine:
        await asyncio.sleep(32)

        assert (await inner.stats()).running == 1
        assert engine.status.in_flight == 0


async def test_long_prompt_read_in_steps_is_life() -> None:
    # Its steps of 100 tokens take 20 s; each fills the cache, and none gives a token.
    profile = SimProfile(prefill_per_token=0.2, max_num_batched_tokens=100, max_num_seqs=1)
    inner = _Reading(name=NAME, profile=profile)
    async with watched(inner, RULES) as engine:
        assert await collect(engine, ask("word " * 600))

        assert clock() > 100
        assert engine.status.restarts == 0


class _Reading(SimEngine):
    """Its cache fills while it reads a prompt, as vLLM's does; SimEngine's is full at once."""

    async def stats(self) -> EngineStats:
        stats = await super().stats()
        return replace(stats, kv_cache_usage=min(1.0, clock() / 1000))


async def test_slow_engine_gets_more_time() -> None:
    inner = SimEngine("x", name=NAME, delay=8)
    async with watched(inner, RULES) as engine:
        await say(engine)  # the usual wait is 8 s now, so 40 s are not too long
        inner.hang()
        await becomes(engine, "restarting")

        assert clock() == pytest.approx(8 + RULES.idle_seconds + 3 * 5 * 8, abs=0.1)


async def test_full_queue_is_life_while_nobody_of_ours_asks() -> None:
    inner = SimEngine(name=NAME, failure=SimFailure("overloaded"))
    async with watched(inner, RULES) as engine:
        await asyncio.sleep(1000)

        assert engine.status.restarts == 0


async def test_server_that_is_gone_is_seen_by_the_heartbeat_and_found_again() -> None:
    is_down = True
    inner = SimEngine(name=NAME, failure=lambda _: SimFailure("refuse") if is_down else None)
    async with watched(inner, REMOTE) as engine:
        await becomes(engine, "restarting")
        detail = engine.status.detail
        is_down = False
        await becomes(engine, "ready")
        await asyncio.sleep(200)

        assert "refuses connections" in detail
        assert engine.status.phase == "ready"


async def test_wait_doubles_and_the_fifth_failure_opens_the_circuit() -> None:
    inner, turns = sim(profile=SimProfile()), Turns()
    async with watched(inner, RULES, turn=turns) as engine:
        deaths = []
        for _ in range(5):
            await becomes(engine, "ready")
            deaths.append(clock())
            inner.kill()
            await asyncio.sleep(0.011)

        assert engine.status.phase == "broken"
        waits = [taken - death for taken, death in zip(turns.taken, deaths, strict=False)]
        for wait, most in zip(waits, (1, 2, 4, 8), strict=True):
            assert most / 2 <= wait <= most
        error = await failure_of(engine)
        assert error.code != STARTING
        assert "was killed" in str(error)
        assert engine.status.log == (f"{NAME} was killed",)


async def test_broken_engine_is_tried_every_ten_minutes_and_stays_broken_if_that_fails() -> None:
    inner, turns = sim(profile=SimProfile()), Turns()
    inner.fail_starts(6, "out_of_memory")
    async with watched(inner, RULES, turn=turns) as engine:
        await becomes(engine, "broken")
        broken_at = clock()
        await asyncio.sleep(RULES.retry_every + 1)
        phase, detail = engine.status.phase, engine.status.detail
        await becomes(engine, "ready")

        assert (phase, "out of memory" in detail) == ("broken", True)
        tries = turns.taken[-2:]
        assert tries == pytest.approx([broken_at + 600, broken_at + 1200], abs=0.1)


async def test_failures_long_ago_do_not_count() -> None:
    inner = sim(profile=SimProfile())
    async with watched(inner, RULES) as engine:
        for _ in range(12):
            inner.kill()
            await becomes(engine, "restarting")
            await becomes(engine, "ready")
            await asyncio.sleep(200)

        assert engine.status.phase == "ready"
        assert engine.status.restarts == 12


async def test_start_that_cannot_succeed_opens_the_circuit_at_once() -> None:
    inner = sim()
    inner.fail_starts(1, "corrupt_weights")
    engine = SupervisedEngine(inner, NAME)

    with pytest.raises(EngineStartError, match="SafetensorError"):
        await engine.start(ignore)

    assert engine.status.phase == "broken"
    await engine.stop()


async def test_first_start_that_fails_is_repeated() -> None:
    inner = sim()
    inner.fail_starts(1, "out_of_memory")
    async with watched(inner, RULES) as engine:
        failed = engine.status
        await becomes(engine, "ready")

        assert failed.phase == "restarting"
        assert "out of memory" in failed.detail


async def test_broken_engine_is_revived_by_hand() -> None:
    inner = sim()
    inner.fail_starts(1, "corrupt_weights")
    async with watched(inner, RULES) as engine:
        assert engine.status.phase == "broken"
        began = clock()
        engine.revive()
        await becomes(engine, "ready")

        assert clock() - began == pytest.approx(START, abs=0.1)


async def test_restart_waits_for_its_turn() -> None:
    inner, turns = sim(), Turns()
    async with watched(inner, RULES, turn=turns) as engine:
        async with turns():
            inner.kill()
            await asyncio.sleep(100)
            waiting = engine.status.phase
        await becomes(engine, "ready")

        assert waiting == "restarting"


async def test_engine_stopped_while_it_waits_for_its_turn_stays_stopped() -> None:
    inner, turns = sim(), Turns()
    async with watched(inner, RULES, turn=turns) as engine:
        async with turns():
            inner.kill()
            await asyncio.sleep(10)
            await engine.stop()
        await asyncio.sleep(100)

        assert engine.status.phase == "stopped"
        assert not inner.is_ready


async def test_engine_stopped_while_it_starts_stays_stopped() -> None:
    inner = sim()
    async with watched(inner, RULES) as engine:
        inner.kill()
        await becomes(engine, "loading")
        await engine.stop()
        await asyncio.sleep(100)

        assert engine.status.phase == "stopped"
        assert not inner.is_ready


async def test_stop_lets_running_calls_end_and_admits_none() -> None:
    inner = sim("word " * 20, SLOW)
    async with watched(inner, RULES) as engine, asyncio.TaskGroup() as group:
        call = group.create_task(say(engine))
        await asyncio.sleep(1)
        stop = group.create_task(engine.stop())
        await asyncio.sleep(1)
        error = await failure_of(engine)
        await stop

        assert call.result() == "word " * 20
        assert error.code != STARTING
        assert clock() == pytest.approx(20, abs=0.1)
        assert not inner.is_ready


async def test_stop_does_not_wait_for_ever() -> None:
    inner = sim("word " * 100, SLOW)
    async with watched(inner, RULES) as engine, asyncio.TaskGroup() as group:
        call = group.create_task(error_of(say(engine)))
        await asyncio.sleep(1)
        await engine.stop()

        assert clock() == 1 + RULES.drain
        assert isinstance(await call, EngineError)


async def test_idle_engine_stops_at_once() -> None:
    async with watched(sim(), RULES) as engine:
        began = clock()

        await engine.stop()

        assert clock() == began


@pytest.mark.parametrize("end", ["kill", "hang"])
async def test_two_hundred_faults_leave_it_serving(end: str) -> None:
    inner = sim(profile=SimProfile())
    rules = Supervision(failures=1000)
    fault: Callable[[], None] = inner.kill if end == "kill" else inner.hang
    async with watched(inner, rules) as engine:
        for _ in range(200):
            fault()
            await becomes(engine, "restarting", step=0.4)
            await becomes(engine, "ready", step=0.4)

        assert await say(engine) == "one two three"
        assert engine.status.restarts == 200
