"""Client gone, work gone: on a real port, streamed or not, at every stage (M44)."""

import asyncio
import logging

import pytest

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.types import Prompt
from tests.server.system import CHAT, body, gateway, served, stalled


def _stall_late(prompt: Prompt) -> SimFailure | None:
    """Analyze well, then stall in the middle of the answer."""
    return None if prompt.schema is not None else SimFailure("stall", at_token=2)


def _stalling(stage: str) -> dict[str, SimEngine]:
    match stage:
        case "panel":
            return {name: stalled() for name in "abc"}
        case "analysis":
            return {"d": stalled()}
        case _:
            return {"d": SimEngine(failure=_stall_late)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stage", ["panel", "analysis", "answer"])
async def test_engines_stop_when_the_client_leaves(
    stage: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engines = _stalling(stage)
    system = gateway(engines=engines)
    caplog.set_level(logging.WARNING)

    async with served(system) as server, asyncio.TaskGroup() as group:
        request = group.create_task(server.http.post(CHAT, json=body(stream=stream)))
        for name in engines:
            await system.wait_for_calls(name, 2 if stage == "answer" else 1)
        request.cancel()
        await system.wait_for_aborts(*engines)
        after = await server.http.post(CHAT, json=body(model="d" if stage == "panel" else "b"))

    assert system.aborts == dict.fromkeys(engines, 1)
    assert after.status_code == 200
    assert caplog.records == []


async def test_closing_an_official_stream_stops_the_engine() -> None:
    system = gateway(b=SimEngine("one two three", failure=SimFailure("stall", at_token=1)))
    async with served(system) as server:
        stream = await server.openai.chat.completions.create(
            model="b", messages=[{"role": "user", "content": "x"}], stream=True
        )
        await anext(stream)
        await stream.close()
        await system.wait_for_aborts("b")

    assert system.aborts == {"b": 1}


async def test_leaving_in_the_middle_of_the_body_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as server:
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            'Content-Length: 99\r\n\r\n{"model":'.encode()
        )
        await writer.drain()
        writer.close()
        health = await server.http.get("/health")

    assert health.status_code == 200
    assert server.gateway.calls == 0
    assert caplog.records == []
