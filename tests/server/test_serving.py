"""Sockets, signals and the drain."""

import asyncio
import json
import os
import signal
import stat
from pathlib import Path

import httpx2
import pytest

from localfusion.engines.sim import SimEngine
from localfusion.errors import ConfigError
from localfusion.server.serving import listen, listen_unix, serve
from tests.server.system import CHAT, SimGateway, body, gateway, served, stalled, until


def _signal(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def _until_draining(system: SimGateway) -> None:
    await until(lambda: system.draining)


def test_port_in_use_is_refused_with_the_remedy() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use; .* --port") as refused:
            listen("127.0.0.1", port)

    assert refused.value.exit_code == 2


async def test_settings_port_in_use_is_refused_before_serving() -> None:
    with listen("127.0.0.1", 0) as taken:
        system = gateway(server={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match="is in use"):
            await serve(system)


async def test_unix_socket_is_private_and_served(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listening = asyncio.Event()
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    async with (
        asyncio.TaskGroup() as group,
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
    ):
        task = group.create_task(serve(gateway(), listen_unix(path), on_listening=listening.set))
        await listening.wait()
        response = await http.post(CHAT, json=body())
        mode = stat.S_IMODE(path.stat().st_mode)
        task.cancel()

    assert response.json()["choices"][0]["message"]["content"] == "They cost 8 euros in all."
    assert mode == 0o600


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen_unix(path).close()

    with listen_unix(path), pytest.raises(ConfigError, match="choose another socket"):
        listen_unix(path)


def test_file_in_the_place_of_a_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")

    with pytest.raises(ConfigError):
        listen_unix(path)

    assert path.read_text() == "mine"


async def test_first_signal_drains() -> None:
    system = gateway(b=SimEngine("Done.", delay=0.3))
    before = signal.getsignal(signal.SIGTERM)
    async with served(system) as server, asyncio.TaskGroup() as group:
        running = group.create_task(server.http.post(CHAT, json=body(model="b")))
        await system.wait_for_calls("b")
        _signal(signal.SIGTERM)
        await _until_draining(system)
        refused = await server.http.post(CHAT, json=body(model="a"))
        await server.task

    assert refused.json()["error"]["code"] == "draining"
    assert running.result().json()["choices"][0]["message"]["content"] == "Done."
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}/health", trust_env=False)


@pytest.mark.parametrize("stream", [False, True])
async def test_run_that_outlasts_the_drain_ends_with_a_typed_error(stream: bool) -> None:
    system = gateway(b=stalled(), server={"drain": "50ms", "keepalive": "10ms"})
    async with served(system) as server, asyncio.TaskGroup() as group:
        running = group.create_task(server.http.post(CHAT, json=body(model="b", stream=stream)))
        await system.wait_for_calls("b")
        _signal(signal.SIGINT)
        await server.task

    response = running.result()
    last = response.text.strip().split("\n\n")[-1].removeprefix("data: ")
    assert json.loads(last)["error"]["code"] == "draining"
    assert response.status_code == (200 if stream else 503)
    assert system.aborts == {"b": 1}


async def test_second_signal_stops_at_once() -> None:
    system = gateway(b=stalled(), server={"drain": "1000s"})
    async with served(system) as server, asyncio.TaskGroup() as group:
        group.create_task(server.http.post(CHAT, json=body(model="b")))
        await system.wait_for_calls("b")
        _signal(signal.SIGTERM)
        await _until_draining(system)
        _signal(signal.SIGTERM)
        await server.task

    assert system.aborts == {"b": 1}


async def test_cancelled_server_aborts_its_runs_and_frees_its_port() -> None:
    system = gateway(b=stalled())
    async with served(system) as server, asyncio.TaskGroup() as group:
        group.create_task(server.http.post(CHAT, json=body(model="b")))
        await system.wait_for_calls("b")
        server.task.cancel()
        await asyncio.wait([server.task])

    assert system.aborts == {"b": 1}
    listen("127.0.0.1", int(server.url.rsplit(":", 1)[1])).close()
