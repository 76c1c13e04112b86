"""What reaches a real engine over HTTP: functions, answer forms, probabilities, several answers."""

import json
import math

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import MessageParam, ToolParam
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam

from tests.real.conftest import Server

FUSED = "localfusion/demo"

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

MODEL = "qwen2.5-coder-0.5b"
WEATHER: ChatCompletionUserMessageParam = {
    "role": "user",
    "content": "What is the weather in Paris now? Use the tool.",
}
TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


@pytest.mark.parametrize("name", [MODEL, FUSED])
@pytest.mark.parametrize("is_stream", [False, True])
def test_forced_function_is_called_with_arguments_of_its_schema(
    client: openai.OpenAI, name: str, *, is_stream: bool
) -> None:
    arguments = ""
    if is_stream:
        with client.chat.completions.create(
            model=name, messages=[WEATHER], tools=[TOOL], tool_choice="required", stream=True
        ) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    for call in choice.delta.tool_calls or ():
                        arguments += (call.function and call.function.arguments) or ""
    else:
        reply = client.chat.completions.create(
            model=name, messages=[WEATHER], tools=[TOOL], tool_choice="required"
        )
        called = reply.choices[0].message.tool_calls
        assert called is not None
        assert called[0].type == "function"
        arguments = called[0].function.arguments
        assert reply.choices[0].finish_reason == "tool_calls"

    assert isinstance(json.loads(arguments)["city"], str)


def test_schema_is_obeyed_by_the_fused_answer(client: openai.OpenAI) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }

    reply = client.chat.completions.create(
        model=FUSED,
        messages=[{"role": "user", "content": "Give name and age of a fictional person."}],
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": schema}},
        extra_body={"fusion": {"analysis": "none", "max_completion_tokens": 24}},
    )

    person = json.loads(reply.choices[0].message.content or "")
    assert person.keys() == {"name", "age"}
    assert 0 <= person["age"] <= 120


def test_several_answers_of_one_model_tell_probabilities(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="smollm2-135m",
        messages=[{"role": "user", "content": "Say a color."}],
        n=2,
        seed=3,
        temperature=1.0,
        max_tokens=8,
        logprobs=True,
        top_logprobs=2,
    )

    assert [choice.index for choice in reply.choices] == [0, 1]
    for choice in reply.choices:
        assert choice.logprobs is not None
        places = choice.logprobs.content or []
        assert (choice.message.content or "") in "".join(place.token for place in places)
        assert all(math.exp(place.logprob) <= 1 for place in places)
        assert all(len(place.top_logprobs) == 2 for place in places)


def test_anthropic_client_gets_fused_message_and_a_call_of_its_tool(server: Server) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        question: list[MessageParam] = [
            {"role": "user", "content": "Name the three primary colors."}
        ]
        with client.messages.stream(model=FUSED, max_tokens=40, messages=question) as stream:
            said = stream.get_final_message()
        look: ToolParam = {
            "name": "get_weather",
            "input_schema": dict(TOOL["function"]["parameters"]),
        }
        called = client.messages.create(
            model=MODEL,
            max_tokens=60,
            messages=[{"role": "user", "content": str(WEATHER["content"])}],
            tools=[look],
            tool_choice={"type": "any"},
        )
        count = client.messages.count_tokens(model=FUSED, messages=question)

    (block,) = said.content
    assert block.type == "text"
    assert block.text
    assert said.usage.output_tokens > 0
    assert called.stop_reason == "tool_use"
    call = called.content[-1]
    assert call.type == "tool_use"
    assert isinstance(call.input, dict)
    assert isinstance(call.input["city"], str)
    assert count.input_tokens > 5


def test_plain_model_goes_on_with_a_text(client: openai.OpenAI, server: Server) -> None:
    done = client.completions.create(
        model=MODEL,
        prompt="def add(a, b):\n    return a +",
        max_tokens=4,
        temperature=0,
        logprobs=2,
    )
    asked = {"model": MODEL, "prompt": "1, 2, 3, 4,", "max_tokens": 6, "stream": True}
    url = f"{server.url}/v1/completions"
    sent = httpx2.post(url, json={**asked, "temperature": 0}, timeout=60, trust_env=False).text
    # The client's strict mode knows no open finish_reason, so its chunks are read by hand.
    lines = [line.removeprefix("data: ") for line in sent.splitlines() if line]
    streamed = "".join(c["text"] for line in lines[:-1] for c in json.loads(line)["choices"])

    assert done.choices[0].text.strip().startswith("b")
    told = done.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert "".join(told.tokens) == done.choices[0].text
    assert "5" in streamed
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    counted = httpx2.post(f"{server.url}/tokenize", json=chat, trust_env=False).json()
    assert 5 < counted["count"] < 60
    assert counted["max_model_len"] == 4096
