"""What reaches a real engine over HTTP: functions, answer forms, probabilities, several answers."""

import json
import math

import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam

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
