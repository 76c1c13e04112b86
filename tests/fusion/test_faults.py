"""Fusions over a pool whose engines die, hang and are replaced: no request is ever lost."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from localfusion.config import Preset
from localfusion.errors import FusionError, OverloadedError
from localfusion.fusion import Fusion
from localfusion.pool import EnginePool
from localfusion.types import Answer, Request
from tests.fusion.conftest import REQUEST, judge_says
from tests.pool.engines import Journal, WatchedSim, clock, started

pytestmark = pytest.mark.virtual_time

DEADLINE = 60.0
PRESET = Preset.model_validate(
    {
        "panel": ["a", "b", "c"],
        "judge": "d",
        "deadline": DEADLINE,
        "grace": 5,
        "options": {"analysis": "separate"},
    }
)
DEVICES = {"a": ["gpu0"], "b": ["gpu0"], "c": ["gpu1"], "d": ["gpu0"]}
TWO_GROUPS = ["abc", "d"]


def engine(name: str, journal: Journal, *, start: float = 4.0) -> WatchedSim:
    text = judge_says("It is eight euros. " * 5) if name == "d" else f"{name} says eight. " * 5
    return WatchedSim(name, journal, start=start, call=0.2, token=0.05, swap=0.5, text=text)


@asynccontextmanager
async def system(
    engines: dict[str, WatchedSim] | None = None, **terms: object
) -> AsyncGenerator[tuple[dict[str, WatchedSim], EnginePool, Fusion], None]:
    """Members a, b, c and judge d in a pool, behind preset ``demo``."""
    engines = engines or {name: engine(name, []) for name in "abcd"}
    async with started(engines, DEVICES, **terms) as pool:
        yield engines, pool, Fusion(pool, {"demo": PRESET}, default_preset="demo", lease=pool.lease)


class Load:
    """Requests and what became of them; one that ends otherwise raises."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion = fusion
        self.outcomes: Counter[str] = Counter()

    async def ask(self, *, after: float = 0.0, request: Request = REQUEST) -> Answer | None:
        await asyncio.sleep(after)
        began = clock()
        answer = None
        try:
            answer = await self.fusion.complete(request)
            self.outcomes[answer.status] += 1
        except FusionError as error:
            self.outcomes[type(error).__name__] += 1
        assert clock() - began <= DEADLINE
        return answer

    async def run(self, requests: int, *, every: float) -> None:
        async with asyncio.TaskGroup() as group:
            for place in range(requests):
                group.create_task(self.ask(after=place * every))


async def assert_nothing_is_left(engines: dict[str, WatchedSim], pool: EnginePool) -> None:
    assert pool.queue == ()
    for sim in engines.values():
        assert sim.status.in_flight == 0


@pytest.mark.parametrize("groups", [[], TWO_GROUPS], ids=["together", "in turns"])
async def test_200_kills_under_load_lose_no_request_and_leak_nothing(groups: list[str]) -> None:
    rng = random.Random(1)
    before = asyncio.all_tasks()

    async with system(groups=groups) as (engines, pool, fusion):
        load = Load(fusion)

        async def kill() -> None:
            for _ in range(200):
                await asyncio.sleep(rng.expovariate(1 / 0.7))
                rng.choice(list(engines.values())).kill()

        async with asyncio.TaskGroup() as group:
            group.create_task(kill())
            group.create_task(load.run(500, every=0.3))

        await assert_nothing_is_left(engines, pool)
        assert sum(load.outcomes.values()) == 500
        assert load.outcomes["full"] > 0
        assert load.outcomes["degraded"] > 0
        await asyncio.sleep(30)
        assert (await load.ask()) is not None

    assert asyncio.all_tasks() == before


async def test_two_members_that_crash_together_leave_the_third_ones_answer() -> None:
    async with system() as (engines, _, fusion), asyncio.TaskGroup() as group:
        asking = group.create_task(fusion.complete(REQUEST))
        await asyncio.sleep(0.5)
        engines["a"].kill()
        engines["b"].kill()

        answer = await asking

        assert (answer.status, answer.reason) == ("single", "one_survivor")
        assert answer.text.startswith("c says")


async def test_request_that_comes_while_a_member_restarts_is_answered_without_it() -> None:
    async with system() as (engines, _, fusion):
        engines["a"].kill()
        await asyncio.sleep(2)

        answer = await fusion.complete(REQUEST)

        assert answer.status == "degraded"
        assert [c.model for c in answer.lost] == ["a"]


