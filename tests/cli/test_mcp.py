"""``localfusion mcp`` as MCP clients run it: a child, spoken to by its pipes."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, TextContent

from tests.cli.conftest import Place
from tests.cli.test_engines import served


@asynccontextmanager
async def connected(place: Place, *arguments: str) -> AsyncGenerator[Client, None]:
    """Start the command as a client does; what it logs is in ``errors.txt`` of the place."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "localfusion", "mcp", *arguments],
        env=place.env,
        cwd=place.root,
    )
    with logged(place).open("w") as errors:
        async with Client(stdio_client(command, errlog=errors), mode="legacy") as client:
            yield client


def logged(place: Place) -> Path:
    return place.root / "errors.txt"


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def line(method: str, **params: object) -> str:
    message = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
    return json.dumps(message) + "\n"


HELLO = line(
    "initialize",
    protocolVersion="2025-06-18",
    capabilities={},
    clientInfo={"name": "test", "version": "1"},
)
FUSE = line("tools/call", name="fuse", arguments={"prompt": "How many?"})


def start(place: Place, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command with pipes, and greet it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "localfusion", "mcp", *arguments],
        env=place.env,
        cwd=place.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    say(process, HELLO)
    return process


def say(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words)
    process.stdin.flush()


def wait_for_note(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stderr is not None
    for note in process.stderr:
        if words in note:
            return
    raise AssertionError(f"it never said {words}")


async def test_own_engines_answer_an_official_client(place: Place) -> None:
    async with connected(place, "--sim") as client:
        listed = await client.call_tool("list_presets", {})
        result = await client.call_tool("fuse", {"prompt": "How many?", "analysis": True})

    assert listed.structured_content is not None
    assert [preset["name"] for preset in listed.structured_content["presets"]] == ["demo"]
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    assert result.structured_content["status"] == "full"
    assert result.structured_content["answer"] == text(result)
    assert place.left_behind() == []


def test_only_the_protocol_is_on_stdout_and_end_of_input_leaves_nothing(place: Place) -> None:
    process = start(place)
    assert process.stdout is not None
    hello = json.loads(process.stdout.readline())  # before any engine is ready
    say(process, FUSE)
    answer = json.loads(process.stdout.readline())
    rest, notes = process.communicate(timeout=60)

    assert hello["result"]["serverInfo"]["name"] == "localfusion"
    assert answer["result"]["structuredContent"]["status"] == "full"
    assert rest == ""
    assert "judge: ready" in notes
    assert process.returncode == 0
    assert place.left_behind() == []


def test_end_of_input_ends_a_call_that_goes(place: Place) -> None:
    place.write("--failure stall --at-token 1 --text 'one two three'")
    process = start(place)
    say(process, FUSE)
    wait_for_note(process, "judge: ready")
    _, notes = process.communicate(timeout=60)

    assert process.returncode == 0, notes
    assert "Traceback" not in notes
    assert place.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["launching", "judge: ready"])
def test_signal_leaves_nothing_behind(place: Place, number: signal.Signals, moment: str) -> None:
    place.write("--start-seconds 1")
    process = start(place)
    wait_for_note(process, moment)

    process.send_signal(number)
    assert process.stderr is not None
    notes = process.stderr.read()  # its input stays open: it ends all the same
    process.wait(timeout=60)
    process.communicate()

    assert process.returncode == 130, notes
    assert "Traceback" not in notes
    assert place.left_behind() == []


def test_input_may_be_a_file(place: Place) -> None:
    file = place.root / "input"
    file.write_text("x" * 5_000_000 + "\n" + HELLO)
    with file.open() as messages:
        done = subprocess.run(
            [sys.executable, "-m", "localfusion", "mcp", "--sim"],
            env=place.env,
            cwd=place.root,
            stdin=messages,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "a message of more than 4194304 bytes was dropped" in done.stderr
    assert json.loads(done.stdout)["id"] == "initialize"


async def test_running_server_answers_until_it_is_gone(place: Place) -> None:
    words: list[str | None] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        words.append(message)

    ask = {"prompt": "How many?"}
    with served(place) as server:
        async with connected(place, "--preset", "demmo") as client:
            tools = await client.list_tools()
            refused = await client.call_tool("fuse", ask)
            named = {**ask, "preset": "demo"}
            answer = await client.call_tool("fuse", named, progress_callback=note)
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
            gone = await client.call_tool("fuse", named)

    assert [tool.name for tool in tools.tools] == ["fuse", "list_presets"]
    assert refused.is_error
    assert "did you mean 'demo'" in text(refused)
    assert not answer.is_error, text(answer)
    assert "panel 3/3" in words
    assert gone.is_error
    assert "start it again with localfusion serve" in text(gone)
    assert f"using the server at http://127.0.0.1:{place.port}" in logged(place).read_text()


def test_server_may_be_named_and_must_be_there(place: Place) -> None:
    done = place.run("mcp", "--server", f"http://127.0.0.1:{place.port}/")

    assert done.returncode == 2
    assert "no localfusion server answers there; start one with localfusion serve" in done.stderr
    assert done.stdout == ""


def test_unknown_preset_is_refused_at_once(place: Place) -> None:
    done = place.run("mcp", "--preset", "demmo", "--sim")

    assert done.returncode == 2
    assert "demo" in done.stderr
