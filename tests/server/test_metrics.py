"""``/metrics``: who may read it, what it tells of requests, and that it holds no content."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from localfusion.config import Limits
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.server.access import Access
from localfusion.server.admission import Runs
from localfusion.server.keys import KeyFile
from localfusion.server.metrics import watch_loop
from tests.server.system import CHAT, Served, body, gateway, served, stalled
from tests.server.test_connection import GET, exchange
from tests.telemetry.pages import Page, parse, scrape
from tests.virtual_time import VirtualLoop

LEFT = {"route": CHAT, "status": "gone"}


async def page_of(server: Served, **headers: str) -> Page:
    response = await server.http.get("/metrics", headers=headers)
    assert response.status_code == 200
    return parse(response.text)


async def page_when(server: Served, condition: Callable[[Page], object]) -> Page:
    """Look until something is so; pytest's time limit ends a vain wait."""
    while not condition(page := await page_of(server)):
        pass
    return page


async def test_without_keys_this_machine_may_read_it() -> None:
    async with served() as server:
        page = await page_of(server)

    assert page("queue_depth") == 0
    assert page("http_requests_total", route="/metrics", status="2xx") == 0  # counted at its end


@pytest.mark.threat(7)
async def test_with_keys_it_needs_one_of_scope_admin(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    use, admin = keys.create("ann", "use"), keys.create("root", "admin")
    async with served(access=Access(keys=keys)) as server:
        answers = [
            await server.http.get("/metrics", headers={"authorization": f"Bearer {key}"})
            for key in (use, admin)
        ]
        without = await server.http.get("/metrics")

    assert [answer.status_code for answer in answers] == [403, 200]
    assert without.status_code == 401


async def test_requests_are_counted_by_route_and_class_of_status() -> None:
    async with served() as server:
        await server.http.post(CHAT, json=body())
        await server.http.post(CHAT, json=body(temperature=9))
        await server.http.get("/v1/models/a")
        await server.http.get("/nothing/of/the/kind")
        page = await page_of(server)

    assert page.nonzero("http_requests_total") == {
        f"{CHAT} 2xx": 1,
        f"{CHAT} 4xx": 1,
        "/v1/models/{name:path} 2xx": 1,
        "unknown 4xx": 1,
    }


async def test_refusals_are_counted_by_their_codes() -> None:
    async with served(gateway(a=SimEngine(max_model_len=512))) as server:
        for sent in (
            body(temperature=9),
            body(model="canarymodel"),
            body("word " * 600),
            body(temperature="x"),
        ):
            await server.http.post(CHAT, json=sent)
        await server.http.post(CHAT, content=b"{", headers={"content-type": "application/json"})
        await server.http.post("/v1/messages", json={})
        await server.http.post("/mcp", content=b"[", headers={"content-type": "application/json"})
        await server.http.get("/nothing")
        await server.http.put("/health")
        await server.http.get("/health", headers={"host": "elsewhere"})
        page = await page_of(server)

    assert page.nonzero("http_refused_total") == {
        "out_of_range": 1,
        "model_not_found": 1,
        "context_length_exceeded": 1,
        "invalid_type": 1,
        "invalid_json": 2,
        "missing_parameter": 1,
        "not_found": 1,
        "method_not_allowed": 1,
        "host_not_allowed": 1,
    }


async def test_refusals_before_the_application_are_counted() -> None:
    async with served() as server:
        await exchange(server, GET + b"a: " + b"x" * 40_000 + b"\r\n\r\n")
        page = await page_of(server)

    assert page.nonzero("http_refused_total") == {"headers_too_large": 1}


async def test_request_whose_client_left_is_gone() -> None:
    async with served(gateway(a=stalled())) as server:
        with pytest.raises(httpx2.ReadTimeout):
            await server.http.post(CHAT, json=body(model="a"), timeout=0.2)
        page = await page_when(server, lambda page: page("http_requests_total", **LEFT))

    assert page("http_requests_total", **LEFT) == 1
    assert page.nonzero("runs_total") == {"a interrupted": 1}


async def test_open_streams_are_counted_while_they_are_open() -> None:
    slow = SimEngine("word " * 1000, profile=SimProfile(inter_token=0.01))
    async with served(gateway(a=slow)) as server:
        sent = body(model="a", stream=True)
        async with server.http.stream("POST", CHAT, json=sent) as answer:
            await anext(answer.aiter_lines())
            during = await page_of(server)
        await page_when(server, lambda page: page("streams_open") == 0)

    assert during("streams_open") == 1


async def test_those_who_wait_for_a_place_are_counted() -> None:
    system = gateway(a=stalled(), limits={"runs": 1})
    async with served(system) as server, asyncio.TaskGroup() as group:
        held = group.create_task(server.http.post(CHAT, json=body(model="a")))
        await system.wait_for_calls("a")
        waits = group.create_task(server.http.post(CHAT, json=body(model="b")))
        page = await page_when(server, lambda page: page("queue_depth"))
        held.cancel()
        await waits
        after = await page_of(server)

    assert page("queue_depth") == 1
    assert page("queue_wait_seconds_count") == 1
    assert after("queue_depth") == 0
    assert after("queue_wait_seconds_count") == 2


@pytest.mark.virtual_time
async def test_wait_is_measured_from_the_request_to_its_place() -> None:
    waits: list[float] = []
    runs = Runs(Limits(runs=1), waits.append)

    async def hold() -> None:
        async with runs.admit("", is_draining=False):
            await asyncio.sleep(3)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hold())

    assert waits == [0, 3, 6]


@pytest.mark.virtual_time
async def test_late_timers_are_seen() -> None:
    system, loop = gateway(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch_loop(system.telemetry.http))
        await asyncio.sleep(1.5)
        loop.skip(4)  # something held the loop up
        await asyncio.sleep(1)
        watching.cancel()

    page = await scrape(system)

    assert page("loop_lag_seconds_count") == 2
    assert page("loop_lag_seconds_sum") == 3.5


@pytest.mark.threat(8)
async def test_page_holds_nothing_of_what_was_said(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.create("canaryname", "admin")
    system = gateway(a=SimEngine("canarydraft"), d=SimEngine("canaryanswer"))
    access = Access(keys=keys)
    headers = {"authorization": f"Bearer {secret}", "x-request-id": "canaryheader"}
    async with served(system, access=access) as server:
        for sent in (
            body("canaryprompt"),
            body("canaryprompt", stream=True),
            body("canaryprompt", model="canarymodel"),
            body("canaryprompt", canaryfield=1),
            body("canaryprompt", temperature="canaryvalue"),
            body("canaryprompt", fusion={"panel": ["canarymodel"]}),
        ):
            answer = await server.http.post(CHAT, json=sent, headers=headers)
            assert answer.status_code in (200, 400, 404)
        await server.http.get("/canarypath?canary=query", headers=headers)
        await server.http.request("CANARY", "/v1/models", headers=headers)
        text = (await server.http.get("/metrics", headers=headers)).text

    assert "localfusion_runs_total" in text
    assert "canary" not in text.lower()
    assert secret not in text
