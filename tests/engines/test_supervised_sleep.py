"""Sleep under supervision, in virtual time: it waits for calls, refuses them, and wakes."""

import asyncio

import pytest

from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.errors import ASLEEP, EngineError, EngineUnavailableError
from tests.engines.kinds import NAME, ignore
from tests.engines.watched import RULES, START, Turns, clock, failure_of, say, sim, watched

pytestmark = pytest.mark.virtual_time

SLEEPER = SimProfile(start_seconds=START, sleep_seconds=2.0, wake_seconds=1.0)


async def test_sleeping_engine_refuses_and_is_not_asked_and_wakes() -> None:
    inner = sim(profile=SLEEPER)
    async with watched(inner, RULES) as engine:
        assert engine.can_sleep
        await engine.sleep()
        error = await failure_of(engine)
        await asyncio.sleep(1000)
        phase, asked = engine.status.phase, len(inner.calls)
        await engine.wake()

        assert (error.code, phase, asked) == (ASLEEP, "asleep", 0)
        assert engine.status.phase == "ready"
        assert await say(engine) == "one two three"
        assert engine.status.restarts == 0


async def test_sleep_waits_for_running_calls() -> None:
    inner = sim("word " * 10, SimProfile(inter_token=1.0, sleep_seconds=2.0))
    async with watched(inner, RULES) as engine, asyncio.TaskGroup() as group:
        call = group.create_task(say(engine))
        await asyncio.sleep(1)
        await engine.sleep()

        assert call.result() == "word " * 10
        assert clock() == pytest.approx(12, abs=0.1)
        await engine.wake()


async def test_sleep_waits_for_our_own_question() -> None:
    inner = SimEngine(name=NAME, delay=5, profile=SimProfile(sleep_seconds=0.0))
    async with watched(inner, RULES) as engine:
        await asyncio.sleep(RULES.idle_seconds + 1)
        assert (await inner.stats()).running == 1

        await engine.sleep()

        assert engine.status.phase == "asleep"


@pytest.mark.parametrize("profile", [SimProfile(inter_token=1.0), SimProfile()])
async def test_engine_that_cannot_sleep_stays_ready(profile: SimProfile) -> None:
    async with watched(sim(profile=profile), RULES) as engine:
        with pytest.raises(EngineError, match="cannot sleep"):
            await engine.sleep()

        assert await say(engine) == "one two three"


async def test_engine_whose_calls_do_not_end_does_not_sleep() -> None:
    inner = sim("word " * 100, SimProfile(inter_token=1.0, sleep_seconds=0.0))
    async with watched(inner, RULES) as engine, asyncio.TaskGroup() as group:
        call = group.create_task(say(engine))
        await asyncio.sleep(1)
        with pytest.raises(EngineError, match="calls do not end"):
            await engine.sleep()

        assert engine.status.phase == "ready"
        assert await call


async def test_engine_that_dies_asleep_does_not_wake_and_is_not_restarted_alone() -> None:
    inner, turns = sim(profile=SLEEPER), Turns()
    async with watched(inner, RULES, turn=turns) as engine:
        await engine.sleep()
        inner.kill()
        await asyncio.sleep(100)
        with pytest.raises(EngineUnavailableError, match="died asleep"):
            await engine.wake()

        assert turns.taken == []
        await engine.start(ignore)
        assert await say(engine) == "one two three"


async def test_engine_that_does_not_wake_is_stopped() -> None:
    inner = sim(profile=SLEEPER)
    async with watched(inner, RULES) as engine:
        await engine.sleep()
        await inner.stop()
        with pytest.raises(EngineError):
            await engine.wake()

        assert engine.status.phase == "stopped"
