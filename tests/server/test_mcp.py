"""The MCP tools through the SDK's own client: over memory streams, and by HTTP on a real port."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp.types import CallToolResult, TextContent

from localfusion.config import Limits
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.server.admission import Runs
from localfusion.server.mcp_tools import create_mcp_server
from tests.server.system import (
    CHAT,
    Served,
    SimGateway,
    body,
    gateway,
    served,
    stalled,
    traced,
    until,
)

ASK = {"prompt": "How many pens?"}
OLD, NEW = "legacy", "2026-07-28"
both_protocols = pytest.mark.parametrize("mode", [OLD, NEW])


def connect(server: Served, mode: str = OLD) -> Client:
    return Client(f"{server.url}/mcp", mode=mode)


@asynccontextmanager
async def in_memory(
    system: SimGateway, *, preset: str | None = None, started: asyncio.Event | None = None
) -> AsyncGenerator[Client, None]:
    """Connect a client by memory streams, as stdio does by pipes."""
    runs = Runs(system.settings.limits)
    server = create_mcp_server(system, runs, preset=preset, started=started)
    async with Client(server, mode=OLD) as client:
        yield client


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def found(result: CallToolResult) -> dict[str, object]:
    assert not result.is_error, text(result)
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def message(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


class Notes:
    """What a client is told of progress."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.totals: list[float | None] = []
        self.words: list[str | None] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.values.append(progress)
        self.totals.append(total)
        self.words.append(message)


@both_protocols
async def test_tools_are_listed_with_schemas_that_say_all_there_is(mode: str) -> None:
    async with served() as server, connect(server, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert set(tools) == {"fuse", "list_presets"}
    schema = tools["fuse"].input_schema
    assert schema["required"] == ["prompt"]
    assert schema["additionalProperties"] is False
    assert all(field["description"] for field in schema["properties"].values())
    assert "vote" in json.dumps(schema["properties"]["policy"])


@both_protocols
async def test_answer_comes_as_text_and_with_its_account(tmp_path: Path, mode: str) -> None:
    async with traced(tmp_path) as server, connect(server, mode) as client:
        result = await client.call_tool("fuse", ASK)

    account = found(result)
    assert text(result) == account["answer"] == "They cost 8 euros in all."
    assert (account["status"], account["reason"], account["lost"]) == ("full", None, [])
    assert account["model"] == "d"
    assert isinstance(account["trace_id"], str)
    assert isinstance(account["usage"], dict)
    assert account["usage"]["stages"]["panel"]["calls"] == 3
    assert "analysis" not in account


async def test_analysis_has_five_parts_on_request() -> None:
    async with in_memory(gateway(preset={"options": {}})) as client:
        account = found(await client.call_tool("fuse", {**ASK, "analysis": True}))

    assert isinstance(account["analysis"], dict)
    assert set(account["analysis"]) == {
        "consensus",
        "contradictions",
        "partial_coverage",
        "unique_insights",
        "blind_spots",
    }


async def test_lost_members_are_named() -> None:
    system = gateway(b=SimEngine(failure=SimFailure("refuse"), name="b"))
    async with in_memory(system) as client:
        account = found(await client.call_tool("fuse", ASK))

    assert account["status"] == "degraded"
    assert isinstance(account["lost"], list)
    assert [lost["model"] for lost in account["lost"]] == ["b"]
    assert account["reason"] == account["lost"][0]["failure_reason"]


async def test_prompt_system_and_policy_reach_the_run() -> None:
    system = gateway(b=SimEngine("8"), c=SimEngine("8"), a=SimEngine("9"))
    async with in_memory(system) as client:
        arguments = {**ASK, "system": "Be brief.", "policy": "vote", "deadline_ms": 5000}
        account = found(await client.call_tool("fuse", arguments))

    asked = system.engines["a"].calls[0]
    assert [(m.role, m.content) for m in asked.messages] == [
        ("system", "Be brief."),
        ("user", "How many pens?"),
    ]
    assert account["answer"] == "8"
    assert account["model"] in ("b", "c")


async def test_call_may_choose_its_own_panel_and_judge() -> None:
    system = gateway()
    async with in_memory(system) as client:
        account = found(await client.call_tool("fuse", {**ASK, "panel": ["b", "b"], "judge": "a"}))

    assert account["model"] == "a"
    calls = {name: len(engine.calls) for name, engine in system.engines.items()}
    assert (calls["b"], calls["c"], calls["d"]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"panel": ["a", "x"]}, "panel[1]: there is no model 'x' here"),
        ({"judge": "x"}, "judge: there is no model 'x' here"),
        ({"panel": []}, "panel"),
    ],
)
async def test_unknown_panel_and_judge_are_told_by_their_argument(
    arguments: dict[str, object], said: str
) -> None:
    async with in_memory(gateway()) as client:
        result = await client.call_tool("fuse", {**ASK, **arguments})

    assert result.is_error
    assert said in text(result)


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("panel", "panel", ["a", "x"]),
        ("panel", "panel", ["trio"]),
        ("panel", "analysis_models", []),
        ("panel", "analysis_models", ["a"] * 9),
        ("panel", "analysis_models", [3]),
        ("panel", "analysis_models", "a"),
        ("judge", "model", "x"),
        ("judge", "model", ""),
        ("judge", "model", 3),
    ],
)
async def test_wrong_panel_and_judge_are_refused_in_the_words_of_http(
    argument: str, field: str, value: object
) -> None:
    system = gateway()
    async with served(system) as server, connect(server) as client:
        asked = body(fusion={field: value})
        told = (await server.http.post(CHAT, json=asked)).json()["error"]["message"]
        result = await client.call_tool("fuse", {**ASK, argument: value})

    assert result.is_error
    assert text(result).removeprefix(argument) == told.removeprefix(f"fusion.{field}")
    assert system.calls == 0


