"""A recorded panel judged once more: the same bytes, no call of the panel, and what may change."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import FusionError, ModelNotFoundError, RequestError
from localfusion.events import PanelCompleted
from localfusion.replay import DROPPED, Changes, difference, request_of, told_replay
from localfusion.traces import Trace
from localfusion.traces.form import from_json, to_json
from localfusion.types import Candidate
from tests.recording import Stage, digests, says

TRIO = ("Answer: 8", "Answer: 9", "It depends. Answer: 8")


def candidates(trace: Trace) -> list[Candidate]:
    return [e.candidate for e in trace.events if isinstance(e, PanelCompleted)]


async def test_nothing_changed_asks_the_judge_the_same_and_the_panel_nothing() -> None:
    judge = SimEngine("Answer: 8", verdict={"A": 0.6, "S": 0.4})
    options = {"options": {"analysis": "separate"}, "agreement": True}
    stage = Stage(says(*TRIO), judge, preset=options)
    recorded = await stage.ask()
    asked = stage.panel_calls
    answer = await stage.replay(from_json(to_json(recorded)))
    replayed = stage.trace()

    assert stage.panel_calls == asked == 3
    assert answer.text == (recorded.answer and recorded.answer.text)
    assert digests(replayed) == digests(recorded)
    assert len(digests(recorded)) == 4  # a verdict in both orders, the analysis, the answer
    seeds = [p.prompt.sampling for p in recorded.prompts if p.stage != "panel"]
    assert [p.prompt.sampling for p in replayed.prompts] == seeds
    assert candidates(replayed) == candidates(recorded)


@pytest.mark.parametrize("order", ["arrival", "fixed", "random"])
async def test_drafts_stand_where_they_stood(order: str) -> None:
    """Members end in another order than the panel's."""
    members = {
        name: SimEngine(text, name=name, delay=delay)
        for name, text, delay in zip("abc", TRIO, (0.02, 0.0, 0.01), strict=True)
    }
    stage = Stage(members, preset={"order": order})
    recorded = await stage.ask()
    await stage.replay(recorded)
    same = stage.trace()
    await stage.replay(recorded, order="reversed")

    assert [c.index for c in candidates(recorded)] == [1, 2, 0]
    assert digests(same) == digests(recorded)
    assert _letters(stage.trace()) == _letters(recorded)[::-1]


def _letters(trace: Trace) -> list[str]:
    """Return the drafts in the order in which the judge has read them."""
    prompt = next(p for p in trace.prompts if p.stage == "synthesis").prompt
    text = prompt.messages[-1].content
    return sorted(TRIO, key=lambda draft: text.index(f"\n\n{draft}\n\n"))


async def test_engines_of_the_panel_need_not_exist() -> None:
    stage = Stage(says(*TRIO))
    recorded = await stage.ask()
    answer = await stage.replay(recorded, engines={"judge": stage.judge})

    assert answer.text == "Answer: 8"
    assert set(answer.stages) == {"synthesis"}
    assert answer.usage.calls == 1
    assert [c.usage for c in answer.candidates] == [
        c.usage
        for c in recorded.answer.candidates  # type: ignore[union-attr]  # it has one
    ]


async def test_member_that_also_judges_is_asked_as_judge_alone() -> None:
    stage = Stage(says(*TRIO), preset={"judge": "b"})
    recorded = await stage.ask()
    await stage.replay(recorded)

    assert len(stage.members["b"].calls) == 3
    assert stage.members["b"].calls[1].messages == stage.members["b"].calls[2].messages
    assert stage.panel_calls == 5


async def test_another_judge_answers() -> None:
    other = SimEngine("Answer: 7", name="other")
    stage = Stage(says(*TRIO), others={"other": other})
    recorded = await stage.ask()
    answer = await stage.replay(recorded, judge="other")

    assert (answer.text, answer.model) == ("Answer: 7", "other")
    assert len(stage.judge.calls) == 1
    assert digests(stage.trace()) == digests(recorded)


