"""Fusion's own request forms: slugs, plugin, tool and object; panel and judge of one request."""

import json
from collections.abc import Mapping
from typing import cast

import pytest
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageParam,
    ChatCompletionUserMessageParam,
)

from localfusion.engines.sim import SimEngine, SimFailure
from tests.server.system import Served, gateway, served

HELLO = [{"role": "user", "content": "How many pens?"}]
TOOL: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object"}},
}
WEATHER: ChatCompletionUserMessageParam = {"role": "user", "content": "Weather?"}


async def ask(
    server: Served, *, headers: Mapping[str, str] | None = None, **fields: object
) -> dict[str, object]:
    body = {"model": "localfusion/trio", "messages": HELLO, **fields}
    reply = await server.http.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    found = reply.json()
    assert isinstance(found, dict)
    return found


async def refusal(
    server: Served, *, headers: Mapping[str, str] | None = None, **fields: object
) -> dict[str, object]:
    body = {"model": "localfusion/trio", "messages": HELLO, **fields}
    reply = await server.http.post("/v1/chat/completions", json=body, headers=headers)
    found = reply.json()["error"]
    return {"status": reply.status_code, "code": found["code"], "param": found["param"]}


def text(reply: Mapping[str, object]) -> object:
    return reply["choices"][0]["message"]["content"]  # type: ignore[index]  # JSON


def asked(server: Served) -> dict[str, int]:
    engines = server.gateway.engines
    return {name: len(engine.calls) for name, engine in engines.items() if engine.calls}


FORMS: list[dict[str, object]] = [
    {"model": "openrouter/fusion", "plugins": [{"id": "fusion", "analysis_models": ["a", "b"]}]},
    {
        "model": "d",
        "plugins": [{"id": "fusion", "preset": "trio", "analysis_models": ["a", "b"]}],
    },
    {
        "model": "d",
        "tools": [
            {
                "type": "openrouter:fusion",
                "parameters": {"analysis_models": ["a", "b"]},
            }
        ],
        "tool_choice": "required",
    },
    {
        "model": "d",
        "tools": [{"type": "openrouter:fusion", "parameters": {"analysis_models": ["a", "b"]}}],
        "tool_choice": {"type": "openrouter:fusion"},
    },
    {"model": "localfusion/trio", "fusion": {"panel": ["a", {"model": "b"}]}},
    {"model": "openrouter/fusion-flash:free", "fusion": {"analysis_models": ["a", "b"]}},
]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
async def test_every_form_asks_the_same_panel(form: dict[str, object]) -> None:
    async with served() as server:
        reply = await ask(server, headers=None, **form)

    assert asked(server) == {"a": 1, "b": 1, "d": 2}
    assert (reply["model"], text(reply)) == ("d", "They cost 8 euros in all.")


async def test_options_reach_members_and_judge_as_the_contract_says() -> None:
    options = {
        "panel": [{"model": "a", "temperature": 0.2, "reasoning": {"effort": "xhigh"}}, "b"],
        "model": "c",
        "temperature": 0.9,
        "reasoning": {"effort": "low"},
        "max_completion_tokens": 77,
        "analysis": "none",
    }

    async with served() as server:
        reply = await ask(server, fusion=options, temperature=0.5)

    engines = server.gateway.engines
    (a,), (b,), (c,) = engines["a"].calls, engines["b"].calls, engines["c"].calls
    assert (a.sampling.temperature, b.sampling.temperature) == (0.2, 0.9)
    assert (a.effort, b.effort) == ("high", "low")
    assert (a.sampling.max_tokens, b.sampling.max_tokens) == (77, 77)
    assert c.sampling.temperature == 0.5
    assert reply["model"] == "c"


async def test_name_that_stands_twice_is_two_candidates() -> None:
    async with served() as server:
        reply = await ask(server, fusion={"analysis_models": ["a", "a"], "include": ["candidates"]})

    candidates = reply["fusion"]["candidates"]  # type: ignore[index]  # JSON
    assert [candidate["model"] for candidate in candidates] == ["a", "a"]


async def test_enabled_false_lets_the_judge_answer_alone_and_says_so() -> None:
    async with served() as server:
        by_slug = await ask(server, plugins=[{"id": "fusion", "enabled": False}])
        by_model = await ask(server, model="a", plugins=[{"id": "fusion", "enabled": False}])

    assert asked(server) == {"a": 1, "d": 1}
    assert by_slug["fusion"]["reason"] == "disabled"  # type: ignore[index]  # JSON
    assert by_slug["fusion"]["status"] == "single"  # type: ignore[index]  # JSON
    assert by_model["model"] == "a"