async def test_presets_are_listed_with_who_answers() -> None:
    preset = {"panel": [{"model": "a", "n": 2}, "b"], "description": "Two and one."}
    async with in_memory(gateway(preset=preset)) as client:
        result = await client.call_tool("list_presets", {})

    assert found(result) == {
        "presets": [
            {
                "name": "trio",
                "description": "Two and one.",
                "policy": "fuse",
                "members": ["a", "a", "b"],
                "judge": "d",
                "is_default": True,
            }
        ]
    }
    assert json.loads(text(result)) == found(result)


@both_protocols
async def test_progress_tells_each_stage_with_rising_numbers(mode: str) -> None:
    notes = Notes()
    async with served() as server, connect(server, mode) as client:
        await client.call_tool("fuse", ASK, progress_callback=notes)

    panel = [f"panel {done}/3" for done in range(4)]
    assert notes.words == [*panel, "analysis", "synthesis"]
    assert notes.values == sorted(set(notes.values))
    assert set(notes.totals) == {7}


async def test_progress_goes_on_while_nothing_happens() -> None:
    notes = Notes()
    system = gateway(b=stalled(), server={"keepalive": "5ms"})
    async with in_memory(system) as client, asyncio.TaskGroup() as group:
        call = group.create_task(client.call_tool("fuse", ASK, progress_callback=notes))
        await until(lambda: notes.words.count("panel 2/3") >= 4)
        call.cancel()

    assert notes.values == sorted(set(notes.values))
    assert max(notes.values) < 4, "the next stage has not begun"


@both_protocols
async def test_cancelled_call_leaves_the_engines_idle(mode: str) -> None:
    system = gateway(b=stalled())
    async with served(system) as server, connect(server, mode) as client:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(client.call_tool("fuse", ASK))
            await system.wait_for_calls("b")
            call.cancel()
        await system.wait_for_aborts("b")
        tools = await client.list_tools()

    assert system.aborts == {"b": 1}
    assert len(tools.tools) == 2, "the session goes on"


async def test_cancelled_call_in_memory_leaves_the_engines_idle() -> None:
    system = gateway(b=stalled())
    async with in_memory(system) as client:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(client.call_tool("fuse", ASK))
            await system.wait_for_calls("b")
            call.cancel()
        await system.wait_for_aborts("b")


async def test_client_that_hangs_up_leaves_the_engines_idle() -> None:
    system = gateway(b=stalled())
    call = message("tools/call", name="fuse", arguments=ASK)
    async with served(system) as server:
        async with server.http.stream("POST", "/mcp", json=call, headers=ACCEPT) as response:
            await system.wait_for_calls("b")
        await system.wait_for_aborts("b")

    assert response.status_code == 200


async def test_sessions_do_not_touch_each_others_calls() -> None:
    system = gateway(b=stalled())
    async with served(system) as server, connect(server) as one, connect(server) as two:
        async with asyncio.TaskGroup() as group:
            # Both clients count from 1: their calls have the same number.
            first = group.create_task(one.call_tool("fuse", ASK))
            second = group.create_task(two.call_tool("fuse", ASK))
            await system.wait_for_calls("b", 2)
            first.cancel()
            await system.wait_for_aborts("b")
            still_goes = not second.done() and system.aborts == {"b": 1}
            second.cancel()
        await until(lambda: system.aborts == {"b": 2})

    assert still_goes