@pytest.mark.parametrize(
    ("policy", "text", "model"),
    [
        ("vote", "Answer: 8", "a"),
        ("fuse", "The judge's own", "judge"),
        ("consensus", "The judge's own", "judge"),
        ("auto", "Answer: 8", "a"),
        ("verify", "The judge's own", "judge"),
    ],
)
async def test_another_policy_answers(policy: str, text: str, model: str) -> None:
    stage = Stage(says(*TRIO), SimEngine("The judge's own"))
    recorded = await stage.ask()
    answer = await stage.replay(recorded, policy=policy)

    assert (answer.text, answer.model) == (text, model)
    assert stage.panel_calls == 3


async def test_vote_cuts_whom_it_no_longer_needs_as_it_would_have() -> None:
    stage = Stage(says("Answer: 8", "Answer: 8", "Answer: 9"))
    answer = await stage.replay(await stage.ask(), policy="vote")

    assert [c.failure_reason for c in answer.candidates] == [None, None, "not_needed"]
    assert (answer.status, answer.exit) == ("full", "consensus")


@pytest.mark.parametrize("policy", ["single", "self_fusion", "layered", "cascade", "fus"])
async def test_policy_that_asks_anew_is_refused(policy: str) -> None:
    stage = Stage(says(*TRIO))
    trace = await stage.ask()
    with pytest.raises(RequestError, match=r"policy: .*; ") as refused:
        request_of(trace, Changes(policy=policy))

    assert refused.value.param == "policy"


@pytest.mark.parametrize(
    ("policy", "calls"), [("layered", 6), ("cascade", 5), ("self_fusion", 0), ("verify", 3)]
)
async def test_policies_that_ask_more_than_once_are_replayed(policy: str, calls: int) -> None:
    preset = {"policy": policy, "options": {"analysis": "none"}}
    drifting = {n: SimEngine([f"Answer: {n}", f"Answer: {n}{n}", "Answer: 8"]) for n in "abc"}
    stage = Stage(drifting, preset=preset)
    recorded = await stage.ask("How are pens made, and where?")
    answer = await stage.replay(recorded)

    assert stage.panel_calls == calls
    assert answer.text == (recorded.answer and recorded.answer.text)
    assert digests(stage.trace()) == digests(recorded)


async def test_last_layer_is_the_panel_of_another_policy() -> None:
    stage = Stage(says(*TRIO), preset={"policy": "layered"})
    recorded = await stage.ask()
    answer = await stage.replay(recorded, policy="fuse")

    assert len((recorded.answer and recorded.answer.candidates) or ()) == 6
    assert [c.index for c in answer.candidates] == [0, 1, 2]


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        ((1,), [0, 2, 3]),
        (("3",), [0, 1, 2]),
        (("b",), [0, 3]),
        (("b#1",), [0, 2, 3]),
        (("b#2", "a"), [1, 3]),
    ],
)
async def test_candidates_are_left_out(drop: tuple[int | str, ...], left: list[int]) -> None:
    stage = Stage(says(*TRIO), preset={"panel": ["a", {"model": "b", "n": 2}, "c"]})
    answer = await stage.replay(await stage.ask(), drop=drop)

    assert [c.index for c in answer.candidates if c.is_draft] == left
    assert {c.failure_reason for c in answer.candidates if c.index not in left} == {DROPPED}
    assert (answer.status, answer.reason) == ("degraded", DROPPED)


async def test_only_draft_that_is_left_is_the_answer() -> None:
    stage = Stage(says(*TRIO))
    answer = await stage.replay(await stage.ask(), drop=("a", "c"))

    assert (answer.text, answer.reason) == ("Answer: 9", "one_survivor")