async def test_member_and_judge_that_crash_together_leave_a_members_answer() -> None:
    async with system() as (engines, _, fusion), asyncio.TaskGroup() as group:
        asking = group.create_task(fusion.complete(REQUEST))
        await asyncio.sleep(0.5)
        engines["a"].kill()
        engines["d"].kill()

        answer = await asking

        assert answer.status == "panel_only"
        assert answer.text.startswith("b says")


@pytest.mark.parametrize("groups", [[], TWO_GROUPS], ids=["together", "in turns"])
async def test_all_engines_that_crash_together_end_the_run_with_a_typed_error(
    groups: list[str],
) -> None:
    async with system(groups=groups) as (engines, _, fusion):
        load = Load(fusion)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(load.ask())
            await asyncio.sleep(0.5)
            for sim in engines.values():
                sim.kill()

        assert asking.result() is None
        assert load.outcomes == {"QuorumError": 1}


async def test_run_in_turns_has_a_whole_answer() -> None:
    async with system(groups=TWO_GROUPS) as (_, _, fusion):
        answer = await fusion.complete(REQUEST)

        assert (answer.status, answer.reason) == ("full", None)
        assert len(answer.candidates) == 3


async def test_judge_that_does_not_come_back_leaves_a_members_answer() -> None:
    async with system(groups=TWO_GROUPS) as (engines, _, fusion):
        engines["d"].fail("wake")
        engines["d"].fail_starts(100)

        answer = await fusion.complete(REQUEST)

        assert answer.status == "panel_only"


async def test_run_that_waits_for_a_slow_swap_ends_at_its_deadline() -> None:
    engines = {name: engine(name, []) for name in "abc"}
    engines["d"] = WatchedSim("d", [], start=1000)

    async with system(engines, groups=TWO_GROUPS) as (_, pool, fusion):
        began = clock()
        answer = await fusion.complete(REQUEST)

        assert (answer.status, answer.reason) == ("panel_only", "deadline_exceeded")
        assert clock() - began == DEADLINE
        assert pool.queue == ()


@pytest.mark.parametrize("groups", [[], TWO_GROUPS], ids=["together", "in turns"])
async def test_reload_during_load_loses_no_request(groups: list[str]) -> None:
    journal: Journal = []
    before = asyncio.all_tasks()

    async with system(groups=groups) as (engines, pool, fusion):
        load = Load(fusion)

        async def reload() -> None:
            for name in "abcd":
                await asyncio.sleep(10)
                engines[name] = engine(name, journal)
                await pool.change({name: engines[name]}, [], DEVICES, groups=groups)

        async with asyncio.TaskGroup() as group:
            group.create_task(reload())
            group.create_task(load.run(200, every=0.5))

        assert set(load.outcomes) <= {"full", "EngineUnavailableError"}
        assert load.outcomes["full"] > 50
        await assert_nothing_is_left(engines, pool)

    assert asyncio.all_tasks() == before


async def test_engines_unloaded_and_loaded_during_load_lose_no_request() -> None:
    async with system(keep_alive=1) as (engines, pool, fusion):
        load = Load(fusion)

        async def steer() -> None:
            for name in "abc":
                await asyncio.sleep(5)
                await pool.unload(name)
                await asyncio.sleep(5)
                await pool.load(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(steer())
            group.create_task(load.run(30, every=2))

        assert set(load.outcomes) <= {"full", "degraded"}
        assert sum(load.outcomes.values()) == 30
        await assert_nothing_is_left(engines, pool)


async def test_too_many_runs_are_refused_before_their_first_event() -> None:
    async with system(limits={"d": 3}) as (_, _, fusion):
        load = Load(fusion)
        await load.run(10, every=0)

        assert load.outcomes == {"full": 3, "OverloadedError": 7}
        stream = fusion.stream(REQUEST)
        assert (await anext(stream)) is not None
        await stream.aclose()


async def test_run_whose_reader_leaves_gives_its_engines_back() -> None:
    async with system(limits={"a": 1}) as (engines, pool, fusion):
        stream = fusion.stream(REQUEST)
        await anext(stream)
        with pytest.raises(OverloadedError):
            await fusion.complete(REQUEST)

        await stream.aclose()

        await assert_nothing_is_left(engines, pool)
        assert (await fusion.complete(REQUEST)).status == "full"
