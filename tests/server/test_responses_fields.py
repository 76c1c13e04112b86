"""read_responses: which fields are honored, refused, ignored."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.errors import RequestError
from localfusion.functions import ToolCall
from localfusion.server.envelope import NotFoundError
from localfusion.server.responses_fields import (
    ResponsesBody,
    ResponsesRequest,
    read_responses,
)
from localfusion.server.responses_items import CallItem, MessageItem
from localfusion.server.store import StoredResponse
from localfusion.types import Message

FUNCTION: dict[str, object] = {"type": "function", "name": "weather"}
MESSAGE = {"role": "user", "content": "hello"}


def find(id: str) -> StoredResponse:
    raise NotFoundError("there is none")


def read(document: Mapping[str, object], max_messages: int = 2000) -> ResponsesRequest:
    return read_responses(document, max_messages, find)


def ask(**fields: object) -> dict[str, object]:
    return {"model": "trio", "input": "hello", **fields}


def item(**fields: object) -> dict[str, object]:
    return ask(input=[MESSAGE, {**fields}])


def schema(schema: object, **fields: object) -> dict[str, object]:
    form = {"type": "json_schema", "name": "x", "schema": schema, **fields}
    return ask(text={"format": form})


def deep(levels: int) -> dict[str, object]:
    found: dict[str, object] = {"type": "string"}
    for _ in range(levels - 1):
        found = {"type": "array", "items": found}
    return found


MALFORMED = [
    ("model absent", {"input": "x"}, "missing_parameter", "model"),
    ("model null", ask(model=None), "invalid_type", "model"),
    ("model 7", ask(model=7), "invalid_type", "model"),
    ("input absent", {"model": "trio"}, "missing_parameter", "input"),
    ("input null", ask(input=None), "invalid_type", "input"),
    ("input number", ask(input=7), "invalid_type", "input"),
    ("input empty", ask(input=[]), "out_of_range", "input"),
    ("input of skipped items", ask(input=[{"type": "reasoning"}]), "out_of_range", "input"),
    ("item text", ask(input=["x"]), "invalid_type", "input[0]"),
    ("item without role", item(content="x"), "missing_parameter", "input[1].role"),
    ("role unknown", item(role="wizard", content="x"), "out_of_range", "input[1].role"),
    ("content null", item(role="user", content=None), "invalid_type", "input[1].content"),
    ("content empty", item(role="user", content=[]), "out_of_range", "input[1].content"),
    (
        "image",
        item(role="user", content=[{"type": "input_image", "image_url": "file:///etc/passwd"}]),
        "unsupported_image",
        "input[1].content[0]",
    ),
    (
        "file",
        item(role="user", content=[{"type": "input_file", "file_id": "x"}]),
        "unsupported_parameter",
        "input[1].content[0]",
    ),
    ("item reference", item(type="item_reference", id="x"), "unsupported_parameter", "input[1]"),
    ("web search item", item(type="web_search_call"), "unsupported_parameter", "input[1]"),
    (
        "call without arguments",
        item(type="function_call", call_id="c", name="x"),
        "missing_parameter",
        "input[1].arguments",
    ),
    (
        "output of no call",
        item(type="function_call_output", call_id="c", output="x"),
        "out_of_range",
        "input[1].call_id",
    ),
    ("temperature text", ask(temperature="0.7"), "invalid_type", "temperature"),
    ("temperature 2.1", ask(temperature=2.1), "out_of_range", "temperature"),
    ("top_p 0", ask(top_p=0), "out_of_range", "top_p"),
    ("length 0", ask(max_output_tokens=0), "out_of_range", "max_output_tokens"),
    ("length 2^31", ask(max_output_tokens=2**31), "out_of_range", "max_output_tokens"),
    ("stream text", ask(stream="yes"), "invalid_type", "stream"),
    ("stream options", ask(stream_options={}), "unsupported_parameter", "stream_options"),
    ("effort", ask(reasoning={"effort": "huge"}), "out_of_range", "reasoning.effort"),
    (
        "summary",
        ask(reasoning={"summary": "concise"}),
        "unsupported_parameter",
        "reasoning.summary",
    ),
    ("verbosity", ask(text={"verbosity": "low"}), "unsupported_parameter", "text.verbosity"),
    ("format", ask(text={"format": {"type": "xml"}}), "out_of_range", "text.format.type"),
    (
        "schema absent",
        ask(text={"format": {"type": "json_schema", "name": "x"}}),
        "missing_parameter",
        "text.format.schema",
    ),
    ("schema name", schema({}, name=None), "missing_parameter", "text.format.name"),
    ("M35 depth", schema(deep(17)), "schema_not_supported", "text.format.schema"),
    (
        "M36 129 tools",
        ask(tools=[{**FUNCTION, "name": f"f{i}"} for i in range(129)]),
        "out_of_range",
        "tools",
    ),
    ("M36 one name twice", ask(tools=[FUNCTION] * 2), "out_of_range", "tools[1].name"),
    (
        "M36 bad name",
        ask(tools=[{"type": "function", "name": "a b"}]),
        "out_of_range",
        "tools[0].name",
    ),
    ("nested function", ask(tools=[{"type": "function"}]), "missing_parameter", "tools[0].name"),
    (
        "schema of a tool",
        ask(tools=[{**FUNCTION, "parameters": deep(17)}]),
        "schema_not_supported",
        "tools[0].parameters",
    ),
    ("hosted tool", ask(tools=[{"type": "web_search"}]), "unsupported_parameter", "tools[0]"),
    (
        "M36 choice of none",
        ask(tools=[FUNCTION], tool_choice={"type": "function", "name": "x"}),
        "out_of_range",
        "tool_choice.name",
    ),
    (
        "allowed tool of none",
        ask(
            tools=[FUNCTION],
            tool_choice={
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [FUNCTION, {"type": "function", "name": "x"}],
            },
        ),
        "out_of_range",
        "tool_choice.tools[1].name",
    ),
    ("choice without tools", ask(tool_choice="required"), "out_of_range", "tool_choice"),
    ("hosted choice", ask(tool_choice={"type": "mcp"}), "unsupported_parameter", "tool_choice"),
    ("include", ask(include=["everything"]), "out_of_range", "include[0]"),
    ("top_logprobs alone", ask(top_logprobs=1), "unsupported_parameter", "top_logprobs"),
    ("top_logprobs 21", ask(top_logprobs=21), "out_of_range", "top_logprobs"),
    ("metadata", ask(metadata={"x": 1}), "invalid_type", "metadata.x"),
    ("background", ask(background=True), "unsupported_parameter", "background"),
    ("conversation", ask(conversation="conv_1"), "unsupported_parameter", "conversation"),
    ("prompt", ask(prompt={"id": "x"}), "unsupported_parameter", "prompt"),
    ("truncation", ask(truncation="auto"), "unsupported_parameter", "truncation"),
    ("service tier", ask(service_tier="flex"), "unsupported_parameter", "service_tier"),
    ("M37 engine's field", ask(chat_template="x"), "unsupported_parameter", "chat_template"),
    ("M25 fusion option", ask(fusion={"juge": "x"}), "unknown_option", "fusion.juge"),
    (
        "M40 two forms",
        ask(fusion={}, plugins=[{"id": "fusion"}]),
        "out_of_range",
        "plugins[0]",
    ),
    (
        "panel events of no stream",
        ask(fusion={"stream_panel": True}),
        "unsupported_parameter",
        "fusion.stream_panel",
    ),
    (
        "progress",
        ask(fusion={"progress": "reasoning"}),
        "unsupported_parameter",
        "fusion.progress",
    ),
    ("M25 unknown fields", ask(**{f"x{i}": 1 for i in range(101)}), "too_many_values", None),
]


@pytest.mark.parametrize(
    ("document", "code", "param"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_malformed_field_is_refused_by_its_path(
    document: Mapping[str, object], code: str, param: str | None
) -> None:
    with pytest.raises(RequestError) as refused:
        read(document)

    assert (refused.value.code, refused.value.param) == (code, param)
    assert "; " in str(refused.value), "a refusal ends with its remedy"
    assert "passwd" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False},
        {"truncation": "disabled"},
        {"service_tier": "auto"},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
        {"reasoning": {"summary": "auto", "effort": None}},
        {"include": ["reasoning.encrypted_content"]},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"prompt_cache_key": "x", "user": "me", "max_tool_calls": 3, "store": True},
        dict.fromkeys(("instructions", "stream", "tools", "text", "reasoning", "metadata")),
    ],
)
def test_fields_that_ask_for_nothing_more_change_nothing(fields: dict[str, object]) -> None:
    asked = read(ask(**fields))

    assert asked.chat.request == read(ask()).chat.request
    assert asked.chat.ignored == ()


def test_too_many_items_are_refused_with_the_earlier_ones() -> None:
    stored = StoredResponse({"id": "r", "output": []}, [MESSAGE] * 2)

    with pytest.raises(RequestError) as refused:
        read_responses(ask(previous_response_id="r"), 2, lambda _: stored)

    assert refused.value.param == "input"
    assert read_responses(ask(previous_response_id="r"), 3, lambda _: stored).chat.request.messages


def test_calls_belong_to_the_turn_of_the_text_beside_them() -> None:
    def call(id: str) -> dict[str, object]:
        return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}

    def output(id: str) -> dict[str, object]:
        return {"type": "function_call_output", "call_id": id, "output": id}

    says = {"role": "assistant", "content": "wait"}
    asked = read(
        ask(input=[MESSAGE, says, call("1"), call("2"), output("1"), output("2"), call("3"), says])
    )

    one, two, three = (ToolCall(id, "f", "{}") for id in "123")
    assert asked.chat.request.messages[1:] == (
        Message("assistant", "wait", (one, two)),
        Message("tool", "1", tool_call_id="1"),
        Message("tool", "2", tool_call_id="2"),
        Message("assistant", "wait", (three,)),
    )


def test_error_of_a_carried_on_conversation_points_into_the_own_input() -> None:
    stored = StoredResponse({"id": "r", "output": []}, [MESSAGE] * 2)
    lone = {"type": "function_call_output", "call_id": "x", "output": ""}

    with pytest.raises(RequestError) as refused:
        read_responses(ask(input=[lone], previous_response_id="r"), 9, lambda _: stored)

    assert refused.value.param == "input[0].call_id"


def test_allowed_tools_are_the_only_ones_offered() -> None:
    other = {**FUNCTION, "name": "time"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [other]}

    tools = read(ask(tools=[FUNCTION, other], tool_choice=choice)).chat.request.tools

    assert tools is not None
    assert [function.name for function in tools.functions] == ["time"]
    assert tools.choice == "auto"


_KEYS = st.sampled_from(
    [*MessageItem.model_fields, *CallItem.model_fields, "output", "format", "schema", "effort"]
)
_WORDS = st.sampled_from(["message", "user", "input_text", "function", "json_schema", "auto"])
_KINDS = st.sampled_from(["function_call", "function_call_output", "reasoning", "allowed_tools"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | _WORDS | _KINDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from([name for name in ResponsesBody.model_fields if name != "model"])


@given(st.dictionaries(_FIELDS, _JSON, max_size=3))
def test_any_body_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(RequestError):
        read(ask(**fields))