@pytest.mark.parametrize("drop", [("d",), (7,), ("a#2",), ("a", "b", "c"), ("",), (-1,)])
async def test_candidate_that_is_not_there_cannot_be_left_out(drop: tuple[int | str, ...]) -> None:
    stage = Stage(says(*TRIO))
    trace = await stage.ask()
    with pytest.raises(RequestError, match="; ") as refused:
        request_of(trace, Changes(drop=drop))

    assert refused.value.param == "drop"


@pytest.mark.virtual_time
async def test_lost_and_cut_members_come_back_as_they_were() -> None:
    """One fails, one is cut with an unfinished text, one is cut at its token limit."""
    members = {
        "a": SimEngine("word " * 200, failure=SimFailure("drip", seconds=0.5)),
        "b": SimEngine("Answer: 8", failure=SimFailure("refuse")),
        "c": SimEngine("Answer: 9", reasoning="Three are one more than two."),
        "d": SimEngine("one two three four five", name="d"),
    }
    panel = [*"abc", {"model": "d", "max_tokens": 3}]
    stage = Stage(members, preset={"panel": panel, "quorum": 2, "grace": 50.0})
    recorded = await stage.ask()
    answer = await stage.replay(recorded)
    found = {c.model: c for c in answer.candidates}

    assert {name: c.failure_reason for name, c in found.items()} == {
        "a": "member_timeout",
        "b": "engine_unavailable",
        "c": None,
        "d": None,
    }
    assert found["a"].is_partial
    assert found["d"].finish_reason == "length"
    assert found["c"].reasoning == "Three are one more than two."
    assert (answer.status, answer.reason) == ("degraded", "member_timeout")
    assert candidates(stage.trace()) == candidates(recorded)
    assert digests(stage.trace()) == digests(recorded)
    assert answer.seconds == 0


async def test_other_words_for_the_judge_stand_at_the_end_of_its_prompt() -> None:
    stage = Stage(says(*TRIO), preset={"options": {"analysis": "inline"}})
    recorded = await stage.ask()
    await stage.replay(recorded, instruction="  {{ nonce }} Say the number alone.\n")
    prompt = stage.judge.calls[-1].messages[-1].content
    before = stage.judge.calls[-2].messages[-1].content

    assert prompt.endswith("\n\n{{ nonce }} Say the number alone.")  # text, no template
    assert "<analysis>" in before
    assert "<analysis>" not in prompt
    assert _letters(stage.trace()) == _letters(recorded)
    assert stage.trace().head.request.instruction == "{{ nonce }} Say the number alone."  # type: ignore[union-attr]  # it has one


@pytest.mark.parametrize("text", ["", " \n", "x" * 20_001])
async def test_instruction_of_no_length_or_too_much_is_refused(text: str) -> None:
    trace = await Stage(says(*TRIO)).ask()
    with pytest.raises(RequestError, match="write 1 to 20000"):
        request_of(trace, Changes(instruction=text))


async def test_trace_of_a_replay_says_of_what_and_with_what_change() -> None:
    stage = Stage(says(*TRIO))
    recorded = await stage.ask()
    answer = await stage.replay(recorded, drop=("b",), order="reversed")
    replayed = stage.trace()
    request = request_of(recorded, Changes(drop=("b",), order="reversed"))
    told = told_replay(recorded, request, replace(answer, trace_id=answer.run_id))

    assert recorded.summary.replay_of is None
    assert replayed.summary.replay_of == recorded.summary.id
    assert replayed.head is not None
    assert replayed.head.request.changes == {"order": "reversed", "drop": [1]}
    assert told["changes"] == {"order": "reversed", "drop": [1]}
    assert (told["id"], told["replay_of"]) == (answer.run_id, recorded.summary.id)
    assert from_json(to_json(replayed)) == replayed


async def test_replay_can_be_replayed() -> None:
    stage = Stage(says(*TRIO))
    await stage.replay(await stage.ask(), drop=("b",))
    first = stage.trace()
    answer = await stage.replay(first)

    assert digests(stage.trace()) == digests(first)
    assert [c.failure_reason for c in answer.candidates] == [None, DROPPED, None]
    assert stage.trace().summary.replay_of == first.summary.id


