"""What SimEngine says, how it fails, and what it counts; in virtual time."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.base import ManagedEngine, Phase
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.engines.sim_reply import tokenize
from localfusion.errors import EngineError, EngineUnavailableError, RequestError
from localfusion.types import Delta, Prompt, Usage
from tests.engines.asking import HELLO, ask, collect, say, times

pytestmark = pytest.mark.virtual_time


async def test_it_is_a_managed_engine_ready_at_once() -> None:
    engine = SimEngine("x")

    assert isinstance(engine, ManagedEngine)
    assert engine.is_ready
    assert await say(engine) == "x"


async def test_texts_follow_each_other_and_the_last_one_stays() -> None:
    engine = SimEngine(["one", "two"])

    assert [await say(engine) for _ in range(3)] == ["one", "two", "two"]


async def test_function_answers_the_prompt() -> None:
    engine = SimEngine(lambda prompt: prompt.messages[-1].content.upper())

    assert await say(engine, ask("hello")) == "HELLO"


async def test_calls_are_recorded_in_order() -> None:
    engine = SimEngine("x")

    await say(engine, ask("a"))
    await say(engine, ask("b"))

    assert engine.calls == [ask("a"), ask("b")]


async def test_empty_text_is_an_answer() -> None:
    (last,) = await collect(SimEngine(""))

    assert last.finish_reason == "stop"
    assert last.usage == Usage(4, 1, calls=1)


async def test_json_script_is_said_under_a_schema() -> None:
    engine = SimEngine('{"a": 1}')

    assert await say(engine, replace(HELLO, schema={"type": "object"})) == '{"a": 1}'


async def test_answer_ends_where_the_context_does() -> None:
    engine = SimEngine("word " * 50, max_model_len=10)

    last = (await collect(engine, ask("Hello", max_tokens=40)))[-1]

    assert last.finish_reason == "length"
    assert last.usage == Usage(4, 6, calls=1)


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_leaving_before_the_last_delta_is_an_abort(read: int) -> None:
    engine = SimEngine("one two three", delay=1)

    async with aclosing(engine.generate(HELLO)) as deltas:
        for _ in range(read):
            await anext(deltas)

    assert engine.aborts == (1 if read else 0)  # a generator that never ran has no request
    assert (await engine.stats()).running == 0


async def test_leaving_after_the_last_delta_is_none() -> None:
    engine = SimEngine("one")

    async with aclosing(engine.generate(HELLO)) as deltas:
        async for delta in deltas:
            if delta.finish_reason:
                break

    assert engine.aborts == 0


async def test_cancelled_reader_is_one_abort() -> None:
    engine = SimEngine("one", delay=1000)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await collect(engine)

    assert engine.aborts == 1
    assert (await engine.stats()).running == 0


async def test_verdict_may_depend_on_the_prompt_and_be_none() -> None:
    engine = SimEngine("script", verdict=lambda p: {"A": 0.4, "B": 0.6} if p.priority else {})

    decided = await collect(engine, replace(ask("x", priority=1), logprobs=5))
    scripted = await collect(engine, replace(HELLO, logprobs=5))

    assert alternatives(decided[0]) == [{"B": log(0.6), "A": log(0.4)}]
    assert alternatives(scripted[0]) == [{"script": 0.0}]


async def test_verdict_is_given_only_where_logprobs_are_asked_for() -> None:
    engine = SimEngine("script", verdict={"A": 1.0})

    assert await say(engine) == "script"
    assert await say(engine, replace(HELLO, logprobs=1)) == "A"


async def test_impossible_token_has_a_logprob_that_json_knows() -> None:
    engine = SimEngine(verdict={"A": 1.0, "B": 0.0})

    first, *_ = await collect(engine, replace(HELLO, logprobs=2))

    assert alternatives(first) == [{"A": 0.0, "B": -9999.0}]


async def test_judge_that_thinks_gives_its_verdict_after_its_thoughts() -> None:
    engine = SimEngine(reasoning="hm", verdict={"A": 0.8, "B": 0.2})
    prompt = replace(ask("x", max_tokens=1), logprobs=2)

    thinking = await collect(engine, prompt)
    silent = await collect(engine, replace(prompt, effort="none"))

    assert thinking[0].reasoning == "hm"
    assert alternatives(thinking[0]) == [{"hm": 0.0}]
    assert thinking[-1].finish_reason == "length"
    assert silent[0].text == "A"


async def test_facts_are_the_profiles() -> None:
    gpus = SimEngine(profile=SimProfile(block_size=32, devices=2, device="gpu")).facts
    without_cache = SimEngine(profile=SimProfile(caches_prefixes=False)).facts

    assert (gpus.block_size, gpus.devices, gpus.device) == (32, 2, "gpu")
    assert (without_cache.block_size, without_cache.devices) == (0, 1)


async def test_dead_engine_has_no_stats() -> None:
    engine = SimEngine()
    assert (await engine.stats()).running == 0

    engine.kill()

    with pytest.raises(EngineUnavailableError):
        await engine.stats()


async def test_start_takes_its_time_and_tells_its_phases() -> None:
    engine = SimEngine(profile=SimProfile(start_seconds=30))
    phases: list[tuple[Phase, float]] = []

    await engine.start(lambda change: phases.append((change.phase, change.seconds)))

    assert phases == [("loading", 0), ("ready", 30)]


async def test_start_revives_a_dead_engine_with_an_empty_cache() -> None:
    prompt = ask("word " * 100)
    failures = iter([None, SimFailure("die"), None])
    engine = SimEngine("x", failure=lambda _: next(failures))
    await say(engine, prompt)
    with pytest.raises(EngineError):
        await say(engine, prompt)
    assert not engine.is_ready

    await engine.start(lambda _: None)

    usage = (await collect(engine, prompt))[-1].usage
    assert usage is not None
    assert usage.cached_tokens == 0


async def test_death_takes_the_other_calls_along() -> None:
    engine = SimEngine(
        "one two",
        delay=5,
        failure=lambda prompt: SimFailure("die") if prompt.priority else None,
    )

    async def failure_of(prompt: Prompt) -> str:
        with pytest.raises(EngineError) as raised:
            await say(engine, prompt)
        return raised.value.code

    async with asyncio.TaskGroup() as group:
        bystander = group.create_task(failure_of(HELLO))
        await asyncio.sleep(1)
        culprit = group.create_task(failure_of(ask("x", priority=1)))

    assert (bystander.result(), culprit.result()) == ("engine_died", "engine_died")
    assert asyncio.get_running_loop().time() == 1


async def test_refusing_engine_is_unavailable() -> None:
    with pytest.raises(EngineUnavailableError):
        await collect(SimEngine(failure=SimFailure("refuse")))


async def test_drip_is_slow_but_whole() -> None:
    engine = SimEngine("one two", failure=SimFailure("drip", seconds=100))

    assert await times(engine) == [100, 200]


async def test_wrong_usage_says_nothing() -> None:
    engine = SimEngine("one two", failure=SimFailure("wrong_usage"))

    assert (await collect(engine))[-1].usage == Usage(calls=1)


async def test_failed_call_is_no_abort_and_frees_its_place() -> None:
    engine = SimEngine("one two", failure=SimFailure("truncated", at_token=2))

    with pytest.raises(EngineError) as raised:
        await collect(engine)

    assert raised.value.code == "truncated"
    assert engine.aborts == 0
    assert (await engine.stats()).running == 0


async def test_failure_may_depend_on_the_prompt() -> None:
    engine = SimEngine("x", failure=lambda p: SimFailure("refuse") if p.schema else None)

    assert await say(engine) == "x"
    with pytest.raises(EngineUnavailableError):
        await say(engine, replace(HELLO, schema={"type": "null"}))


async def test_schema_that_nothing_obeys_is_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="schema"):
        await say(SimEngine("no JSON"), replace(HELLO, schema={"$ref": "#"}))


def alternatives(delta: Delta) -> list[dict[str, float]]:
    return [dict(place.alternatives) for place in delta.logprobs]
