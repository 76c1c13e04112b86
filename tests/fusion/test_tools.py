"""Functions of the client: one model calls them, the panel reads what came of it as text."""

import json
from contextlib import aclosing

import pytest

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import RequestError
from localfusion.events import AnswerDelta, PanelAdded
from localfusion.functions import Function, ToolCall, Tools
from localfusion.fusion.schema import obeys
from localfusion.fusion.turns import as_text
from localfusion.types import Message, Prompt, Request
from tests.fusion.conftest import REQUEST, FusionFactory, events_of

pytestmark = pytest.mark.virtual_time

LOOK = Function(
    "look",
    "Look something up.",
    {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
)
OFFERED = Request("demo", REQUEST.messages, tools=Tools((LOOK,)))
FORCED = Request("demo", REQUEST.messages, tools=Tools((LOOK,), "required"))


async def test_forced_call_is_one_models_and_nobody_else_is_asked(fusion: FusionFactory) -> None:
    a, b, judge = SimEngine("8"), SimEngine("9"), SimEngine("unused")
    panel = fusion(a=a, b=b, judge=judge)

    answer = await panel.complete(FORCED)

    assert (answer.status, answer.reason) == ("single", "tool_turn")
    assert (answer.model, answer.finish_reason) == ("judge", "tool_calls")
    (call,) = answer.tool_calls
    assert call.name == "look"
    assert isinstance(json.loads(call.arguments)["what"], str)
    assert a.calls == b.calls == []


async def test_call_streams_in_pieces_that_join_to_it(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("8"), judge=SimEngine("unused"))

    pieces = [
        piece
        for event in await events_of(panel, FORCED)
        if isinstance(event, AnswerDelta)
        for piece in event.tool_calls
    ]

    assert len(pieces) > 1
    assert (pieces[0].id, pieces[0].name) == ("call-look", "look")
    assert json.loads("".join(piece.arguments for piece in pieces)).keys() == {"what"}


async def test_offered_function_that_is_called_ends_the_run(fusion: FusionFactory) -> None:
    a, judge = SimEngine("8"), SimEngine("unused", calls_tools=True)
    panel = fusion(a=a, b=SimEngine("9"), judge=judge)

    answer = await panel.complete(OFFERED)

    assert (answer.status, answer.reason) == ("single", "tool_turn")
    assert [call.name for call in answer.tool_calls] == ["look"]
    assert len(judge.calls) == 1
    assert a.calls == []


async def test_text_of_the_caller_is_a_draft_beside_the_panels(fusion: FusionFactory) -> None:
    a, b = SimEngine("8"), SimEngine("9")
    judge = SimEngine(["Seven.", "It is 8."])
    panel = fusion(a=a, b=b, judge=judge, options={"analysis": "none"})

    answer = await panel.complete(OFFERED)

    assert (answer.status, answer.text) == ("full", "It is 8.")
    assert [c.text for c in answer.candidates] == ["8", "9", "Seven."]
    assert all(prompt.tools is None for prompt in [*a.calls, *b.calls])
    assert judge.calls[-1].tools == OFFERED.tools, "who writes may still call"
    assert "Seven." in judge.calls[-1].messages[-1].content


async def test_caller_that_is_a_member_is_not_asked_twice(fusion: FusionFactory) -> None:
    a = SimEngine(["Seven.", "unused"])
    judge = SimEngine("It is 8.")
    panel = fusion(
        a=a, b=SimEngine("9"), judge=judge, tool_caller="a", options={"analysis": "none"}
    )

    answer = await panel.complete(OFFERED)

    assert [c.text for c in answer.candidates] == ["Seven.", "9"]
    assert len(a.calls) == 1


async def test_judge_may_call_after_it_has_read_the_drafts(fusion: FusionFactory) -> None:
    judge = SimEngine("unused", calls_tools=True)
    panel = fusion(
        a=SimEngine("Seven."),
        b=SimEngine("9"),
        judge=judge,
        tool_caller="a",
        options={"analysis": "none"},
    )

    answer = await panel.complete(OFFERED)

    assert answer.finish_reason == "tool_calls"
    assert [call.name for call in answer.tool_calls] == ["look"]
    assert answer.status == "full"


async def test_caller_that_fails_fails_the_run_by_name(fusion: FusionFactory) -> None:
    panel = fusion(a=SimEngine("8"), judge=SimEngine(failure=SimFailure("refuse"), name="judge"))

    with pytest.raises(Exception, match="refuses connections"):
        await panel.complete(FORCED)


async def test_abandoned_stream_of_the_caller_is_closed(fusion: FusionFactory) -> None:
    judge = SimEngine(["Seven, and so on.", "It is 8."])
    panel = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=judge)

    async with aclosing(panel.stream(OFFERED)) as events:
        async for event in events:
            if isinstance(event, PanelAdded):
                break

    stats = await judge.stats()
    assert stats.running == 0


async def test_model_that_cannot_call_is_told_of_before_anything(fusion: FusionFactory) -> None:
    class Plain(SimEngine):
        @property
        def facts(self):  # type: ignore[no-untyped-def]  # one field other than SimEngine's
            from dataclasses import replace

            return replace(super().facts, calls_tools=False)

    panel = fusion(a=SimEngine("8"), judge=Plain("unused"))

    with pytest.raises(RequestError, match="tool_call_parser") as refused:
        await panel.complete(FORCED)

    assert refused.value.param == "tools"


