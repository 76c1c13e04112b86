"""When SimEngine's tokens come: formula, load, queue and cache; in virtual time."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import PROFILES, SimProfile
from localfusion.errors import OverloadedError
from localfusion.types import SamplingParams, Usage
from tests import virtual_time
from tests.engines.asking import HELLO, ask, collect, say, times, together

pytestmark = pytest.mark.virtual_time


async def test_delay_comes_before_the_first_token_and_nothing_else_takes_time() -> None:
    assert await times(SimEngine("one two three", delay=7)) == [7, 7, 7]


@given(
    words=st.integers(0, 300),
    out=st.integers(1, 60),
    repeats=st.integers(1, 3),
    overhead=st.floats(0, 1),
    per_token=st.floats(0, 0.01),
    inter_token=st.floats(0, 0.5),
    budget=st.integers(1, 500),
)
def test_alone_it_takes_what_the_formula_says(
    words: int,
    out: int,
    repeats: int,
    overhead: float,
    per_token: float,
    inter_token: float,
    budget: int,
) -> None:
    profile = SimProfile(
        overhead, per_token, inter_token, max_num_batched_tokens=budget, time_factor_under_load=3
    )

    async def measure() -> None:
        engine = SimEngine("word " * 60, profile=profile)
        prompt = ask("word " * words, max_tokens=out)
        clock = asyncio.get_running_loop().time
        for _ in range(repeats):
            began = clock()
            usage = (await collect(engine, prompt))[-1].usage
            assert usage is not None
            fresh = usage.prompt_tokens - usage.cached_tokens
            expected = overhead + fresh * per_token + (out - 1) * inter_token
            assert clock() - began == pytest.approx(expected, abs=1e-6)

    virtual_time.run(measure())


async def test_busy_engine_is_slower_by_its_factor() -> None:
    profile = SimProfile(inter_token=1, max_num_seqs=2, time_factor_under_load=1.5)
    engine = SimEngine("one two three", profile=profile)

    assert await together(lambda: times(engine), lambda: times(engine)) == [
        [0, 1.5, 3],
        [1.5, 3, 4],  # its prompt is read beside the other's second token; its last step is alone
    ]


async def test_long_prefill_slows_its_neighbors() -> None:
    profile = SimProfile(prefill_per_token=0.01, inter_token=1, max_num_batched_tokens=100)
    engine = SimEngine("one two three", profile=profile)

    async def late() -> list[float]:
        await asyncio.sleep(0.5)
        return await times(engine, ask("word " * 197))  # 201 tokens: three steps

    early, _ = await together(lambda: times(engine), late)

    assert early == pytest.approx([0.04, 1.04, 3.04])


async def test_prompt_read_ahead_delays_decoding_by_its_own_reading_alone() -> None:
    profile = SimProfile(prefill_per_token=0.01, inter_token=1, max_num_batched_tokens=100)
    engine = SimEngine("word " * 5, profile=profile)

    async def ahead() -> list[float]:
        await asyncio.sleep(0.5)
        return await times(engine, ask("other " * 146, max_tokens=1, priority=10))  # 150 tokens

    decoding, read = await together(lambda: times(engine, ask("Go", max_tokens=5)), ahead)

    steps = [later - earlier for earlier, later in pairwise(decoding)]
    assert steps == pytest.approx([1, 2, 1.5, 1])
    assert read == pytest.approx([decoding[3]])


async def test_prompts_that_are_read_together_share_the_budget_of_a_step() -> None:
    profile = SimProfile(prefill_per_token=0.01, max_num_batched_tokens=100)
    engine = SimEngine("x", profile=profile, delay=5)

    results = await together(
        lambda: times(engine, ask("a " * 76)),  # 80 tokens
        lambda: times(engine, ask("b " * 76)),
    )

    # 80 and 20 tokens in the first step, 60 in the second.
    assert results == [pytest.approx([6.0]), pytest.approx([6.6])]


async def test_more_than_max_num_seqs_wait_their_turn() -> None:
    profile = SimProfile(inter_token=1, max_num_seqs=1)
    engine = SimEngine("one two", profile=profile)

    assert await together(*[lambda: times(engine)] * 3) == [[0, 1], [1, 2], [2, 3]]


async def test_lower_priority_number_runs_first() -> None:
    engine = SimEngine("one two", profile=SimProfile(inter_token=1, max_num_seqs=1))

    results = await together(
        lambda: times(engine),
        lambda: times(engine, ask("panel", priority=0)),
        lambda: times(engine, ask("judge", priority=-10)),
    )

    assert results == [[0, 1], [2, 3], [1, 2]]


async def test_full_queue_refuses() -> None:
    profile = SimProfile(inter_token=1, max_num_seqs=1, max_num_queued_reqs=1)
    engine = SimEngine("one two", profile=profile)
    running, waiting = engine.generate(HELLO), engine.generate(HELLO)
    await anext(running)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(say_rest(waiting))
        await asyncio.sleep(0)
        assert (await engine.stats()).waiting == 1
        with pytest.raises(OverloadedError):
            await say(engine)
        await running.aclose()

    assert task.result() == "one two"


async def say_rest(deltas: object) -> str:
    assert hasattr(deltas, "__aiter__")
    return "".join([delta.text async for delta in deltas])


@given(st.integers(0, 2**31), st.floats(0.01, 0.3))
def test_jitter_comes_from_the_seed_and_stays_in_bounds(seed: int, jitter: float) -> None:
    async def measure() -> list[float]:
        engine = SimEngine("one two three", profile=SimProfile(inter_token=1, jitter=jitter))
        return await times(engine, replace(HELLO, sampling=SamplingParams(seed=seed)))

    first, second = virtual_time.run(measure()), virtual_time.run(measure())

    assert first == second
    steps = [later - earlier for earlier, later in pairwise(first)]
    assert all(0.3 - 1e-9 <= step <= 1.7 + 1e-9 for step in steps)
    assert steps[0] != steps[1]


# The cache.


async def test_cached_blocks_are_not_read_again() -> None:
    engine = SimEngine("x", profile=SimProfile(prefill_per_token=1))
    prompt = ask("word " * 96)  # 100 tokens: six full blocks of 16

    (first,) = await times(engine, prompt)
    (second,) = await times(engine, prompt)

    assert first == 100
    assert second - first == 100 - 96


async def test_longer_prompt_reads_only_what_is_new() -> None:
    engine = SimEngine("x")

    await collect(engine, ask("word " * 100))
    usage = (await collect(engine, ask("word " * 100 + "more")))[-1].usage

    assert usage == Usage(104, 1, 96, calls=1)


SLOW_READER = SimProfile(prefill_per_token=0.01, max_num_batched_tokens=100)
LONG = ask("word " * 197)  # 201 tokens, 12 full blocks: steps of 1 s, 1 s and 0.01 s


async def test_aborted_reading_leaves_its_blocks_and_the_step_that_runs_ends() -> None:
    engine = SimEngine("x", profile=SLOW_READER)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await collect(engine, LONG)
    moments = await times(engine, LONG)
    usage = (await collect(engine, LONG))[-1].usage

    assert moments == [pytest.approx(2 + 0.01 * (201 - 192))]
    assert usage is not None
    assert usage.cached_tokens == 192


async def test_reading_aborted_in_its_first_step_leaves_the_blocks_of_that_step_only() -> None:
    engine = SimEngine("x", profile=SLOW_READER)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await collect(engine, LONG)
    usage = (await collect(engine, LONG))[-1].usage

    assert usage is not None
    assert usage.cached_tokens == 96


async def test_prompt_that_another_is_reading_is_shared_as_far_as_it_is_read() -> None:
    engine = SimEngine("x", profile=SLOW_READER)

    async def late() -> list[float]:
        await asyncio.sleep(1.5)
        return await times(engine, LONG)

    first, second = await together(lambda: times(engine, LONG), late)

    assert first == second == [pytest.approx(2 + 0.01 * (1 + 9))]


async def test_waiting_request_that_leaves_has_read_nothing_and_lets_the_next_in() -> None:
    engine = SimEngine("one two", profile=replace(SLOW_READER, inter_token=1, max_num_seqs=1))

    async def leave() -> list[float]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await collect(engine, LONG)
        return []

    _, _, patient = await together(
        lambda: times(engine), leave, lambda: times(engine, ask("Good day", priority=10))
    )
    usage = (await collect(engine, LONG))[-1].usage

    assert patient == pytest.approx([1.09, 2.09])  # 4 tokens, a decoded one, and 5 tokens
    assert usage is not None
    assert usage.cached_tokens == 0


async def test_engine_without_a_prefix_cache_reads_everything_again() -> None:
    engine = SimEngine("x", profile=replace(SLOW_READER, caches_prefixes=False))

    (first,) = await times(engine, LONG)
    (second,) = await times(engine, LONG)

    assert second - first == pytest.approx(first)


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 30), st.floats(0, 5), st.integers(-1, 1)),
        max_size=8,
    )
)
def test_cache_holds_nothing_when_all_have_gone(calls: list[tuple[int, int, float, int]]) -> None:
    profile = SimProfile(
        prefill_per_token=0.02, inter_token=0.1, max_num_seqs=3, max_num_batched_tokens=30
    )
    engine = SimEngine("word " * 30, profile=replace(profile, num_blocks=8), max_model_len=128)

    async def call(words: int, out: int, patience: float, priority: int) -> list[float]:
        prompt = ask("word " * words, max_tokens=out, priority=priority)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await collect(engine, prompt)
        return []

    async def measure() -> None:
        await together(*[lambda c=c: call(*c) for c in calls])
        stats = await engine.stats()
        assert (stats.running, stats.waiting, stats.kv_cache_usage) == (0, 0, 0)
        assert (await collect(engine, ask("word " * 100)))[-1].finish_reason is not None

    virtual_time.run(measure())


async def test_least_recently_used_blocks_go_first_and_of_a_prompt_its_end() -> None:
    engine = SimEngine("x", profile=SimProfile(num_blocks=16), max_model_len=256)
    prompts = {name: ask(f"{name} " * 108) for name in "abc"}  # 112 tokens: six full blocks

    cached = []
    for name in "abacab":
        usage = (await collect(engine, prompts[name]))[-1].usage
        cached.append(usage.cached_tokens if usage else None)

    assert cached == [0, 0, 96, 0, 96, 48]


async def test_exhausted_cache_preempts_and_recomputes() -> None:
    profile = SimProfile(inter_token=1, num_blocks=8)
    engine = SimEngine("word " * 60, profile=profile, max_model_len=128)
    usages = []

    async def watched(priority: int) -> list[float]:
        clock = asyncio.get_running_loop().time
        moments = []
        async with aclosing(engine.generate(ask(f"{priority} ", priority=priority))) as deltas:
            async for delta in deltas:
                moments.append(clock())
                usages.append((await engine.stats()).kv_cache_usage)
                assert delta.text in ("word", " word", " ", "")
        return moments

    judge, panel, other = await together(*(lambda p=p: watched(p) for p in (-10, 0, 1)))

    assert len(judge) == len(panel) == len(other) == 62
    assert judge[-1] == 60  # never preempted
    assert panel[-1] > 60
    assert max(usages) <= 1
    assert (await engine.stats()).kv_cache_usage == 0


def test_too_few_blocks_for_one_request_are_refused() -> None:
    with pytest.raises(ValueError, match="2 blocks cannot hold 4096 tokens"):
        SimEngine(profile=SimProfile(num_blocks=2))


@pytest.mark.parametrize("name", PROFILES)
async def test_every_profile_answers_within_a_minute(name: str) -> None:
    moments = await times(SimEngine("one two three", profile=PROFILES[name]))

    assert moments == sorted(moments)
    assert moments[-1] < 60
