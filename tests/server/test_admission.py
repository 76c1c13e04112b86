"""Who runs, who waits and who is refused: places, the line, each key's share."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.config import Limits
from localfusion.engines.sim import SimEngine
from localfusion.errors import FusionError, OverloadedError
from localfusion.server.access import Access
from localfusion.server.admission import Runs
from localfusion.server.envelope import RateLimitedError
from localfusion.server.keys import KeyFile
from tests.server.system import CHAT, body, gateway, served, stalled


async def hold(runs: Runs, caller: str, log: list[str], leave: asyncio.Event) -> None:
    async with runs.admit(caller, is_draining=False):
        log.append(caller)
        await leave.wait()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_those_who_wait_get_places_in_their_order() -> None:
    runs, log = Runs(Limits(runs=1)), list[str]()
    leaving = [asyncio.Event() for _ in "abc"]
    async with asyncio.TaskGroup() as group:
        for name, leave in zip("abc", leaving, strict=True):
            group.create_task(hold(runs, name, log, leave))
        for expected, leave in zip(["a", "ab", "abc"], leaving, strict=True):
            await settle()
            assert "".join(log) == expected
            leave.set()

    await runs.wait_idle()


async def test_key_at_its_share_does_not_hold_up_others() -> None:
    runs, log = Runs(Limits(runs=3, key_runs=1)), list[str]()
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for name in ("ann", "ann", "bob"):
            group.create_task(hold(runs, name, log, leave))
        await settle()
        assert log == ["ann", "bob"]
        leave.set()

    assert log == ["ann", "bob", "ann"]


async def test_one_who_leaves_the_line_frees_nothing_and_blocks_nobody() -> None:
    runs, log = Runs(Limits(runs=1)), list[str]()
    first, last = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(runs, "a", log, first))
        await settle()
        gone = group.create_task(hold(runs, "b", log, last))
        group.create_task(hold(runs, "c", log, last))
        await settle()
        gone.cancel()
        first.set()
        await settle()
        assert log == ["a", "c"]
        last.set()

    await runs.wait_idle()


async def test_one_who_leaves_as_its_turn_comes_gives_the_place_back() -> None:
    runs, log = Runs(Limits(runs=1)), list[str]()
    first, last = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(runs, "a", log, first))
        await settle()
        gone = group.create_task(hold(runs, "b", log, last))
        group.create_task(hold(runs, "c", log, last))
        await settle()
        first.set()
        await asyncio.sleep(0)  # a leaves, and b's turn is set
        gone.cancel()
        await settle()
        assert log == ["a", "c"]
        last.set()

    await runs.wait_idle()


@pytest.mark.virtual_time
async def test_too_long_a_wait_ends_with_a_refusal() -> None:
    runs, log, leave = Runs(Limits(runs=1, key_runs=1, queue_wait=30)), list[str](), asyncio.Event()
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(runs, "ann", log, leave))
        await settle()
        began = clock()
        with pytest.raises(RateLimitedError):
            await hold(runs, "ann", log, leave)
        with pytest.raises(OverloadedError) as full:
            await hold(runs, "bob", log, leave)
        leave.set()

    assert clock() - began == 60
    assert full.value.code == "queue_full"
    assert log == ["ann"]


async def test_retry_after_grows_with_the_place_in_the_line() -> None:
    runs, log, leave = Runs(Limits(runs=1, queued=3)), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(runs, "", log, leave)) for _ in range(4)]
        await settle()
        with pytest.raises(OverloadedError, match="ask again in 4 s") as refused:
            await hold(runs, "", log, leave)
        for task in tasks:
            task.cancel()

    assert refused.value.retry_after == 4  # a second each, as none has ended yet


async def test_server_that_stops_turns_the_line_away() -> None:
    runs, log, leave = Runs(Limits(runs=1)), list[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(runs, "a", log, leave))
        await settle()
        waiting = group.create_task(refusal(runs, "b"))
        await settle()
        runs.turn_away()
        late = await refusal(runs, "c", is_draining=True)
        leave.set()

    assert waiting.result() == late == "draining"
    assert log == ["a"]


async def refusal(runs: Runs, caller: str, *, is_draining: bool = False) -> str:
    try:
        async with runs.admit(caller, is_draining=is_draining):
            return "admitted"
    except FusionError as error:
        return error.code


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.integers(0, 5))))
async def test_no_limit_is_passed_and_no_place_lost(steps: list[tuple[str, int]]) -> None:
    limits = Limits(runs=3, queued=4, key_runs=2, key_queued=2)
    runs, inside = Runs(limits), Counter[str]()

    async def stay(caller: str, leave: asyncio.Event) -> None:
        try:
            async with runs.admit(caller, is_draining=False):
                inside[caller] += 1
                try:
                    await leave.wait()
                finally:
                    inside[caller] -= 1
        except OverloadedError:
            pass

    async with asyncio.TaskGroup() as group:
        there: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        for what, number in steps:
            if what == "enter":
                leave = asyncio.Event()
                caller = ("", "ann", "bob")[number % 3]
                there.append((group.create_task(stay(caller, leave)), leave))
            elif there:
                task, leave = there.pop(number % len(there))
                leave.set() if what == "leave" else task.cancel()
            await settle()
            waiting = sum(not task.done() for task, _ in there) - inside.total()
            assert inside.total() <= limits.runs
            assert max(inside["ann"], inside["bob"]) <= limits.key_runs
            assert waiting <= limits.queued
        for task, _ in there:
            task.cancel()

    await runs.wait_idle()
    assert await refusal(runs, "ann") == "admitted"


@pytest.mark.promise(2)
async def test_key_over_its_share_is_told_before_the_first_byte(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    ann, bob = ({"authorization": f"Bearer {keys.create(name, 'use')}"} for name in ("ann", "bob"))
    system = gateway(b=stalled(), limits={"runs": 3, "key_runs": 1, "key_queued": 0})
    async with served(system, access=Access(keys=keys)) as server, asyncio.TaskGroup() as group:
        held = group.create_task(server.http.post(CHAT, json=body(model="b"), headers=ann))
        await system.wait_for_calls("b")
        over = await server.http.post(CHAT, json=body(model="a", stream=True), headers=ann)
        other = await server.http.post(CHAT, json=body(model="a"), headers=bob)
        held.cancel()

    assert over.status_code == 429
    assert over.json()["error"]["code"] == "rate_limit_exceeded"
    assert over.json()["error"]["type"] == "rate_limit_error"
    assert over.json()["error"]["metadata"]["stage"] == "admission"
    assert int(over.headers["retry-after"]) >= 1
    assert over.headers["content-type"] == "application/json"
    assert other.status_code == 200


async def test_waiting_request_is_answered_when_a_place_is_free() -> None:
    system = gateway(a=SimEngine("Eighteen.", delay=0.01), limits={"runs": 1, "queued": 8})
    async with served(system) as server, asyncio.TaskGroup() as group:
        asked = [group.create_task(server.http.post(CHAT, json=body(model="a"))) for _ in range(8)]

    assert {task.result().status_code for task in asked} == {200}
    assert system.calls == 8