async def test_cancelled_response_ends_as_http_wants() -> None:
    system = gateway(b=stalled())
    headers = {**ACCEPT, "mcp-session-id": "mine"}
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    call = message("tools/call", name="fuse", arguments=ASK)
    async with served(system) as server, asyncio.TaskGroup() as group:
        running = group.create_task(server.http.post("/mcp", json=call, headers=headers))
        await system.wait_for_calls("b")
        other = await server.http.post(
            "/mcp", json=notice, headers={**ACCEPT, "mcp-session-id": "yours"}
        )
        nameless = await server.http.post("/mcp", json=notice, headers=ACCEPT)
        aborts_of_strangers = dict(system.aborts)
        told = await server.http.post("/mcp", json=notice, headers=headers)

    assert aborts_of_strangers == {}
    assert {other.status_code, nameless.status_code, told.status_code} == {202}
    assert running.result().status_code == 200
    assert "result" not in running.result().text


async def test_session_outlives_the_gateway() -> None:
    async with served() as server:
        opened = await server.http.post("/mcp", json=initialize(), headers=ACCEPT)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    async with served() as server:
        call = message("tools/call", name="fuse", arguments=ASK)
        answer = await server.http.post("/mcp", json=call, headers={**ACCEPT, **session})

    assert "They cost 8 euros in all." in answer.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "prompt is missing; add it"),
        ({"prompt": " \n"}, "prompt is empty; write a question"),
        ({"prompt": 7}, "prompt must be a valid string; send it as that type"),
        ({"prompt": "x", "preset": "tri"}, "preset names no preset.*; did you mean 'trio'"),
        ({"prompt": "x", "preset": "a"}, "preset names no preset.*; known: trio"),
        ({"prompt": "x", "policy": "secret-vot"}, "policy names no policy; "),
        ({"prompt": "x", "deadline_ms": 5}, "deadline_ms must be at least 100 and at most 3600000"),
        ({"prompt": "x", "analysis": "yes"}, "analysis must be a valid boolean"),
        ({"prompt": "x", "secret": 1}, "secret is not an option here; known: prompt, preset"),
        ({"prompt": "a\0b"}, r"prompt: U\+0000 at character 1 is not allowed; remove it"),
        ({"prompt": "\ud800"}, "prompt: a lone surrogate at character 0 is not allowed"),
    ],
)
async def test_bad_arguments_are_told_to_the_model(
    arguments: Mapping[str, object], words: str
) -> None:
    system = gateway()
    async with in_memory(system) as client:
        result = await client.call_tool("fuse", dict(arguments))

    assert result.is_error
    assert system.calls == 0
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(text(result))
    assert "vot'" not in text(result).partition(";")[0]


async def test_unknown_tool_is_a_fault_of_the_client() -> None:
    async with in_memory(gateway()) as client:
        with pytest.raises(MCPError, match="no such tool; use fuse or list_presets"):
            await client.call_tool("fused", {})


async def test_failed_run_is_a_tool_error() -> None:
    dead = {name: SimEngine(failure=SimFailure("refuse"), name=name) for name in "abc"}
    async with in_memory(gateway(engines=dead)) as client:
        result = await client.call_tool("fuse", ASK)

    assert result.is_error
    assert "a" in text(result)
    assert result.structured_content is None


async def test_too_long_prompt_is_a_tool_error_with_the_remedy() -> None:
    async with in_memory(gateway(b=SimEngine(max_model_len=64))) as client:
        result = await client.call_tool("fuse", {"prompt": "pens " * 99})

    assert result.is_error
    assert "shorten it" in text(result)


async def test_full_and_draining_gateways_refuse() -> None:
    system = gateway(b=stalled(), limits={"runs": 1, "queued": 0})
    async with in_memory(system) as client, asyncio.TaskGroup() as group:
        running = group.create_task(client.call_tool("fuse", ASK))
        await system.wait_for_calls("b")
        full = await client.call_tool("fuse", ASK)
        system.draining = True
        draining = await client.call_tool("fuse", ASK)
        running.cancel()

    assert full.is_error
    assert "as many as limits.runs allows" in text(full)
    assert draining.is_error
    assert "ask again when it is back" in text(draining)


async def test_bug_tells_a_number_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    system = gateway()
    system.fusion = "secret"  # type: ignore[assignment]  # the bug
    async with in_memory(system) as client:
        result = await client.call_tool("fuse", ASK)

    assert result.is_error
    assert text(result).startswith("internal error, request id req_")
    assert text(result).split()[-1] in caplog.text
    assert "pens" not in caplog.text


