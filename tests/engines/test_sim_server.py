"""sim_server as vLLM's double: routes, log lines, flags. Streams are the contract suite's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psutil
import pytest

from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_app import create_app
from tests.engines.kinds import NAME, ignore, listening, sim_child

QUESTION = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(SimEngine("Good day.", name=NAME, reasoning="polite"))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sim") as client:
        yield client


async def test_whole_answer_comes_without_stream(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/v1/chat/completions", json=QUESTION)).json()

    assert answer["choices"][0]["message"]["content"] == "Good day."
    assert answer["choices"][0]["message"]["reasoning"] == "polite"
    assert answer["usage"]["total_tokens"] == 4 + 4


async def test_openai_name_of_the_token_limit_is_taken(client: httpx2.AsyncClient) -> None:
    body = {**QUESTION, "max_completion_tokens": 2}

    answer = (await client.post("/v1/chat/completions", json=body)).json()

    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("change", "status"), [({"model": "b"}, 404), ({"messages": 7}, 400), ({"messages": [{}]}, 400)]
)
async def test_wrong_requests_are_refused_in_openais_envelope(
    client: httpx2.AsyncClient, change: dict[str, object], status: int
) -> None:
    answer = await client.post("/v1/chat/completions", json={**QUESTION, **change})

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == status


async def test_wrong_messages_cannot_be_counted(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/tokenize", json={"messages": None})).status_code == 400


async def test_metrics_have_vllms_names(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/metrics")).text

    assert f'vllm:num_requests_running{{engine="0",model_name="{NAME}"}} 0.0\n' in page
    cache = 'block_size="16",enable_prefix_caching="True",num_gpu_blocks="8192"'
    assert f"vllm:cache_config_info{{{cache}}} 1.0\n" in page


async def test_log_tells_the_phases_and_connections_are_refused_while_it_loads(
    run_dir: Path,
) -> None:
    uds = run_dir / "a.sock"
    vllms = ["--uds", str(uds), "--model", "weights/a", "--enforce-eager", "--seed", "0"]

    async with sim_child(*vllms, "--start-seconds", "1000") as child:
        assert child.stderr is not None
        lines = [await child.stderr.readline(), await child.stderr.readline()]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(uds)

    assert b"Starting to load model weights/a" in lines[0]
    assert b"Loading safetensors checkpoint shards:   0%" in lines[1]


async def test_port_is_opened_on_loopback_only(free_tcp_port: int) -> None:
    engine = OpenAIEngine("sim", base_url=f"http://127.0.0.1:{free_tcp_port}/v1")

    async with sim_child("--port", str(free_tcp_port)) as child:
        await listening(engine, child)
        await engine.start(ignore)
        found = [c for c in psutil.Process(child.pid).net_connections() if c.status == "LISTEN"]

    assert [tuple(connection.laddr) for connection in found] == [("127.0.0.1", free_tcp_port)]
    await engine.stop()
