"""What every engine owes, asked of each kind alike."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from localfusion.engines.base import ManagedEngine
from localfusion.engines.sim import FailureKind
from localfusion.errors import (
    ContextLengthError,
    EngineError,
    EngineUnavailableError,
    OverloadedError,
)
from localfusion.types import Message, Prompt, SamplingParams
from tests.engines.kinds import KINDS, PROMPT, Script, collect, ignore, text_of

MakeEngine = Callable[[Script], AbstractAsyncContextManager[ManagedEngine]]

SCHEMA = {
    "type": "object",
    "properties": {"points": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
    "required": ["points"],
    "additionalProperties": False,
}


@pytest.fixture(params=KINDS)
def make_engine(request: pytest.FixtureRequest, run_dir: Path) -> MakeEngine:
    open_engine = KINDS[request.param]
    return lambda script: open_engine(script, run_dir)


async def become_idle(engine: ManagedEngine) -> None:
    async with asyncio.timeout(10):
        while (await engine.stats()).running:  # noqa: ASYNC110  no engine tells when it is idle
            await asyncio.sleep(0.02)


def sockets_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


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


async def test_stopped_engine_says_that_it_is_unavailable(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        was_ready = engine.is_ready

        await engine.stop()
        await engine.stop()

        assert (was_ready, engine.is_ready) == (True, False)
        with pytest.raises(EngineUnavailableError):
            await collect(engine, PROMPT)


async def test_stop_in_mid_stream_is_an_error_of_the_engine(make_engine: MakeEngine) -> None:
    script = Script("word " * 1000, profile="cpu-135m")

    async with make_engine(script) as engine, aclosing(engine.generate(PROMPT)) as deltas:
        await anext(deltas)

        await engine.stop()

        with pytest.raises(EngineError):
            [delta async for delta in deltas]


async def test_stop_leaves_no_child_and_no_socket(make_engine: MakeEngine, run_dir: Path) -> None:
    before = set(psutil.Process().children(recursive=True))

    async with make_engine(Script()) as engine:
        await collect(engine, PROMPT)

    assert set(psutil.Process().children(recursive=True)) == before
    assert sockets_in(run_dir) == []


async def test_stopped_engine_starts_again(make_engine: MakeEngine) -> None:
    async with make_engine(Script("fine")) as engine:
        await engine.stop()
        await engine.start(ignore)

        assert engine.is_ready
        assert text_of(await collect(engine)) == "fine"


async def test_asked_stop_is_no_death(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine, asyncio.TaskGroup() as group:
        death = group.create_task(engine.died())
        await engine.stop()
        await engine.start(ignore)
        await collect(engine)

        assert not death.done()
        death.cancel()


@pytest.mark.parametrize("kind", ["sim", "vllm"])
async def test_death_is_told_with_its_reason_and_mended_by_a_start(
    kind: str, run_dir: Path
) -> None:
    async with KINDS[kind](Script("one two three", failure="die"), run_dir) as engine:
        with pytest.raises(EngineError):
            await collect(engine)

        async with asyncio.timeout(30):
            reason = await engine.died()
        was_ready = engine.is_ready
        await engine.stop()
        await engine.start(ignore)

        assert reason
        assert (was_ready, engine.is_ready) == (False, True)


async def test_process_is_named_while_it_runs(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        pid = engine.pid
        lines = engine.last_lines
        await engine.stop()

        assert engine.pid is None
    if pid is not None:  # it leads a process group of its own
        assert not psutil.pid_exists(pid)
        assert lines


@pytest.mark.parametrize("kind", ["sim", "vllm"])
async def test_sleeping_engine_comes_back(kind: str, run_dir: Path) -> None:
    async with KINDS[kind](Script("fine", can_sleep=True), run_dir) as engine:
        assert engine.can_sleep

        await engine.sleep()
        with pytest.raises(EngineError, match="sleep"):
            await collect(engine)
        await engine.wake()

        assert text_of(await collect(engine)) == "fine"


async def test_engine_without_the_means_cannot_sleep(make_engine: MakeEngine) -> None:
    async with make_engine(Script()) as engine:
        assert not engine.can_sleep
        with pytest.raises(EngineError):
            await engine.sleep()
        with pytest.raises(EngineError):
            await engine.wake()

        assert text_of(await collect(engine))


@pytest.mark.parametrize("kind", ["sim", "openai"])
async def test_full_queue_is_overload_with_a_time_to_come_back(kind: str, run_dir: Path) -> None:
    async with KINDS[kind](Script(failure="overloaded"), run_dir) as engine:
        with pytest.raises(OverloadedError) as raised:
            await collect(engine, PROMPT)

    assert raised.value.retry_after == 1.0
