"""Spans of runs: which there are, when, what they hold; their names are those of the standard."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import FusionError
from localfusion.events import Event, RunStarted
from localfusion.fusion import Fusion
from localfusion.fusion.policies import POLICIES
from localfusion.telemetry import spans
from localfusion.telemetry.runs import ENDS, TOKENS
from localfusion.telemetry.spans import Span, spans_of
from localfusion.types import Message, Request
from tests import virtual_time
from tests.fusion.conftest import judge_says
from tests.telemetry.test_runs import ENGINES

pytestmark = pytest.mark.virtual_time

TEXT = "canaryprompt: what do 12 pens cost?"
KNOWN = {"demo", "a", "b", "judge"}


async def run(
    engines: Mapping[str, SimEngine], preset: Mapping[str, object], leaves: float | None = None
) -> tuple[list[Event], tuple[Span, ...]]:
    """Run a fusion of ``a``, ``b`` and ``judge``; return what an observer saw, and its spans."""
    seen: list[Event] = []
    fields = {"panel": ["a", "b"], "judge": "judge", "prefill": False, **preset}
    presets = {"demo": Preset.model_validate(fields)}
    fusion = Fusion(engines, presets, default_preset="demo", observers=[seen.append])
    try:
        async with asyncio.timeout(leaves):
            await fusion.complete(Request("demo", (Message("user", TEXT),)))
    except (FusionError, TimeoutError):
        pass
    kept = [event for event in seen if type(event) not in TOKENS]
    return seen, spans_of(kept) if kept else ()


def trio(**given: SimEngine) -> dict[str, SimEngine]:
    usual = {"a": SimEngine("8", delay=2), "b": SimEngine("9", delay=3)}
    return {**usual, "judge": SimEngine(judge_says(), delay=4), **given}


def table(found: tuple[Span, ...]) -> list[tuple[str, object, float, float]]:
    return [(s.name, s.attributes.get(spans.STAGE), s.began, s.ended) for s in found]


async def test_run_and_its_calls_are_spans() -> None:
    _, found = await run(trio(), {"options": {"analysis": "separate"}})

    assert table(found) == [
        ("invoke_workflow demo", None, 0, 11),
        ("chat a", "panel", 0, 2),
        ("chat b", "panel", 0, 3),
        ("chat judge", "analysis", 3, 7),
        ("chat judge", "synthesis", 7, 11),
    ]
    assert [span.error for span in found] == [None] * 5
    assert found[0].attributes[spans.STATUS] == "full"
    assert found[4].attributes[spans.FIRST_CHUNK] == 4
    assert found[4].attributes[spans.FINISH_REASONS] == ("stop",)
    whole = found[0].attributes
    for name in (spans.INPUT_TOKENS, spans.OUTPUT_TOKENS, spans.CACHED_TOKENS):
        assert whole[name] == sum(int(str(span.attributes[name])) for span in found[1:])


async def test_plain_model_is_one_call() -> None:
    _, found = await run(trio(), {"policy": "single", "panel": ["a"], "judge": None})

    assert table(found) == [
        ("invoke_workflow demo", None, 0, 2),
        ("chat a", "synthesis", 0, 2),
    ]


async def test_plain_model_that_fails_is_a_call_that_failed() -> None:
    dead = trio(a=SimEngine(delay=1, failure=SimFailure("die", at_token=0)))
    _, found = await run(dead, {"policy": "single", "panel": ["a"], "judge": None})

    assert [(span.name, span.error) for span in found] == [
        ("invoke_workflow demo", "engine_died"),
        ("chat a", "engine_died"),
    ]


async def test_verdict_begins_where_the_panel_ended() -> None:
    judge = SimEngine("Anew.", delay=4, verdict={"A": 0.9, "B": 0.1})
    _, found = await run(trio(judge=judge), {"policy": "select"})

    assert table(found)[3:] == [("chat judge", "verdict", 3, 7)]


async def test_reading_ahead_is_a_call_of_the_judge() -> None:
    slow = trio(b=SimEngine("9", delay=30), judge=SimEngine(judge_says(), delay=1))
    _, found = await run(slow, {"prefill": True, "quorum": 2})

    ahead = [span for span in found if span.attributes.get(spans.STAGE) == "prefill"]
    assert ahead
    assert all(span.name == "chat judge" for span in ahead)
    assert all(span.ended - span.began == pytest.approx(1) for span in ahead)


async def test_each_attempt_of_a_judge_is_a_call() -> None:
    _, found = await run(trio(judge=SimEngine(judge_says(""))), {"fallback_judge": "a"})

    assert [(span.name, span.error) for span in found] == [
        ("invoke_workflow demo", None),
        ("chat a", None),
        ("chat b", None),
        ("chat judge", "judge_empty_completion"),
        ("chat a", None),
    ]


async def test_calls_that_go_on_when_the_client_leaves_end_with_it() -> None:
    _, found = await run(trio(), {}, leaves=2.5)

    assert table(found) == [
        ("invoke_workflow demo", None, 0, 2.5),
        ("chat a", "panel", 0, 2),
        ("chat b", "panel", 0, 2.5),
    ]
    assert [span.error for span in found] == ["cancelled", None, "cancelled"]


@settings(max_examples=60)
@given(
    engines=st.fixed_dictionaries(dict.fromkeys(("a", "b", "judge"), ENGINES)),
    policy=st.sampled_from(sorted(POLICIES)),
    prefill=st.booleans(),
    leaves=st.none() | st.floats(0, 20),
)
def test_spans_of_any_run_lie_inside_it_and_hold_no_content(
    engines: dict[str, SimEngine], policy: str, prefill: bool, leaves: float | None
) -> None:
    preset: dict[str, object] = {"policy": policy, "prefill": prefill}
    if policy == "single":
        preset |= {"panel": ["a"], "judge": None}

    seen, found = virtual_time.run(run(engines, preset, leaves))

    if not seen:
        return
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], ENDS)
    whole, *calls = found
    assert (whole.began, whole.ended) == (0, seen[-1].at)
    for span in found:
        assert 0 <= span.began <= span.ended + 1e-9 <= whole.ended + 2e-9
        assert "canary" not in repr(span)
    assert {span.name for span in calls} <= {f"chat {name}" for name in KNOWN}
    candidates = [span for span in calls if spans.CANDIDATE in span.attributes]
    assert len(candidates) == len({span.attributes[spans.CANDIDATE] for span in candidates})


def test_names_are_those_of_the_conventions() -> None:
    ours = {
        name: value
        for name, value in vars(spans).items()
        if isinstance(value, str) and value.startswith("gen_ai.")
    }
    theirs = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_")}
    operations = gen_ai_attributes.GenAiOperationNameValues

    assert len(ours) == 14
    assert set(ours.values()) <= theirs
    assert operations.CHAT.value == spans.CHAT
    assert operations.INVOKE_WORKFLOW.value == spans.WORKFLOW
    assert error_attributes.ERROR_TYPE == spans.ERROR_TYPE
    assert spans.SCHEMA in {schema.value for schema in Schemas}
