"""The order of events holds whatever fails, and whenever."""

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
from localfusion.fusion import Fusion
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


@given(st.lists(engines, min_size=1, max_size=4), judges)
def test_events_keep_their_order(members: list[SimEngine], judge: SimEngine) -> None:
    named = {f"m{place}": engine for place, engine in enumerate(members)}
    panel = tuple(Member(model=name) for name in named)
    preset = Preset(panel=panel, judge="judge", deadline=120, grace=5)

    fusion = Fusion({**named, "judge": judge}, {"demo": preset}, default_preset="demo")
    events = run(events_of(fusion))

    _check(events)


def _check(events: list[Event]) -> None:
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
    else:
        assert isinstance(last, RunFailed)
        usable = [e for e in events if isinstance(e, PanelCompleted) and e.candidate.is_usable]
        # A finished candidate is lost only when the judge broke off in mid-answer.
        assert not usable or AnswerDelta in kinds
