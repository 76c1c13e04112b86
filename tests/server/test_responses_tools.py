"""Functions, schemas and logprobs on ``/v1/responses``."""

import json

import pytest

from localfusion.engines.sim import SimEngine
from localfusion.types import Message
from tests.server.system import gateway, served
from tests.server.test_responses import (
    RESPONSES,
    TRIO,
    WEATHER,
    ask,
    check_strictly,
    create,
    kinds,
    said,
    text_of,
)


@pytest.mark.parametrize("model", [TRIO, "d"])
async def test_answer_obeys_the_schema_of_the_text_format(model: str) -> None:
    form = {
        "type": "json_schema",
        "name": "price",
        "schema": {
            "type": "object",
            "properties": {"euros": {"type": "integer"}},
            "required": ["euros"],
        },
        "strict": True,
    }
    async with served() as server:
        body = await create(server, "How much?", model=model, text={"format": form})

    assert isinstance(json.loads(text_of(body))["euros"], int)
    assert body["text"]["format"] == form
    check_strictly(body)


async def test_json_object_is_any_object() -> None:
    async with served() as server:
        body = await create(server, text={"format": {"type": "json_object"}})

    assert isinstance(json.loads(text_of(body)), dict)
    assert server.gateway.engines["a"].calls[0].schema is None


async def test_function_is_called_and_its_output_answered() -> None:
    system = gateway(b=SimEngine("It is sunny.", calls_tools=True))
    async with served(system) as server:
        first = await server.openai.responses.create(
            model="b",
            input="How is the weather in Rome?",
            tools=[WEATHER],
            store=False,
        )
        call = first.output[0]
        assert call.type == "function_call"
        second = await server.http.post(
            RESPONSES,
            json=ask(
                [
                    {"role": "user", "content": "How is the weather in Rome?"},
                    call.model_dump(exclude_none=True),
                    {
                        "type": "function_call_output",
                        "call_id": call.call_id,
                        "output": [{"type": "input_text", "text": "sunny"}],
                    },
                ],
                model="b",
                tools=[WEATHER],
            ),
        )

    assert (call.name, list(json.loads(call.arguments))) == ("weather", ["town"])
    assert (call.status, len(first.output)) == ("completed", 1)
    assert first.status == "completed"
    assert text_of(second.json()) == "It is sunny."
    assert said(system.engines["b"].calls[-1])[1:] == (
        Message("assistant", "", tool_calls=said(system.engines["b"].calls[-1])[1].tool_calls),
        Message("tool", "sunny", tool_call_id=call.call_id),
    )
    assert said(system.engines["b"].calls[-1])[1].tool_calls[0].arguments == call.arguments


async def test_tool_turn_of_a_fusion_has_no_fusion_item_and_says_why() -> None:
    system = gateway(d=SimEngine("Sunny.", calls_tools=True))
    async with served(system) as server:
        body = await create(server, tools=[WEATHER])

    assert kinds(body) == ["function_call"]
    assert (body["fusion"]["status"], body["fusion"]["reason"]) == ("single", "tool_turn")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("required", ["function_call"]),
        ({"type": "function", "name": "weather"}, ["function_call"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "weather"}],
            },
            ["function_call"],
        ),
        ("none", ["message"]),
    ],
)
async def test_tool_choice_is_obeyed(choice: object, expected: list[str]) -> None:
    other = {"type": "function", "name": "time", "parameters": None, "strict": None}
    async with served() as server:
        body = await create(server, model="b", tools=[other, WEATHER], tool_choice=choice)

    assert kinds(body) == expected
    if choice not in ("required", "none"):
        assert body["output"][0]["name"] == "weather"
    assert check_strictly(body).model_dump(mode="json")["tool_choice"] == choice


async def test_logprobs_of_a_single_model_are_included() -> None:
    fields: dict[str, object] = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    async with served() as server:
        body = await create(server, model="b", **fields)
        fused = await server.http.post(RESPONSES, json=ask(**fields))

    logprobs = body["output"][0]["content"][0]["logprobs"]
    assert [place["token"] for place in logprobs] == ["8", " euros", "."]
    assert len(logprobs[0]["top_logprobs"]) == 1
    assert (fused.status_code, fused.json()["error"]["param"]) == (400, "include")
    check_strictly(body)
