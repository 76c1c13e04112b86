import asyncio
import socket

import pytest
from hypothesis import given, strategies

from tests import virtual_time


@pytest.mark.virtual_time
async def test_clock_jumps_to_the_next_timer_exactly() -> None:
    clock = asyncio.get_running_loop().time

    await asyncio.sleep(0.1)
    await asyncio.sleep(1_000_000)

    assert clock() == 0.1 + 1_000_000


@pytest.mark.virtual_time
async def test_timers_fire_in_order_of_their_time() -> None:
    fired: list[int] = []

    async def fire(after: int) -> None:
        await asyncio.sleep(after)
        fired.append(after)

    async with asyncio.TaskGroup() as group:
        for after in (3, 1, 2):
            group.create_task(fire(after))

    assert fired == [1, 2, 3]
    assert asyncio.get_running_loop().time() == 3


async def test_unmarked_tests_keep_the_real_clock() -> None:
    assert not isinstance(asyncio.get_running_loop(), virtual_time.VirtualLoop)


@given(strategies.floats(0, 1e6))
def test_properties_run_on_a_loop_of_their_own(seconds: float) -> None:
    async def wait() -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(wait()) == seconds


def test_deadlock_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "DEADLOCK", 0.0)

    async def wait() -> None:
        await asyncio.Event().wait()

    with (
        pytest.raises(RuntimeError, match="deadlock"),
        asyncio.Runner(loop_factory=virtual_time.VirtualLoop) as runner,
    ):
        runner.run(wait())


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("example.org", 80)])
def test_tests_cannot_leave_the_machine(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    with socket.socket(family) as sock, pytest.raises(OSError, match="offline"):
        sock.connect(address)


async def test_async_connections_cannot_leave_the_machine() -> None:
    with pytest.raises(OSError, match="offline"):
        await asyncio.open_connection("192.0.2.1", 80)
