"""Anthropic's client on /v1/messages."""

import os
from typing import Any

import pytest
from anthropic import Anthropic, BadRequestError, NotFoundError

MODEL = os.environ["CONFORMANCE_MODEL"]
ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "How many pens?"}],
}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tell the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture
def client() -> Anthropic:
    return Anthropic(base_url=os.environ["CONFORMANCE_URL"], api_key="lf-test", max_retries=0)


def test_answer_is_a_text_block(client: Anthropic) -> None:
    message = client.messages.create(**ASK)

    assert message.type == "message"
    assert message.role == "assistant"
    assert message.content[-1].type == "text"
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


def test_stream_is_the_answer(client: Anthropic) -> None:
    with client.messages.stream(**ASK) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()

    assert "".join(texts)
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


def test_forced_tool_is_used(client: Anthropic) -> None:
    forced = {"type": "tool", "name": "weather"}

    message = client.messages.create(**ASK, tools=[WEATHER], tool_choice=forced)

    assert message.stop_reason == "tool_use"
    assert message.content[-1].type == "tool_use"
    assert message.content[-1].name == "weather"


def test_result_of_a_tool_is_read(client: Anthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]

    message = client.messages.create(**(ASK | {"messages": turns}), tools=[WEATHER])

    assert message.content[-1].type == "text"


def test_system_and_stop_sequences(client: Anthropic) -> None:
    message = client.messages.create(**ASK, system="Be brief.", stop_sequences=["END"])

    assert message.content


def test_tokens_are_counted(client: Anthropic) -> None:
    count = client.messages.count_tokens(model=MODEL, messages=ASK["messages"])

    assert count.input_tokens > 0


def test_unknown_model_is_not_found(client: Anthropic) -> None:
    with pytest.raises(NotFoundError) as error:
        client.messages.create(**(ASK | {"model": "no-such-model"}))

    body = error.value.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"


def test_bad_request_is_told(client: Anthropic) -> None:
    with pytest.raises(BadRequestError):
        client.messages.create(**(ASK | {"messages": []}))
