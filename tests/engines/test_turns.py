"""Conversations take the shape of the template; nothing that was said is lost."""

import json

from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.turns import OPENING, TurnRules, shape
from localfusion.functions import ToolCall
from localfusion.types import Message, Prompt
from tests.engines.kinds import collect
from tests.engines.raw_server import DONE, FINISH, Asked, RawServer, models, response, says

STRICT = TurnRules(system=False, late_system=False, repeats=False, assistant_first=False)
messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant"]),
        st.text(alphabet="abc", min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=8,
)


@given(messages)
def test_strictest_template_gets_turns_that_alternate_with_every_word(said: list[Message]) -> None:
    turns = shape(said, STRICT)

    roles = [turn.role for turn in turns]
    assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]
    told = "\n\n".join(turn.content for turn in turns)
    assert all(message.content in told for message in said)


@given(messages)
def test_template_that_takes_everything_changes_nothing(said: list[Message]) -> None:
    assert shape(said, TurnRules()) == tuple(said)


def test_system_text_stands_before_the_users_next_words() -> None:
    said = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("system", "Now."),
        Message("user", "Yes?"),
    ]

    assert shape(said, STRICT) == (Message("user", "Be brief.\n\nHi\n\nNow.\n\nYes?"),)
    assert shape(said, TurnRules(late_system=False)) == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("user", "Now.\n\nYes?"),
    )


def test_assistant_who_begins_is_asked_to() -> None:
    said = [Message("assistant", "Welcome."), Message("user", "Hi")]

    assert shape(said, STRICT)[0] == Message("user", OPENING)


def test_calls_and_results_of_functions_are_never_joined() -> None:
    call = Message("assistant", "", (ToolCall("1", "f", "{}"),))
    said = [
        Message("user", "Hi"),
        call,
        Message("tool", "a", (), "1"),
        Message("tool", "b", (), "2"),
    ]

    assert shape(said, STRICT) == tuple(said)


async def test_engine_learns_at_its_start_what_its_template_takes(
    server: RawServer, engine: OpenAIEngine
) -> None:
    """A template like Gemma's: no system turn, roles must alternate."""

    def count(asked: Asked) -> bytes:
        roles = [message["role"] for message in asked.body["messages"]]
        if roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
            return response(400, json.dumps({"error": {"message": "roles must alternate"}}))
        return response(200, json.dumps({"count": 7}))

    server.answer("/tokenize", count)
    server.answer("/v1/models", models({"id": "a"}))
    server.stream(says("x"), FINISH, DONE)
    said = (Message("system", "Be brief."), Message("user", "Hi"), Message("user", "?"))

    facts = await engine.probe()
    await collect(engine, Prompt(said))

    assert facts.turns == STRICT
    assert await engine.count_tokens(said) == 7
    sent = next(asked for asked in server.asked if asked.path == "/v1/chat/completions")
    assert sent.body["messages"] == [{"role": "user", "content": "Be brief.\n\nHi\n\n?"}]


async def test_template_that_cannot_be_asked_is_taken_to_accept_all(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.answer("/v1/models", models({"id": "a"}))

    assert (await engine.probe()).turns == TurnRules()
