"""What every engine owes whoever calls it, asked of each kind alike."""

import asyncio
import json
import math
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from localfusion.engines.base import ManagedEngine
from localfusion.engines.sim import FailureKind
from localfusion.errors import (
    ContextLengthError,
    EngineError,
    OverloadedError,
)
from localfusion.types import Effort, Message, Prompt, SamplingParams
from tests.engines.kinds import (
    KINDS,
    PROMPT,
    MakeEngine,
    Script,
    collect,
    make_slot,
    text_of,
    vllm_engine,
)

EFFORTS: tuple[Effort | None, ...] = (None, *get_args(Effort))
SCHEMA = {
    "type": "object",
    "properties": {"points": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
    "required": ["points"],
    "additionalProperties": False,
}


async def become_idle(engine: ManagedEngine) -> None:
    async with asyncio.timeout(10):
        while (await engine.stats()).running:  # noqa: ASYNC110  no engine tells when it is idle
            await asyncio.sleep(0.02)


async def test_deltas_join_to_the_text(make_engine: MakeEngine) -> None:
    text = "Grüße, Welt!\n\n  Zwei  Zeilen 🎉 "

    async with make_engine(Script(text)) as engine:
        deltas = await collect(engine, PROMPT)

    assert text_of(deltas) == text


async def test_only_the_last_delta_has_finish_reason_and_usage(make_engine: MakeEngine) -> None:
    async with make_engine(Script("one two three")) as engine:
        *others, last = await collect(engine, PROMPT)
        counted = await engine.count_tokens(PROMPT.messages)

    assert all(delta.finish_reason is None and delta.usage is None for delta in others)
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens == 3
    assert last.usage.prompt_tokens == counted


async def test_reasoning_is_kept_apart_from_the_text(make_engine: MakeEngine) -> None:
    async with make_engine(Script("42.", reasoning="six times seven")) as engine:
        deltas = await collect(engine, PROMPT)

    assert "".join(delta.reasoning for delta in deltas) == "six times seven"
    assert text_of(deltas) == "42."


async def test_closing_the_stream_stops_the_work(make_engine: MakeEngine) -> None:
    # 33 ms per token: unless stopped, it would run for a minute.
    async with make_engine(Script("word " * 1000, profile="cpu-135m")) as engine:
        async with aclosing(engine.generate(PROMPT)) as deltas:
            await anext(deltas)
            assert (await engine.stats()).running == 1

        await become_idle(engine)


async def test_cancelling_the_reader_stops_the_work(make_engine: MakeEngine) -> None:
    async with make_engine(Script("word " * 10, failure="stall")) as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await collect(engine, PROMPT)

        await become_idle(engine)


async def test_same_seed_gives_the_same_text(make_engine: MakeEngine) -> None:
    prompt = replace(PROMPT, sampling=SamplingParams(temperature=1.0, seed=7))

    async with make_engine(Script()) as engine:
        first = await collect(engine, prompt)
        second = await collect(engine, prompt)

    assert text_of(first) == text_of(second) != ""


async def test_repeated_prompt_is_read_from_the_cache(make_engine: MakeEngine) -> None:
    prompt = Prompt((Message("user", "The same long question again. " * 40),))

    async with make_engine(Script()) as engine:
        first = (await collect(engine, prompt))[-1].usage
        second = (await collect(engine, prompt))[-1].usage

    assert first is not None
    assert second is not None
    assert first.cached_tokens == 0 < second.cached_tokens < second.prompt_tokens


async def test_block_size_is_told_and_hits_are_whole_blocks(make_engine: MakeEngine) -> None:
    prompt = Prompt((Message("user", "The same long question again. " * 40),))

    async with make_engine(Script()) as engine:
        await collect(engine, prompt)
        usage = (await collect(engine, prompt))[-1].usage
        block = engine.facts.block_size

    assert usage is not None
    assert block > 0
    assert usage.cached_tokens == (usage.prompt_tokens - 1) // block * block


async def test_engine_without_a_prefix_cache_tells_no_block_size(make_engine: MakeEngine) -> None:
    prompt = Prompt((Message("user", "The same long question again. " * 40),))

    async with make_engine(Script(caches_prefixes=False)) as engine:
        await collect(engine, prompt)
        usage = (await collect(engine, prompt))[-1].usage

        assert engine.facts.block_size == 0
    assert usage is not None
    assert usage.cached_tokens == 0


async def test_time_is_counted_in_what_an_engine_of_ours_occupies(
    make_engine: MakeEngine, run_dir: Path
) -> None:
    async with make_engine(Script()) as engine:
        found = (engine.facts.device, engine.facts.devices)
        is_child = engine.pid is not None
    on_gpu = vllm_engine(Script(can_sleep=True), run_dir).facts

    assert found == (("cpu", len(make_slot().cores)) if is_child else ("engine", 1))
    assert (on_gpu.device, on_gpu.devices) == ("gpu", 1)


async def test_likeliest_tokens_of_a_verdict_are_told(make_engine: MakeEngine) -> None:
    prompt = replace(PROMPT, sampling=SamplingParams(max_tokens=1), logprobs=2)

    async with make_engine(Script(verdict={"C": 0.05, "A": 0.25, "B": 0.7})) as engine:
        deltas = await collect(engine, prompt)

    assert text_of(deltas) == "B"
    ((place,),) = [delta.logprobs for delta in deltas if delta.logprobs]
    assert {
        token: math.exp(logprob) for token, logprob in place.alternatives.items()
    } == pytest.approx({"B": 0.7, "A": 0.25})


async def test_logprobs_come_with_each_token_and_only_if_asked(make_engine: MakeEngine) -> None:
    async with make_engine(Script("one two", reasoning="hm")) as engine:
        asked = await collect(engine, replace(PROMPT, logprobs=20))
        unasked = await collect(engine)

    said = [(d.text or d.reasoning, [p.alternatives for p in d.logprobs]) for d in asked[:-1]]
    assert said == [("hm", [{"hm": 0.0}]), ("one", [{"one": 0.0}]), (" two", [{" two": 0.0}])]
    assert all(delta.logprobs == () for delta in unasked)


async def test_reasoning_model_thinks_unless_told_not_to(make_engine: MakeEngine) -> None:
    async with make_engine(Script("42.", reasoning="six times seven")) as engine:
        answers = {e: await collect(engine, replace(PROMPT, effort=e)) for e in EFFORTS}

    thoughts = {e: "".join(d.reasoning for d in deltas) for e, deltas in answers.items()}
    assert thoughts == {e: "" if e == "none" else "six times seven" for e in EFFORTS}
    assert {text_of(deltas) for deltas in answers.values()} == {"42."}


async def test_stats_show_what_runs_and_a_cache_that_fills(make_engine: MakeEngine) -> None:
    # 33 ms per token: it runs for a minute.
    async with make_engine(Script("word " * 1000, profile="cpu-135m")) as engine:
        async with aclosing(engine.generate(PROMPT)) as deltas:
            await anext(deltas)
            busy = await engine.stats()

        await become_idle(engine)
        idle = await engine.stats()

    assert (busy.running, busy.waiting) == (1, 0)
    assert 0 == idle.kv_cache_usage < busy.kv_cache_usage <= 1


async def test_schema_is_obeyed(make_engine: MakeEngine) -> None:
    async with make_engine(Script("no JSON at all")) as engine:
        deltas = await collect(engine, replace(PROMPT, schema=SCHEMA))

    value = json.loads(text_of(deltas))
    assert list(value) == ["points"]
    assert all(isinstance(point, str) for point in value["points"])
    assert len(value["points"]) >= 2


async def test_max_tokens_cuts_the_answer(make_engine: MakeEngine) -> None:
    prompt = replace(PROMPT, sampling=SamplingParams(max_tokens=3))

    async with make_engine(Script("one two three four five")) as engine:
        last = (await collect(engine, prompt))[-1]

    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 3


async def test_stop_string_ends_the_answer_and_is_left_out(make_engine: MakeEngine) -> None:
    prompt = replace(PROMPT, sampling=SamplingParams(stop=(" three",)))

    async with make_engine(Script("one two three four")) as engine:
        deltas = await collect(engine, prompt)

    assert text_of(deltas) == "one two"
    assert deltas[-1].finish_reason == "stop"


async def test_prompt_beyond_the_context_is_refused(make_engine: MakeEngine) -> None:
    prompt = Prompt((Message("user", "word " * 300),))

    async with make_engine(Script(max_model_len=256)) as engine:
        assert engine.facts.max_model_len == 256

        with pytest.raises(ContextLengthError, match="256"):
            await collect(engine, prompt)


async def test_count_of_tokens_grows_with_the_text(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        short = await engine.count_tokens((Message("user", "word"),))
        long = await engine.count_tokens((Message("user", "word " * 50),))

    assert 0 < short < long


async def test_concurrent_answers_do_not_mix(make_engine: MakeEngine) -> None:
    questions = [f"question number {n} and nothing else" for n in range(8)]

    async with make_engine(Script(echo=True)) as engine, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(collect(engine, Prompt((Message("user", question),))))
            for question in questions
        ]

    assert [text_of(task.result()) for task in tasks] == questions


async def test_priority_is_accepted(make_engine: MakeEngine) -> None:
    async with make_engine(Script("fine")) as engine:
        deltas = await collect(engine, replace(PROMPT, priority=-10))

        assert engine.facts.supports_priority
    assert text_of(deltas) == "fine"


async def test_death_in_mid_stream_is_an_error_and_stays_one(make_engine: MakeEngine) -> None:
    async with make_engine(Script("one two three four", failure="die")) as engine:
        async with aclosing(engine.generate(PROMPT)) as deltas:
            received = [await anext(deltas), await anext(deltas)]
            with pytest.raises(EngineError) as raised:
                await anext(deltas)

        assert text_of(received) == "one two"
        assert raised.value.code == "engine_died"
        with pytest.raises(EngineError):
            await collect(engine, PROMPT)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("error_event", "engine_error"),
        ("truncated", "truncated"),
        ("malformed", "malformed_stream"),
    ],
)
async def test_bad_stream_is_an_error_never_a_short_answer(
    make_engine: MakeEngine, failure: FailureKind, code: str
) -> None:
    async with make_engine(Script("one two three four", failure=failure)) as engine:
        with pytest.raises(EngineError) as raised:
            await collect(engine, PROMPT)

    assert raised.value.code == code


@pytest.mark.parametrize("kind", ["sim", "openai"])
async def test_full_queue_is_overload_with_a_time_to_come_back(kind: str, run_dir: Path) -> None:
    async with KINDS[kind](Script(failure="overloaded"), run_dir) as engine:
        with pytest.raises(OverloadedError) as raised:
            await collect(engine, PROMPT)

    assert raised.value.retry_after == 1.0
