"""Metrics of runs, as Prometheus reads them: fusions of simulated engines, in virtual time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.errors import FusionError
from localfusion.events import Event
from localfusion.fusion.policies import POLICIES
from localfusion.replay import Changes, request_of
from localfusion.telemetry.engines import SERIES
from localfusion.telemetry.labels import REASONS, UNKNOWN
from localfusion.telemetry.metrics import Metrics
from localfusion.telemetry.runs import STATUSES
from localfusion.traces import Trace
from localfusion.types import Message, Request
from tests import virtual_time
from tests.fusion.conftest import judge_says
from tests.server.system import SimGateway, gateway
from tests.telemetry.pages import scrape

pytestmark = pytest.mark.virtual_time

QUESTION = Message("user", "What do 12 pens cost?")
REFUSING = SimFailure("refuse")
BUCKETS = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0"}
BUCKETS |= {"20.0", "30.0", "60.0", "120.0", "300.0", "600.0", "+Inf"}
SHARES = {"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"}


async def ask(system: SimGateway, model: str = "trio") -> None:
    await system.fusion.complete(Request(model, (QUESTION,)))


async def test_whole_run_is_accounted_for() -> None:
    system = gateway(a=SimEngine("8", delay=2), b=SimEngine("9", delay=4), c=SimEngine(delay=4.5))
    await ask(system)

    page = await scrape(system)

    assert page.nonzero("runs_total") == {"trio full": 1}
    assert page("run_seconds_sum", preset="trio") == 4.5
    assert page("first_token_seconds_sum", preset="trio") == 4.5
    assert page("first_token_seconds_bucket", preset="trio", le="2.5") == 0
    assert page("first_token_seconds_bucket", preset="trio", le="5.0") == 1
    assert page("quorum_wait_seconds_sum", preset="trio") == 4
    assert page("stage_seconds_sum", stage="panel") == 4.5
    assert page.nonzero("candidates_total") == {"a usable": 1, "b usable": 1, "c usable": 1}
    assert page.nonzero("engine_seconds_total") == {"a": 2, "b": 4, "c": 4.5}


async def test_replay_is_no_traffic() -> None:
    system = gateway()
    events: list[Event] = []
    system.observe(events.append)
    await ask(system)
    before = await scrape(system)
    trace = Trace.from_events(events, created=1e9)
    await system.fusion.complete(request_of(trace, Changes(order="reversed")))
    after = await scrape(system)

    assert after.nonzero("runs_total") == before.nonzero("runs_total") == {"trio full": 1}
    assert after.nonzero("tokens_total") == before.nonzero("tokens_total")


async def test_tokens_are_those_of_the_answer() -> None:
    system = gateway()
    answer = await system.fusion.complete(Request("trio", (QUESTION,)))

    page = await scrape(system)

    for stage, timing in answer.stages.items():
        usage = timing.usage
        assert page("tokens_total", stage=stage, kind="prompt") == usage.prompt_tokens
        assert page("tokens_total", stage=stage, kind="completion") == usage.completion_tokens
        assert page("cached_tokens_total", stage=stage) == usage.cached_tokens
    assert answer.usage.cached_tokens > 0


async def test_plain_model_is_a_preset_of_itself() -> None:
    system = gateway()
    await ask(system, "a")

    page = await scrape(system)

    assert page.nonzero("runs_total") == {"a single": 1}
    assert page("first_token_seconds_count", preset="a") == 1
    assert page.nonzero("quorum_wait_seconds_count") == {}


async def test_straggler_is_counted_as_cut() -> None:
    system = gateway(c=SimEngine(delay=1000), preset={"grace": 5})
    await ask(system)

    page = await scrape(system)

    assert page.nonzero("straggler_cuts_total") == {"c": 1}
    assert page("candidates_total", model="c", outcome="member_timeout") == 1
    assert page.nonzero("runs_total") == {"trio degraded": 1}


async def test_member_that_fails_is_no_straggler() -> None:
    system = gateway(c=SimEngine(failure=SimFailure("die", at_token=1)))
    await ask(system)

    page = await scrape(system)

    assert page("candidates_total", model="c", outcome="engine_died") == 1
    assert page.nonzero("straggler_cuts_total") == {}


async def test_failed_run_has_no_account() -> None:
    dead = {name: SimEngine(failure=REFUSING) for name in "abc"}
    system = gateway(engines=dead)
    with pytest.raises(FusionError):
        await ask(system)

    page = await scrape(system)

    assert page.nonzero("runs_total") == {"trio failed": 1}
    assert sum(page.nonzero("candidates_total").values()) == 3
    assert page.nonzero("run_seconds_count") == {}


async def test_run_whose_client_leaves_is_interrupted_and_forgotten() -> None:
    system = gateway(d=SimEngine(delay=100))
    async with asyncio.TaskGroup() as group:
        run = group.create_task(ask(system))
        await asyncio.sleep(50)
        run.cancel()
    await ask(system, "a")

    page = await scrape(system)

    assert page.nonzero("runs_total") == {"trio interrupted": 1, "a single": 1}


async def test_judge_that_cannot_write_is_blamed_for_each_attempt() -> None:
    system = gateway(d=SimEngine(judge_says("")), preset={"fallback_judge": "a"}, a=SimEngine(""))
    await ask(system)

    page = await scrape(system)

    # Both attempts at the answer: the judge's own, and that of the member in its place.
    assert page.nonzero("judge_failures_total") == {
        "d judge_empty_completion": 1,
        "a judge_empty_completion": 1,
    }
    assert page.nonzero("runs_total") == {"trio panel_only": 1}


async def test_judge_that_dies_while_it_writes_is_blamed() -> None:
    dying = SimEngine("It is eight.", failure=SimFailure("die", at_token=2))
    system = gateway(d=dying, preset={"options": {"analysis": "none"}})
    with pytest.raises(FusionError):
        await ask(system)

    page = await scrape(system)

    assert page.nonzero("judge_failures_total") == {"d judge_upstream_error": 1}
    assert page.nonzero("runs_total") == {"trio failed": 1}


async def test_broken_analysis_is_blamed_once() -> None:
    system = gateway(d=SimEngine(judge_says(analysis={"consensus": []})))
    await ask(system)

    page = await scrape(system)

    assert page.nonzero("judge_failures_total") == {"d judge_schema_mismatch": 1}


async def test_verdict_and_agreement_are_counted() -> None:
    # A judge that looks at the place alone: what it says survives a reversed order in part.
    system = gateway(
        d=SimEngine("Written anew.", verdict={"A": 0.4, "B": 0.35, "C": 0.25}),
        preset={"agreement": True, "policy": "select", "options": {}},
    )
    await ask(system)

    page = await scrape(system)

    assert page("judge_agreement_sum", judge="d") == pytest.approx(0.85)
    assert page("judge_agreement_bucket", judge="d", le="0.8") == 0
    assert page("judge_agreement_bucket", judge="d", le="0.9") == 1
    assert page.nonzero("verdict_exits_total") == {}


async def test_answer_that_is_a_chosen_draft_is_counted() -> None:
    sure = SimEngine("Written anew.", verdict={"A": 0.9, "B": 0.1})
    system = gateway(d=sure, preset={"policy": "select", "options": {}})
    await ask(system)

    page = await scrape(system)

    assert page.nonzero("verdict_exits_total") == {"trio": 1}


async def test_reading_ahead_is_counted() -> None:
    slow = SimEngine("Twelve.", delay=30)
    system = gateway(c=slow, preset={"prefill": True, "grace": 60})
    await ask(system)

    page = await scrape(system)

    assert page("prefills_total", outcome="read") > 0
    assert page("cached_tokens_total", stage="synthesis") > 0


async def test_presets_begin_at_zero() -> None:
    page = await scrape(gateway())

    runs = {labels for name, labels in page.samples if name == "localfusion_runs_total"}
    assert len(runs) == len(STATUSES)


async def test_series_have_no_time_of_their_making() -> None:
    system = gateway()
    await ask(system)

    page = await scrape(system)

    assert not [name for name, _ in page.samples if name.endswith("_created")]


ROUTES = {"/metrics", UNKNOWN}
CLOSED = {
    "preset": {"trio", *"abcd"},
    "model": set("abcd"),
    "judge": set("abcd") | {UNKNOWN},
    "engine": set("abcd"),
    "status": {*STATUSES, "2xx", "3xx", "4xx", "5xx", "gone"},
    "stage": {"panel", "prefill", "verdict", "analysis", "synthesis"},
    "kind": {"prompt", "completion"},
    "outcome": REASONS | {"usable", "read"},
    "reason": REASONS,
    "route": ROUTES,
    "le": BUCKETS | SHARES,
}
TEXTS = st.sampled_from(["8", "no", "", "canary", "```\nprint(8)\n```", "word " * 80])
KINDS = ["refuse", "die", "overloaded", "error_event", "truncated", "malformed", "drip", "stall"]
FAILURES = st.none() | st.builds(SimFailure, st.sampled_from(KINDS), st.integers(0, 3))
PROFILE = SimProfile(inter_token=0.01)
ENGINES = st.builds(
    SimEngine, TEXTS, delay=st.sampled_from([0, 1, 400]), failure=FAILURES, profile=st.just(PROFILE)
)


@given(
    engines=st.fixed_dictionaries(dict.fromkeys("abcd", ENGINES)),
    policy=st.sampled_from(sorted(POLICIES)),
    prefill=st.booleans(),
    leaves=st.none() | st.integers(0, 20),
)
def test_labels_of_any_run_are_on_the_closed_lists(
    engines: dict[str, SimEngine], policy: str, prefill: bool, leaves: int | None
) -> None:
    preset: dict[str, object] = {"policy": policy, "prefill": prefill, "options": {}}
    if policy == "single":
        preset["panel"] = ["a"]

    async def run() -> None:
        system = gateway(engines=engines, preset=preset)
        try:
            async with asyncio.timeout(leaves):
                await ask(system)
        except (FusionError, TimeoutError):
            pass
        page = await scrape(system)

        assert {name for name, _ in page.labels} <= set(CLOSED)
        assert {label for label in page.labels if label[1] not in CLOSED[label[0]]} == set()
        assert "canary" not in str(page)
        assert sum(page.nonzero("runs_total").values()) <= 1

    virtual_time.run(run())


def test_every_time_is_a_histogram_of_the_same_buckets() -> None:
    names = [s.name for s in Metrics().series if s.name.endswith("_seconds")]
    times = [s for s in Metrics().series if s.name in names]

    assert {s.kind for s in times} == {"histogram"}
    assert len({s.name for s in (*Metrics().series, *SERIES)}) == len([*Metrics().series, *SERIES])