async def test_model_decides_on_the_tool_where_it_is_only_offered() -> None:
    tools = [{"type": "openrouter:fusion"}]
    eager = gateway(d=SimEngine("It is 8.", name="d", calls_tools=True))

    async with served(eager) as server:
        fused = await ask(server, model="d", tools=tools)
        forbidden = await ask(server, model="d", tools=tools, tool_choice="none")
    async with served() as server:
        alone = await ask(server, model="d", tools=tools)

    assert fused.get("fusion") is None
    assert text(fused) == "It is 8."
    assert forbidden["fusion"]["status"] == "single"  # type: ignore[index]  # JSON
    assert alone["fusion"]["reason"] == "not_called"  # type: ignore[index]  # JSON
    assert asked(server) == {"d": 1}


@pytest.mark.parametrize(("before", "place"), [(1, 1), (0, 0)])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_faulty_function_is_named_by_its_place_in_the_clients_list(
    path: str, before: int, place: int
) -> None:
    named: dict[str, object] = {"name": "not a name"}
    function = named if path.endswith("responses") else {"function": named}
    tools = [{"type": "openrouter:fusion"}] * before + [{"type": "function", **function}]
    said = {"input": "Hi"} if path.endswith("responses") else {"messages": HELLO}

    async with served() as server:
        answer = await server.http.post(path, json={"model": "d", "tools": tools, **said})

    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"].startswith(f"tools[{place}]")
    assert error["message"].startswith(f"tools[{place}]")


async def test_slug_always_deliberates_whatever_the_tool_choice() -> None:
    async with served() as server:
        await ask(
            server,
            model="openrouter/fusion",
            tools=[{"type": "openrouter:fusion"}],
            tool_choice="none",
        )

    assert asked(server)["a"] == 1


async def test_block_tells_what_was_asked_for() -> None:
    system = gateway(b=SimEngine(failure=SimFailure("refuse"), name="b"))

    async with served(system) as server:
        reply = await ask(
            server,
            model="openrouter/fusion",
            fusion={"include": ["candidates", "text", "analysis", "timing"]},
        )
        bare = await ask(server, fusion={"include": []})

    block = reply["fusion"]
    assert isinstance(block, dict)
    assert (block["status"], block["reason"]) == ("degraded", "engine_unavailable")
    assert (block["requested"], block["preset"], block["policy"]) == (
        "openrouter/fusion",
        "trio",
        "fuse",
    )
    assert [lost["index"] for lost in block["lost"]] == [1]
    assert [c["text"] for c in block["candidates"]] == ["Eighteen.", "", "Twelve."]
    assert all("reasoning" not in c for c in block["candidates"])
    assert block["analysis"].keys() >= {"consensus", "blind_spots"}
    path = block["timing"]["critical_path"]
    assert sum(step["seconds"] for step in path) == pytest.approx(block["timing"]["seconds"])
    assert "candidates" not in bare["fusion"]  # type: ignore[operator]  # JSON


async def test_stream_ends_with_the_block() -> None:
    body = {
        "model": "localfusion/trio",
        "messages": HELLO,
        "stream": True,
        "fusion": {"include": ["candidates"], "progress": "reasoning"},
    }

    async with served() as server:
        raw = (await server.http.post("/v1/chat/completions", json=body)).text

    chunks = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    told = [c["choices"][0]["delta"].get("reasoning", "") for c in chunks if c["choices"]]
    assert "d compares the answers." in "".join(told)
    assert len(chunks[-1]["fusion"]["candidates"]) == 3
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


REFUSED: list[tuple[dict[str, object], int, str, str]] = [
    ({"fusion": {"model": "nobody"}}, 404, "model_not_found", "fusion.model"),
    ({"fusion": {"analysis_models": ["a", "nobody"]}}, 404, "model_not_found", "fusion.panel[1]"),
    ({"fusion": {"quorum": 4}}, 400, "out_of_range", "fusion.quorum"),
    ({"fusion": {"preset": "general-high"}}, 400, "out_of_range", "fusion.preset"),
    ({"fusion": {"policy": "wild"}}, 400, "out_of_range", "fusion.policy"),
    ({"n": 2}, 400, "unsupported_parameter", "n"),
    ({"logprobs": True}, 400, "unsupported_parameter", "logprobs"),
    ({"model": "nobody"}, 404, "model_not_found", "model"),
]


@pytest.mark.parametrize(("fields", "status", "code", "param"), REFUSED)
async def test_what_cannot_be_is_refused_before_anyone_is_asked(
    fields: dict[str, object], status: int, code: str, param: str
) -> None:
    async with served() as server:
        found = await refusal(server, headers=None, **fields)

    assert found == {"status": status, "code": code, "param": param}
    assert asked(server) == {}


async def test_fusion_in_a_fusion_is_refused_and_a_model_in_one_answers() -> None:
    inner = {"x-openrouter-fusion-depth": "1"}
    plugins = [{"id": "fusion"}]

    async with served() as server:
        slug = await refusal(server, headers=inner)
        odd = [
            await refusal(server, headers={"x-openrouter-fusion-depth": value}, model="a")
            for value in ("abc", "-1", "1" + "0" * 30)
        ]
        plain = await ask(server, headers=inner, model="a", plugins=plugins)

    assert (slug["status"], slug["code"]) == (400, "recursion_refused")
    assert [found["code"] for found in odd] == ["invalid_type"] * 3
    assert plain["model"] == "a"
    assert asked(server) == {"a": 1}


