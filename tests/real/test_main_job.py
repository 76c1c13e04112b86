"""One prompt, a real panel, a real judge, one streamed answer, through HTTP and the terminal."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import openai
import pytest

from tests.real.conftest import ROOT, Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTION = "Which is larger, 7 or 12? Answer with one short sentence."
STREAMING_CLIENT = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
body = {"model": "localfusion/demo", "messages": [{"role": "user", "content": sys.argv[2]}]}
for chunk in client.chat.completions.create(**body, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print("first", flush=True)
"""


def test_fused_answer(server: Server, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="localfusion/demo",
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=40,
        stop=["<one>", "<two>", "<three>", "<four>"],  # as many as a client may have
        seed=1,
    )
    answer = raw.parse()

    assert answer.choices[0].message.content
    assert answer.model in server.models
    assert raw.headers["x-localfusion-status"] in ("full", "degraded")
    stages = answer.usage.model_extra["stages"]  # type: ignore[union-attr, index]  # ours
    assert stages["panel"]["calls"] == 3
    # The judge's second call finds the first one's prompt in its cache.
    synthesis = stages["synthesis"]
    assert synthesis["prompt_tokens_details"]["cached_tokens"] > 0.5 * synthesis["prompt_tokens"]


def test_judge_that_is_no_member_has_an_engine_of_its_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="localfusion/demo-large",
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=16,
        seed=1,
    )

    assert answer.model == "qwen2.5-coder-1.5b"


def test_answer_streams_while_the_judge_writes(server: Server, client: openai.OpenAI) -> None:
    judge_at_first_token: list[int] = []

    async def judge_runs() -> int:
        engine = server.engine("qwen2.5-coder-0.5b")
        stats = await engine.stats()
        await engine.aclose()
        return stats.running

    chunks = []
    for chunk in client.chat.completions.create(
        model="openrouter/fusion",
        messages=[{"role": "user", "content": "Count from one to ten in words."}],
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=40,
        seed=1,
    ):
        if chunk.choices and chunk.choices[0].delta.content and not judge_at_first_token:
            judge_at_first_token.append(asyncio.run(judge_runs()))
        chunks.append(chunk)

    assert judge_at_first_token == [1]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) > 5
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


@pytest.mark.parametrize("moment", ["in the panel", "in the answer"])
def test_killed_client_leaves_idle_engines(server: Server, moment: str) -> None:
    command = [sys.executable, "-c", STREAMING_CLIENT, f"{server.url}/v1"]
    question = "Write a long story about a dog."
    with subprocess.Popen([*command, question], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if moment == "in the answer":
            assert process.stdout.readline() == b"first\n"
        else:
            asyncio.run(_until(server, lambda running: running > 0))

        process.kill()

    asyncio.run(_until(server, lambda running: running == 0))


async def _until(server: Server, condition: Callable[[int], bool]) -> None:
    engines = [server.engine(model) for model in server.models]

    async def running() -> int:
        return sum([(await engine.stats()).running for engine in engines])

    await _poll(running, condition)
    for engine in engines:
        await engine.aclose()


async def _poll(look: Callable[[], Awaitable[int]], condition: Callable[[int], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition(await look()):  # noqa: ASYNC110  vLLM sends no event
            await asyncio.sleep(0.1)


def test_plain_model_answers_under_its_own_name(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2-135m", messages=[{"role": "user", "content": "Hi"}], max_tokens=8
    )

    assert answer.model == "smollm2-135m"
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


def test_prompt_too_long_is_refused_before_any_engine_works(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="whose window holds 4096") as caught:
        client.chat.completions.create(
            model="localfusion/demo", messages=[{"role": "user", "content": "word " * 5000}]
        )

    assert caught.value.code == "context_length_exceeded"


def test_terminal_uses_the_running_server(server: Server) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "localfusion",
            "ask",
            QUESTION,
            "--json",
            "--port",
            str(server.port),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert f"using the server at {server.url}" in done.stderr
    assert len(answer["candidates"]) == 3
    assert answer["text"]
