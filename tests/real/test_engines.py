"""What real vLLM engines owe, seen through the gateway's own client on their sockets."""

import json
import math
from contextlib import aclosing
from dataclasses import replace

import psutil
import pytest

from localfusion.config import load
from localfusion.engines.openai import OpenAIEngine
from localfusion.errors import ContextLengthError
from localfusion.hardware import Hardware, detect
from localfusion.system import make_plan
from localfusion.types import Delta, Effort, Message, Prompt, SamplingParams
from tests.real.conftest import ROOT, Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SMALL = "smollm2-135m"


async def generate(engine: OpenAIEngine, prompt: Prompt) -> list[Delta]:
    async with aclosing(engine.generate(prompt)) as deltas:
        return [delta async for delta in deltas]


def prompt(text: str, max_tokens: int = 16, **fields: object) -> Prompt:
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens)
    return Prompt((Message("user", text),), sampling, **fields)  # type: ignore[arg-type]  # tests


async def test_stream_ends_with_reason_and_usage(server: Server) -> None:
    engine = server.engine(SMALL)
    await engine.probe()

    deltas = await generate(engine, prompt("Name three colors.", 8))

    assert engine.facts.max_model_len == 4096
    assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == 8
    assert len(deltas) > 4
    await engine.aclose()


async def test_repeated_prompt_is_cached(server: Server) -> None:
    engine = server.engine(SMALL)
    long = prompt("one two three " * 60, 1)

    await generate(engine, long)
    usage = (await generate(engine, long))[-1].usage

    assert usage is not None
    assert usage.cached_tokens > 0.8 * usage.prompt_tokens
    await engine.aclose()


async def test_decoder_obeys_the_schema(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["color", "count"],
        "additionalProperties": False,
    }
    engine = server.engine(SMALL)

    text = "".join(d.text for d in await generate(engine, prompt("Hi", 40, schema=schema)))

    assert json.loads(text)["color"] in ("red", "blue")
    await engine.aclose()


async def test_likeliest_tokens_are_told_with_and_without_thinking(server: Server) -> None:
    engine = server.engine(SMALL)
    await engine.check()  # learns which hints it takes
    question = prompt("Answer with one letter, A or B.", 1, logprobs=20)
    efforts: tuple[Effort | None, ...] = (None, "none", "low")

    answers = [await generate(engine, replace(question, effort=effort)) for effort in efforts]

    for deltas in answers:
        ((place,),) = [delta.logprobs for delta in deltas if delta.logprobs]
        told = place.alternatives
        assert "".join(delta.text for delta in deltas) == max(told, key=lambda t: told[t])
        assert len(told) == 20
        assert 0.5 < sum(math.exp(logprob) for logprob in told.values()) <= 1 + 1e-6
    assert answers[0][:-1] == answers[1][:-1] == answers[2][:-1]  # it does not reason
    await engine.aclose()


async def test_block_size_is_that_of_the_cache(server: Server) -> None:
    engine = server.engine(SMALL)
    await engine.probe()
    long = prompt("four five six " * 60, 1)

    await generate(engine, long)
    usage = (await generate(engine, long))[-1].usage

    assert usage is not None
    assert engine.facts.block_size == 32
    assert usage.cached_tokens == (usage.prompt_tokens - 1) // 32 * 32
    await engine.aclose()


async def test_prompt_over_the_window_is_refused(server: Server) -> None:
    engine = server.engine(SMALL)

    assert await engine.count_tokens((Message("user", "word " * 5000),)) > 4096
    with pytest.raises(ContextLengthError):
        await generate(engine, prompt("word " * 5000))
    await engine.aclose()


def test_nothing_of_it_listens_beyond_loopback(server: Server) -> None:
    addresses = {
        connection.laddr.ip
        for process in server.family
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    }

    assert addresses <= {"127.0.0.1", "::1"}


def test_engines_run_on_their_planned_cores(server: Server) -> None:
    loaded = load(ROOT / "models.yaml")
    presets = {name: loaded.settings.presets[name] for name in ("demo", "demo-large")}
    empty = Hardware(replace(detect().cpu, free_bytes=10**12))  # as before the engines took theirs
    planned = make_plan(loaded, presets, empty)

    for slot in planned.slots:
        mine = [child for child in server.children if slot.model in _line(child)]
        (server_process,) = [child for child in mine if "keeper.py" not in _line(child)]
        family = [server_process, *server_process.children(recursive=True)]
        assert len(family) > 1, "the engine core is missing"
        assert {tuple(child.cpu_affinity()) for child in family} == {slot.cores}


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