async def test_alias_stands_for_its_model_in_every_place() -> None:
    system = gateway(aliases={"gpt-6-astra": "trio", "claude": "a"})

    async with served(system) as server:
        names = [entry["id"] for entry in (await server.http.get("/v1/models")).json()["data"]]
        fused = await ask(server, model="gpt-6-astra", fusion={"analysis_models": ["claude", "b"]})
        alone = await ask(server, model="claude")

    assert {"gpt-6-astra", "claude"} <= set(names)
    assert (fused["model"], alone["model"]) == ("d", "a")
    assert asked(server) == {"a": 2, "b": 1, "d": 2}


async def test_several_answers_of_a_single_model_come_in_one_reply() -> None:
    async with served() as server:
        whole = await server.openai.chat.completions.create(
            model="a",
            messages=[{"role": "user", "content": "x"}],
            n=3,
            seed=5,
            logprobs=True,
            top_logprobs=1,
        )
        stream = await server.openai.chat.completions.create(
            model="a",
            messages=[{"role": "user", "content": "x"}],
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert {choice.message.content for choice in whole.choices} == {"Eighteen."}
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(place.token for place in logprobs.content) == "Eighteen."
    assert [call.sampling.seed for call in server.gateway.engines["a"].calls[:3]] == [5, 6, 7]
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "Eighteen.", 1: "Eighteen."}
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == 2 * whole.usage.completion_tokens // 3


async def test_tool_call_round_trip_through_the_official_client() -> None:
    async with served() as server:
        create = server.openai.chat.completions.create
        called = await create(
            model="localfusion/trio", messages=[WEATHER], tools=[TOOL], tool_choice="required"
        )
        stream = await create(
            model="a",
            messages=[WEATHER],
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "look"}},
            stream=True,
        )
        finish = [c.choices[0].finish_reason async for c in stream if c.choices][-1]
        message = called.choices[0].message
        assert message.tool_calls is not None
        history: list[object] = [
            WEATHER,
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."},
        ]
        answered = await create(
            model="localfusion/trio",
            messages=cast(list[ChatCompletionMessageParam], history),
            tools=[TOOL],
        )

    assert called.choices[0].finish_reason == finish == "tool_calls"
    assert message.content is None
    assert answered.choices[0].finish_reason == "stop"
    assert answered.choices[0].message.content == "They cost 8 euros in all."


async def test_json_schema_is_obeyed_by_the_answer() -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}

    async with served() as server:
        obeyed = await ask(server, response_format=form)
        free = await ask(server, response_format={"type": "json_object"})

    assert isinstance(json.loads(str(text(obeyed)))["sum"], int)
    assert isinstance(json.loads(str(text(free))), dict)


FUSES = {"type": "openrouter:fusion"}
OF_CHAT = {"type": "function", "function": {"name": "look"}}
OF_RESPONSES = {"type": "function", "name": "look"}
OF_MESSAGES: Mapping[str, object] = {"name": "look", "input_schema": {"type": "object"}}
UNBOUNDED = {"$ref": "https://evil.test/schema"}


@pytest.mark.malformed("M36")
@pytest.mark.parametrize(
    ("path", "tools", "param"),
    [
        ("chat/completions", [FUSES, {"type": "function"}], "tools[1].function"),
        ("chat/completions", [FUSES, OF_CHAT, OF_CHAT], "tools[2].function.name"),
        ("chat/completions", [OF_CHAT, FUSES, OF_CHAT], "tools[2].function.name"),
        ("chat/completions", [OF_CHAT, OF_CHAT, FUSES], "tools[1].function.name"),
        (
            "chat/completions",
            [FUSES, {"type": "function", "function": {"name": "x", "parameters": UNBOUNDED}}],
            "tools[1].function.parameters.$ref",
        ),
        ("responses", [FUSES, {"type": "function", "name": "a b"}], "tools[1].name"),
        ("responses", [FUSES, OF_RESPONSES, OF_RESPONSES], "tools[2].name"),
        ("messages", [FUSES, {"name": "look"}], "tools[1].input_schema"),
        ("messages", [FUSES, OF_MESSAGES, OF_MESSAGES], "tools[2].name"),
    ],
)
async def test_tool_is_named_by_its_place_in_the_clients_list(
    path: str, tools: list[object], param: str
) -> None:
    turns: dict[str, object] = {"messages": HELLO, "max_tokens": 9}
    asked = {"model": "d", "tools": tools, **({"input": "?"} if path == "responses" else turns)}
    async with served() as server:
        reply = await server.http.post(f"/v1/{path}", json=asked)

    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["message"].startswith(param)
    assert error.get("param", param) == param
