"""The order of events holds whatever fails, and whenever."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.config import Member, Preset
from localfusion.engines.sim import FailureKind, SimEngine, SimFailure
from localfusion.engines.sim_latency import SimProfile
from localfusion.events import (
    AnswerDelta,
    AnswerStarted,
    Event,
    PanelAdded,
    PanelCompleted,
    RunCompleted,
    RunFailed,
    RunStarted,
)
from localfusion.fusion import POLICIES, Fusion
from localfusion.types import Message, Request, Usage
from tests.fusion.conftest import events_of, judge_says
from tests.virtual_time import run

KINDS: tuple[FailureKind, ...] = (
    "refuse", "overloaded", "die", "stall", "error_event", "truncated", "drip", "wrong_usage",
)  # fmt: skip

failures = st.none() | st.builds(
    SimFailure, st.sampled_from(KINDS), at_token=st.integers(0, 4), seconds=st.floats(0.1, 50)
)
engines = st.builds(
    SimEngine,
    st.sampled_from(["", "one", "one two three four five"]),
    delay=st.floats(0, 100),
    profile=st.just(SimProfile(inter_token=0.5)),
    failure=failures,
)
judges = st.builds(
    SimEngine,
    st.sampled_from([judge_says(), judge_says(""), judge_says("It is 8.", {"no": "schema"})]),
    delay=st.floats(0, 100),
    failure=failures,
)


questions = st.sampled_from(["Tell me about pens.", "How many pens?", "Write a function f."]).map(
    lambda text: Request("demo", (Message("user", text),))
)
settings_of_presets = st.fixed_dictionaries(
    {
        "policy": st.sampled_from([name for name in POLICIES if name != "single"]),
        "deadline": st.sampled_from([0.5, 20, 120]),
        "grace": st.sampled_from([5, "adaptive"]),
        "order": st.sampled_from(["arrival", "fixed", "random"]),
        "partial": st.sampled_from(["keep", "drop"]),
        "prefill": st.booleans(),
        "agreement": st.booleans(),
    }
)


@given(st.lists(engines, min_size=1, max_size=4), judges, settings_of_presets, questions)
def test_events_keep_their_order(
    members: list[SimEngine], judge: SimEngine, fields: dict[str, object], question: Request
) -> None:
    named = {f"m{place}": engine for place, engine in enumerate(members)}
    panel = tuple(Member(model=name) for name in named)
    preset = Preset.model_validate({"panel": panel, "judge": "judge", **fields})

    fusion = Fusion({**named, "judge": judge}, {"demo": preset}, default_preset="demo")
    events = run(events_of(fusion, question))

    _check(events, preset.deadline)


@given(
    st.lists(engines, min_size=1, max_size=4),
    judges,
    settings_of_presets,
    questions,
    st.integers(0, 30),
)
def test_reader_that_leaves_ends_every_call(
    members: list[SimEngine],
    judge: SimEngine,
    fields: dict[str, object],
    question: Request,
    events: int,
) -> None:
    named = {f"m{place}": engine for place, engine in enumerate(members)}
    preset = Preset.model_validate({"panel": list(named), "judge": "judge", **fields})
    fusion = Fusion({**named, "judge": judge}, {"demo": preset}, default_preset="demo")

    async def leave() -> int:
        before = asyncio.all_tasks()
        async with aclosing(fusion.stream(question)) as stream:
            for _ in range(events):
                if await anext(stream, None) is None:
                    break
        assert asyncio.all_tasks() == before
        living = [engine for engine in (*members, judge) if engine.is_ready]
        return sum([(await engine.stats()).running for engine in living])

    assert run(leave()) == 0


def _check(events: list[Event], deadline: float) -> None:
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunCompleted | RunFailed)
    assert sum(isinstance(e, RunCompleted | RunFailed) for e in events) == 1
    assert [e.at for e in events] == sorted(e.at for e in events)
    added = [e.index for e in events if isinstance(e, PanelAdded)]
    completed = [e.candidate.index for e in events if isinstance(e, PanelCompleted)]
    assert sorted(added) == sorted(completed) == list(range(len(added)))
    kinds = [type(e) for e in events]
    assert kinds.count(AnswerStarted) <= 1
    if AnswerDelta in kinds:
        assert kinds.index(AnswerStarted) < kinds.index(AnswerDelta)
    last = events[-1]
    if isinstance(last, RunCompleted):
        answer = last.answer
        assert "".join(e.text for e in events if isinstance(e, AnswerDelta)) == answer.text
        assert (answer.status == "full") == (answer.reason is None)
        assert answer.text.strip()
        assert sum(step.seconds for step in answer.critical_path) == pytest.approx(answer.seconds)
        assert answer.seconds <= deadline + 1e-6
        assert sum((s.usage for s in answer.stages.values()), Usage()) == answer.usage
    else:
        assert isinstance(last, RunFailed)
        usable = [e for e in events if isinstance(e, PanelCompleted) and e.candidate.is_usable]
        # A finished candidate is lost only when the judge broke off in mid-answer.
        assert not usable or AnswerDelta in kinds
