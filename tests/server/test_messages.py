"""Anthropic's Messages API: its official client against a served gateway."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import RequestError
from localfusion.server.access import Access
from localfusion.server.keys import KeyFile
from localfusion.server.messages_fields import read_messages
from tests.server.system import Served, SimGateway, gateway, served

ASK: dict[str, Any] = {
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "How many pens?"}],
}
LOOK = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"what": {"type": "string"}}},
}


@asynccontextmanager
async def client(
    system: SimGateway | None = None, key: str = "none", access: Access | None = None
) -> AsyncIterator[tuple[Any, Served]]:
    async with (
        served(system, access=access) as server,
        AsyncAnthropic(base_url=server.url, api_key=key, max_retries=0, timeout=20) as sdk,
    ):
        yield sdk, server


def blocks(message: Message) -> list[tuple[str, str]]:
    return [
        (str(block.type), str(getattr(block, "text", None) or getattr(block, "thinking", "")))
        for block in message.content
    ]


async def test_preset_answers_a_message() -> None:
    async with client() as (sdk, _):
        message = await sdk.messages.create(model="localfusion/trio", **ASK)

    (block,) = message.content
    assert block.type == "text"
    assert block.text == "They cost 8 euros in all."
    assert (message.role, message.model, message.stop_reason) == ("assistant", "d", "end_turn")
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("model", ["localfusion/trio", "openrouter/fusion", "a"])
async def test_stream_gives_the_same_message(model: str) -> None:
    async with client() as (sdk, _):
        whole = await sdk.messages.create(model=model, **ASK)
        async with sdk.messages.stream(model=model, **ASK) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_message()

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert blocks(streamed) == blocks(whole)
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens


async def test_system_and_earlier_turns_reach_the_model() -> None:
    system = gateway()
    conversation = [
        {"role": "user", "content": "Hi."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hidden", "signature": "x"},
                {"type": "text", "text": "Hello."},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}],
        },
    ]
    async with client(system) as (sdk, _):
        await sdk.messages.create(
            model="a",
            max_tokens=20,
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            messages=conversation,
            extra_body={"temperature": 0.5},
            stop_sequences=["END"],
            metadata={"user_id": "ann"},
        )

    (prompt,) = system.engines["a"].calls
    told = [(message.role, message.content) for message in prompt.messages]
    assert told == [
        ("system", "Be brief."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "One\ntwo"),
    ]
    assert prompt.sampling.temperature == 0.5
    assert prompt.sampling.stop == ("END",)
    assert prompt.sampling.max_tokens == 20


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_is_called_and_its_result_answered(stream: bool) -> None:
    system = gateway()
    async with client(system) as (sdk, _):
        asked: dict[str, Any] = {
            "model": "a",
            **ASK,
            "tools": [LOOK],
            "tool_choice": {"type": "tool", "name": "look"},
        }
        if stream:
            async with sdk.messages.stream(**asked) as events:
                message = await events.get_final_message()
        else:
            message = await sdk.messages.create(**asked)
        call = message.content[-1]
        assert call.type == "tool_use"
        after = await sdk.messages.create(
            model="a",
            max_tokens=60,
            tools=[LOOK],
            messages=[
                *ASK["messages"],
                {"role": "assistant", "content": [call.model_dump()]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": call.id,
                            "content": [{"type": "text", "text": "8 pens"}],
                            "is_error": True,
                        },
                        {"type": "text", "text": "So?"},
                    ],
                },
            ],
        )

    assert message.stop_reason == "tool_use"
    assert call.name == "look"
    assert isinstance(call.input, dict)
    assert after.content
    last = system.engines["a"].calls[-1].messages
    assert [message.role for message in last] == ["user", "assistant", "tool", "user"]
    assert last[1].tool_calls[0].id == last[2].tool_call_id == call.id
    assert last[2].content == "Error: 8 pens"


@pytest.mark.parametrize("kind", ["any", "auto", "none"])
async def test_tool_choice_reaches_the_engine(kind: str) -> None:
    system = gateway()
    choice: dict[str, Any] = {"type": kind}
    if kind != "none":
        choice["disable_parallel_tool_use"] = True
    async with client(system) as (sdk, _):
        await sdk.messages.create(model="a", **ASK, tools=[LOOK], tool_choice=choice)

    tools = system.engines["a"].calls[-1].tools
    if kind == "none":
        assert tools is None
    else:
        assert tools is not None
        assert tools.choice == {"any": "required", "auto": "auto"}[kind]
        assert tools.parallel is False


async def test_answer_has_the_wanted_form() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with served() as server:
        asked = {
            "model": "a",
            **ASK,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        }
        answer = await server.http.post("/v1/messages", json=asked)

    assert answer.status_code == 200, answer.text
    assert "n" in json.loads(answer.json()["content"][0]["text"])


async def test_thinking_is_shown_where_it_is_wanted() -> None:
    system = gateway(a=SimEngine("8", name="a", reasoning="Three for two."))
    async with client(system) as (sdk, _):
        plain = await sdk.messages.create(model="a", **ASK)
        wanted: dict[str, Any] = {"type": "enabled", "budget_tokens": 8000}
        thought = await sdk.messages.create(model="a", thinking=wanted, **ASK)
        async with sdk.messages.stream(model="a", thinking=wanted, **ASK) as stream:
            streamed = await stream.get_final_message()

    assert [block.type for block in plain.content] == ["text"]
    assert [block.type for block in thought.content] == ["thinking", "text"]
    assert blocks(streamed) == blocks(thought)
    assert [call.effort for call in system.engines["a"].calls] == [None, "medium", "medium"]


async def test_answer_cut_at_its_limit_says_so() -> None:
    async with client(gateway(a=SimEngine("word " * 50, name="a"))) as (sdk, _):
        message = await sdk.messages.create(model="a", **{**ASK, "max_tokens": 5})

    assert message.stop_reason == "max_tokens"


async def test_degraded_answer_says_so_before_its_first_word() -> None:
    system = gateway(c=SimEngine(failure=SimFailure("refuse")))
    async with client(system) as (sdk, _):
        async with sdk.messages.stream(model="localfusion/trio", **ASK) as stream:
            events = [event async for event in stream]
        raw = await sdk.messages.with_raw_response.create(model="localfusion/trio", **ASK)

    start = events[0]
    assert start.type == "message_start"
    assert (start.message.model_extra or {})["fusion"]["status"] == "degraded"
    assert raw.headers["x-localfusion-status"] == "degraded"


async def test_fusion_object_is_taken_here_too() -> None:
    async with client() as (_, server):
        asked = {"model": "localfusion/trio", **ASK, "fusion": {"include": ["candidates", "text"]}}
        answer = await server.http.post("/v1/messages", json=asked)

    assert len(answer.json()["fusion"]["candidates"]) == 3


async def test_tokens_are_counted_without_a_run() -> None:
    system = gateway()
    async with client(system) as (sdk, _):
        count = await sdk.messages.count_tokens(
            model="localfusion/trio", messages=ASK["messages"], system="Be brief."
        )
        more = await sdk.messages.count_tokens(
            model="localfusion/trio",
            messages=[{"role": "user", "content": "How many pens? " * 20}],
            tools=[LOOK],
        )

    assert 0 < count.input_tokens < more.input_tokens
    assert system.calls == 0


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": 1.5}, 400, "temperature"),
        ({"top_k": 4}, 400, "top_k"),
        ({"messages": []}, 400, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            400,
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "server_tool_use"}]}]},
            400,
            "messages[0].content[0]",
        ),
        (
            {"messages": [*ASK["messages"], {"role": "assistant", "content": "It is"}]},
            400,
            "messages[1].role",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}
                ]
            },
            400,
            "messages[0].content[0].tool_use_id",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_use", "id": "x", "name": "look", "input": {}}],
                    }
                ]
            },
            400,
            "messages[0].content[0]",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            400,
            "tools[0]",
        ),
        (
            {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "other"}},
            400,
            "tool_choice.name",
        ),
        ({"tool_choice": {"type": "any"}}, 400, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, 400, "thinking.budget_tokens"),
        ({"fusion": {"pannel": []}}, 400, "fusion.pannel"),
    ],
)
async def test_what_is_wrong_is_named_in_the_apis_own_envelope(
    change: Mapping[str, Any], status: int, param: str
) -> None:
    async with served() as server:
        asked = {"model": "a", **ASK, **change}
        answer = await server.http.post("/v1/messages", json=asked)

    told = answer.json()
    assert answer.status_code == status
    assert told["type"] == "error"
    assert told["error"]["type"] in ("invalid_request_error", "not_found_error")
    assert told["error"]["param"] == param
    assert server.gateway.calls == 0


async def test_keys_and_failures_have_the_apis_own_errors(tmp_path: Any) -> None:  # noqa: ANN401  a path
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.create("ann", "use")
    system = gateway(a=SimEngine(failure=SimFailure("refuse")))
    async with client(system, secret, Access(keys=keys)) as (sdk, server):
        with pytest.raises(anthropic.APIStatusError) as failed:
            await sdk.messages.create(model="a", **ASK)
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await sdk.with_options(api_key="lf-other").messages.create(model="a", **ASK)
        odd = await server.http.post(
            "/v1/messages",
            json={"model": "a", **ASK},
            headers={"x-api-key": secret, "idempotency-key": "x" * 300},
        )

    assert failed.value.status_code == 503
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["error"]["type"] == "overloaded_error"
    assert isinstance(unknown.value.body, dict)
    assert unknown.value.body["error"]["type"] == "authentication_error"
    assert (odd.status_code, odd.json()["type"]) == (400, "error")


async def test_stream_that_breaks_ends_with_an_error_event() -> None:
    broken = SimEngine("word " * 9, name="a", failure=SimFailure("die", at_token=3))
    async with served(gateway(a=broken)) as server:
        answer = await server.http.post("/v1/messages", json={"model": "a", **ASK, "stream": True})

    assert answer.status_code == 200
    *_, event, data = answer.text.strip().splitlines()
    assert event == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert (told["type"], told["error"]["type"]) == ("error", "api_error")


FIELDS = ["type", "text", "content", "role", "input", "id", "name", "tool_use_id", "source"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner | st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3), st.sampled_from(["messages", "system", "tools", "thinking"]))
def test_any_content_is_read_or_refused_by_its_place(content: list[object], field: str) -> None:
    document: dict[str, object] = {"model": "a", **ASK, field: content}
    if field == "messages":
        document["messages"] = [{"role": "user", "content": content}]
    refused = ""
    try:
        asked = read_messages(document, 100)
    except RequestError as error:
        refused = error.param or "nothing"
    else:
        assert asked.chat.request.messages

    assert not refused or refused.startswith(field)


@pytest.mark.parametrize(
    ("kind", "candidates"), [({"type": "any"}, 3), ({"type": "none"}, 0), ({"type": "auto"}, 3)]
)
async def test_fusion_tool_obeys_the_choice_of_this_api(
    kind: dict[str, str], candidates: int
) -> None:
    fuses = {"type": "openrouter:fusion", "parameters": {"include": ["candidates"]}}
    system = gateway(d=SimEngine("8 euros.", name="d", calls_tools=True))
    async with served(system) as server:
        asked = {"model": "d", **ASK, "tools": [fuses], "tool_choice": kind}
        answer = await server.http.post("/v1/messages", json=asked)

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["fusion"]["candidates"]) == candidates


async def test_thinking_that_nobody_is_to_see_is_not_shown() -> None:
    async with served(gateway(a=SimEngine("8", name="a", reasoning="Hm."))) as server:
        wanted = {"type": "adaptive", "display": "omitted"}
        asked = {"model": "a", **ASK, "thinking": wanted}
        answer = await server.http.post("/v1/messages", json=asked)

    assert [block["type"] for block in answer.json()["content"]] == ["text"]


async def test_every_answer_has_the_id_and_the_envelope_of_this_api() -> None:
    async with served() as server:
        wrong = await server.http.get("/v1/messages")
        nowhere = await server.http.post("/v1/messages/batches", json={})
        late = [*ASK["messages"], {"role": "system", "content": "Be brief."}]
        told = await server.http.post("/v1/messages", json={"model": "a", **ASK, "messages": late})

    assert [wrong.status_code, nowhere.status_code, told.status_code] == [405, 404, 200]
    assert wrong.headers["allow"] == "POST"
    assert wrong.json()["type"] == nowhere.json()["type"] == "error"
    assert told.headers["request-id"] == told.headers["x-request-id"]
