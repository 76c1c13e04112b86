"""What observers of all runs see: every event, one end for each run, codes for what failed."""

import asyncio

import pytest

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import QuorumError
from localfusion.events import (
    AnalysisCompleted,
    AnswerDelta,
    Event,
    Record,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunStarted,
    SynthesisStarted,
    VerdictCompleted,
)
from localfusion.fusion import Fusion
from tests.fusion.conftest import REQUEST, events_of, judge_says

pytestmark = pytest.mark.virtual_time

ENDS = (RunCompleted, RunFailed, RunAborted)


def observed(
    a: SimEngine, judge: SimEngine | None = None, **preset: object
) -> tuple[Fusion, list[Event]]:
    """Build a fusion of ``a``, ``b`` and a judge, and the list of all that an observer sees."""
    seen: list[Event] = []
    engines = {"a": a, "b": SimEngine("9"), "judge": judge or SimEngine(judge_says())}
    fields = {"panel": ["a", "b"], "judge": "judge", "prefill": False, **preset}
    presets = {"demo": Preset.model_validate(fields)}
    return Fusion(engines, presets, default_preset="demo", observers=[seen.append]), seen


async def test_observer_sees_what_the_client_gets() -> None:
    fusion, seen = observed(SimEngine("8"))

    events = await events_of(fusion)

    assert [event for event in seen if not isinstance(event, Record)] == events
    assert isinstance(seen[-1], RunCompleted)


async def test_failed_run_ends_once() -> None:
    dead = SimEngine(failure=SimFailure("refuse"))
    fusion, seen = observed(dead, panel=["a"], policy="fuse")

    with pytest.raises(QuorumError):
        await fusion.complete(REQUEST)

    assert [type(event) for event in seen if isinstance(event, ENDS)] == [RunFailed]


@pytest.mark.parametrize("seconds", [0, 3, 12])
async def test_run_whose_client_leaves_ends_for_observers(seconds: float) -> None:
    fusion, seen = observed(SimEngine("8", delay=10), SimEngine(judge_says(), delay=10))
    async with asyncio.TaskGroup() as group:
        run = group.create_task(fusion.complete(REQUEST))
        await asyncio.sleep(seconds)
        run.cancel()

    assert not seen or isinstance(seen[0], RunStarted)
    ends = [event for event in seen if isinstance(event, ENDS)]
    assert ends == seen[-1:]
    assert all(isinstance(end, RunAborted) and end.reason == "cancelled" for end in ends)
    assert [end.at for end in ends] == ([seconds] if seen else [])


async def test_client_that_leaves_at_the_last_event_changes_nothing() -> None:
    fusion, seen = observed(SimEngine("8"))

    async def leave(event: Event) -> None:
        if isinstance(event, RunCompleted):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await fusion.run(REQUEST, leave)

    assert [type(event) for event in seen if isinstance(event, ENDS)] == [RunCompleted]


async def test_fault_of_the_sink_ends_the_run_for_observers() -> None:
    fusion, seen = observed(SimEngine("8"))

    async def break_down(event: Event) -> None:
        if isinstance(event, AnswerDelta):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fusion.run(REQUEST, break_down)

    assert isinstance(seen[-1], RunAborted)
    assert seen[-1].reason == "broken_off"


async def test_failures_of_the_judge_have_codes() -> None:
    judge = SimEngine(judge_says(analysis={"consensus": []}))
    fusion, seen = observed(SimEngine("8"), judge, options={"analysis": "separate"})
    await fusion.complete(REQUEST)

    assert [e.code for e in seen if isinstance(e, AnalysisCompleted)] == ["judge_schema_mismatch"]
    assert [e.code for e in seen if isinstance(e, SynthesisStarted)] == [None]


async def test_second_attempt_tells_why_there_is_one() -> None:
    judge = SimEngine(judge_says(""))
    fusion, seen = observed(SimEngine("8"), judge, policy="select")
    await fusion.complete(REQUEST)

    assert [e.code for e in seen if isinstance(e, VerdictCompleted)] == ["judge_empty_completion"]
    attempts = [e.code for e in seen if isinstance(e, SynthesisStarted)]
    assert attempts == [None, "judge_empty_completion"]