async def test_run_whose_judge_failed_is_judged_by_another() -> None:
    failing = SimEngine("Answer: 8 and more words", failure=SimFailure("error_event", at_token=2))
    stage = Stage(says(*TRIO), failing, others={"other": SimEngine("Answer: 8")})
    with pytest.raises(FusionError):
        await stage.ask()
    answer = await stage.replay(stage.trace(), judge="other")

    assert answer.text == "Answer: 8"


async def test_run_that_was_broken_off_is_judged_with_those_who_had_answered() -> None:
    stage = Stage(says(*TRIO))
    whole = await stage.ask()
    done = [e for e in whole.events if isinstance(e, PanelCompleted)]
    events = whole.events[: whole.events.index(done[2])]
    summary = replace(whole.summary, status="interrupted")
    answer = await stage.replay(replace(whole, events=events, summary=summary))

    assert [c.failure_reason for c in answer.candidates] == [None, None, "not_recorded"]
    assert (answer.status, answer.reason) == ("degraded", "not_recorded")


def _changed(**changes: object) -> Mapping[str, object]:
    return changes


@pytest.mark.parametrize(
    ("summary", "rest", "remedy"),
    [
        (_changed(status="running"), {}, "replay it when it has ended"),
        ({}, _changed(content="hash"), "set traces.content to full"),
        ({}, _changed(content="none"), "set traces.content to full"),
        ({}, _changed(events=()), "ask again"),
        ({}, _changed(head=None), "ask a preset with a panel"),
    ],
)
async def test_trace_without_a_panel_is_refused_with_the_remedy(
    summary: dict[str, object], rest: dict[str, object], remedy: str
) -> None:
    trace = await Stage(says(*TRIO)).ask()
    broken = replace(trace, summary=replace(trace.summary, **summary), **rest)  # type: ignore[arg-type]  # as given
    with pytest.raises(RequestError, match=remedy) as refused:
        request_of(broken, Changes())

    assert refused.value.code == "trace_not_replayable"


async def test_single_model_is_no_panel() -> None:
    stage = Stage(says(*TRIO), preset={"policy": "single", "judge": None, "options": {}})
    trace = await stage.ask()
    with pytest.raises(RequestError, match="one model answered alone; ask a preset"):
        request_of(trace, Changes())


async def test_judge_that_is_not_there_is_named() -> None:
    stage = Stage(says(*TRIO))
    trace = await stage.ask()
    with pytest.raises(ModelNotFoundError, match="judge: there is no model 'judgee'") as unknown:
        await stage.replay(trace, judge="judgee")

    assert unknown.value.param == "judge"


async def test_settings_of_another_version_are_refused() -> None:
    trace = await Stage(says(*TRIO)).ask()
    assert trace.head is not None
    head = replace(trace.head, settings={**trace.head.settings, "mood": "good"})
    with pytest.raises(RequestError, match="with the version that wrote it"):
        request_of(replace(trace, head=head), Changes())


async def test_replays_leave_the_presets_pace_alone() -> None:
    """A slow judge of a replay takes no time from the panels of real runs."""
    stage = Stage(says(*TRIO))
    trace = await stage.ask()
    fusion = stage.fusion()
    await fusion.complete(request_of(trace, Changes()))

    assert fusion._paces == {}


@given(st.text(max_size=300), st.text(max_size=300))
def test_difference_has_both_texts_whole(before: str, after: str) -> None:
    parts = list(difference(before, after))

    assert "".join(text for kind, text in parts if kind != "new") == before
    assert "".join(text for kind, text in parts if kind != "gone") == after
    assert all(text for _, text in parts)


def test_long_texts_differ_as_a_whole() -> None:
    long = "word " * 5000

    assert list(difference(long, "word")) == [("gone", long), ("new", "word")]