async def test_fusion_itself_is_called_or_not_by_the_model(fusion: FusionFactory) -> None:
    wants = Request("demo", REQUEST.messages, may_fuse=True)
    a = SimEngine("8")
    eager = SimEngine("It is 8.", calls_tools=True)
    shy = SimEngine("Nine.")
    options = {"analysis": "none"}

    fused = await fusion(a=a, b=SimEngine("9"), judge=eager, options=options).complete(wants)
    alone = await fusion(a=a, b=SimEngine("9"), judge=shy, options=options).complete(wants)

    assert (fused.status, fused.text, len(fused.candidates)) == ("full", "It is 8.", 2)
    assert eager.calls[-1].tools is None, "the fusion is not shown to itself"
    assert (alone.status, alone.reason, alone.text) == ("single", "not_called", "Nine.")
    assert len(a.calls) == 1


HISTORY = (
    Message("system", "Be brief."),
    Message("user", "Weather?"),
    Message("assistant", "", (ToolCall("c1", "look", '{"what": "rain"}'),)),
    Message("tool", "It rains.", tool_call_id="c1"),
    Message("user", "Thanks. Umbrella?"),
)


def test_tool_traffic_is_told_in_turns_that_alternate() -> None:
    told = as_text(HISTORY)

    assert [message.role for message in told] == ["system", "user", "assistant", "user"]
    assert told[2].content == '(I call look with {"what": "rain"})'
    assert told[3].content == "Result of look:\nIt rains.\n\nThanks. Umbrella?"
    assert as_text(REQUEST.messages) == REQUEST.messages


async def test_panel_reads_results_as_text_and_a_single_model_as_they_are(
    fusion: FusionFactory,
) -> None:
    a = SimEngine("8")
    panel = fusion(a=a, b=SimEngine("9"), judge=SimEngine("Yes."))

    await panel.complete(Request("demo", HISTORY))
    await panel.complete(Request("a", HISTORY))

    assert "Result of look" in a.calls[0].messages[-1].content
    assert a.calls[1].messages == HISTORY


SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


async def test_schema_binds_the_answer_and_no_draft(fusion: FusionFactory) -> None:
    a, judge = SimEngine("8"), SimEngine("unused")
    panel = fusion(a=a, b=SimEngine("9"), judge=judge, options={"analysis": "inline"})

    answer = await panel.complete(Request("demo", REQUEST.messages, schema=SCHEMA))

    assert isinstance(json.loads(answer.text)["sum"], int)
    assert a.calls[0].schema is None
    assert judge.calls[-1].schema == SCHEMA
    assert "<analysis>" not in judge.calls[-1].messages[-1].content
    assert answer.status == "full"


async def test_winner_is_replayed_only_if_it_has_the_form(fusion: FusionFactory) -> None:
    request = Request("demo", REQUEST.messages, schema=SCHEMA)
    good = fusion(
        a=SimEngine('{"sum": 8}'),
        b=SimEngine('{"sum": 8}'),
        judge=SimEngine("x"),
        policy="vote",
        options={},
    )
    free = fusion(
        a=SimEngine("8"), b=SimEngine("8"), judge=SimEngine("x"), policy="vote", options={}
    )

    replayed, written = await good.complete(request), await free.complete(request)

    assert (replayed.text, replayed.model) == ('{"sum": 8}', "a")
    assert written.model == "judge"
    assert isinstance(json.loads(written.text)["sum"], int)


async def test_judge_that_fails_leaves_only_what_has_the_form(fusion: FusionFactory) -> None:
    request = Request("demo", REQUEST.messages, schema=SCHEMA)
    broken = SimEngine(failure=SimFailure("error_event"))
    some = fusion(a=SimEngine("8"), b=SimEngine('{"sum": 9}'), judge=broken)
    none = fusion(a=SimEngine("8"), b=SimEngine("9"), judge=broken)

    answer = await some.complete(request)

    assert (answer.status, answer.text) == ("panel_only", '{"sum": 9}')
    with pytest.raises(Exception, match="form that response_format asks for"):
        await none.complete(request)


async def test_effort_bias_and_logprobs_reach_the_writer_alone(fusion: FusionFactory) -> None:
    judge, a = SimEngine("It is 8."), SimEngine("8")
    panel = fusion(a=a, b=SimEngine("9"), judge=judge, options={"analysis": "none"})

    def efforts(calls: list[Prompt]) -> list[object]:
        return [prompt.effort for prompt in calls]

    await panel.complete(Request("demo", REQUEST.messages, effort="low"))
    answer = await panel.complete(Request("a", REQUEST.messages, logprobs=2))

    assert (efforts(judge.calls), efforts(a.calls)) == (["low"], [None, None])
    assert [place.token for place in answer.logprobs] == ["8"]


@pytest.mark.threat(12)
def test_form_is_checked_in_linear_time_and_never_breaks() -> None:
    bomb = {"type": "string", "pattern": "^(a+)+$"}

    assert not obeys(json.dumps("a" * 5000 + "!"), bomb)
    assert obeys(json.dumps("a" * 5000), bomb)
    assert not obeys("{}", {"required": 5})
    assert not obeys('{"ab": 1}', {"patternProperties": {"^a": {"type": "string"}}})
    assert obeys('{"b": 1}', {"patternProperties": {"^a": {"type": "string"}}})
