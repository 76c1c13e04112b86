"""Series of engines: of what is known now, and nothing of what is gone."""

import asyncio
from collections.abc import Sequence

import pytest

from localfusion.engines.base import EngineStats, EngineStatus
from localfusion.overview import EngineRow
from localfusion.telemetry import Telemetry
from localfusion.telemetry.engines import EngineView
from tests.server.system import gateway
from tests.telemetry.pages import Page, parse

READY = EngineStatus("a", "ready", 5.0, restarts=2, start_seconds=31.5, in_flight=3)


async def page_of(*rows: EngineRow) -> Page:
    async def look() -> Sequence[EngineView]:
        return rows

    return parse((await Telemetry(gateway().settings, look).page()).decode())


async def test_all_that_is_known_is_told() -> None:
    stats = EngineStats(running=2, waiting=1, kv_cache_usage=0.25)

    page = await page_of(EngineRow(READY, stats=stats, planned_bytes=8 << 30, actual_bytes=7 << 30))

    assert page.nonzero("engine_state") == {"a ready": 1}
    assert page("engine_restarts_total", engine="a") == 2
    assert page("engine_start_seconds", engine="a") == 31.5
    assert page.nonzero("engine_slot_bytes") == {"a planned": 8 << 30, "a actual": 7 << 30}
    assert page("engine_calls", engine="a") == 3
    assert page("engine_requests_running", engine="a") == 2
    assert page("engine_requests_waiting", engine="a") == 1
    assert page("engine_kv_cache_usage", engine="a") == 0.25


async def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    page = await page_of(EngineRow(EngineStatus("a", "loading", 1.0)))

    names = {name for name, _ in page.samples if name.startswith("localfusion_engine_")}
    assert names == {
        "localfusion_engine_state",
        "localfusion_engine_restarts_total",
        "localfusion_engine_calls",
    }


@pytest.mark.virtual_time
async def test_engines_are_asked_once_a_second_and_leave_nothing() -> None:
    looks: list[Sequence[EngineRow]] = [[EngineRow(READY)], []]

    async def look() -> Sequence[EngineView]:
        return looks.pop(0)

    telemetry, pages = Telemetry(gateway().settings, look), list[bytes]()
    for seconds in (0, 0.5, 1):
        await asyncio.sleep(seconds)
        pages.append(await telemetry.page())

    assert [b'engine="a"' in page for page in pages] == [True, True, False]
    assert looks == []