async def test_call_waits_for_the_engines_to_start() -> None:
    notes, started = Notes(), asyncio.Event()
    system = gateway(server={"keepalive": "5ms"})
    async with in_memory(system, started=started) as client, asyncio.TaskGroup() as group:
        call = group.create_task(client.call_tool("fuse", ASK, progress_callback=notes))
        await until(lambda: len(notes.words) >= 2)
        before = system.calls
        started.set()
        await call

    assert before == 0
    assert notes.words[:2] == ["starting", "starting"]
    assert notes.values == sorted(set(notes.values))
    assert found(call.result())["status"] == "full"


ACCEPT = {"accept": "application/json, text/event-stream"}


def initialize() -> dict[str, object]:
    client = {"name": "test", "version": "1"}
    return message("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "host_not_allowed"),
        ({"origin": "http://evil.example"}, "origin_not_allowed"),
        ({"sec-fetch-site": "cross-site"}, "origin_not_allowed"),
    ],
)
async def test_other_sites_are_refused_before_the_protocol(
    headers: Mapping[str, str], code: str
) -> None:
    async with served() as server:
        response = await server.http.post("/mcp", json=initialize(), headers={**ACCEPT, **headers})

    assert response.status_code == 403
    assert response.json()["error"]["code"] == code


async def test_own_origin_is_served() -> None:
    async with served() as server:
        headers = {**ACCEPT, "origin": server.url}
        response = await server.http.post("/mcp", json=initialize(), headers=headers)

    assert response.status_code == 200
    assert len(response.headers["mcp-session-id"]) == 32
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"{", 400, "not valid JSON"),
        (b'{"a": 1, "a": 2}', 400, "stands there twice"),
        (b"[" * 100 + b"]" * 100, 400, "nested too deeply"),
        (b"[]", 400, "must be a JSON object"),
        (b'{"secret": 1}', 400, "no JSON-RPC message"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\\u0000"}', 400, "U+0000"),
        (
            b'{"jsonrpc": "2.0", "id": [1], "method": "notifications/initialized"}',
            400,
            "id must be",
        ),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "tools/list"}', 400, "id must be"),
        (b'{"x": "' + b"x" * 2000 + b'"}', 413, "larger than 1024 bytes"),
    ],
)
async def test_bodies_keep_the_rules_of_the_gateway(
    content: bytes, status: int, words: str
) -> None:
    headers = {**ACCEPT, "content-type": "application/json"}
    async with served(gateway(limits={"body_bytes": 1024})) as server:
        response = await server.http.post("/mcp", content=content, headers=headers)

    refusal = response.json()
    assert response.status_code == status
    assert (refusal["jsonrpc"], refusal["id"]) == ("2.0", None)
    assert words in refusal["error"]["message"]
    assert "secret" not in response.text


@pytest.mark.parametrize("number", [[1], {}, None, "x", 7])
async def test_odd_notice_of_cancellation_cancels_nothing(number: object) -> None:
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    headers = {**ACCEPT, "mcp-session-id": "s"}
    async with served() as server:
        asked = {**notice, "params": {"requestId": number}}
        response = await server.http.post("/mcp", json=asked, headers=headers)

    assert response.status_code in (202, 400)


async def test_other_content_types_and_methods_are_refused() -> None:
    async with served() as server:
        plain = await server.http.post("/mcp", content=b"{}", headers={"content-type": "text/x"})
        methods = [await server.http.request(name, "/mcp") for name in ("GET", "DELETE", "PUT")]

    assert plain.status_code == 415
    assert {response.status_code for response in methods} == {405}
    assert {response.headers["allow"] for response in methods} == {"POST"}


async def test_stopping_gateway_ends_calls_with_a_word() -> None:
    system = gateway(b=stalled())
    runs = Runs(Limits(runs=1))
    server = create_mcp_server(system, runs)
    async with Client(server, mode=OLD) as client, asyncio.TaskGroup() as group:
        running = group.create_task(client.call_tool("fuse", ASK))
        await system.wait_for_calls("b")
        runs.aborted.set()

    assert running.result().is_error
    assert "the server is stopping" in text(running.result())
    assert system.aborts == {"b": 1}


def test_gateway_and_command_line_start_without_the_sdk() -> None:
    program = "import sys, localfusion.cli, localfusion.server.serving; print('mcp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


@pytest.mark.parametrize("size", [10, 400_000])
async def test_large_messages_are_served_too(size: int) -> None:
    call = message("tools/call", name="fuse", arguments={"prompt": "x" * size, "policy": "?"})
    async with served() as server:
        response = await server.http.post("/mcp", json=call, headers=ACCEPT)

    assert "policy names no policy" in response.text
