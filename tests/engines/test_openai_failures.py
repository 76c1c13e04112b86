"""OpenAIEngine against servers that send nonsense, refuse, fall silent or are not there."""

import asyncio
import inspect
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.connection import HTTP_ERRORS, MAX_EVENT, translate
from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.openai_stream import ChunkReader
from localfusion.errors import (
    ConfigError,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    FusionError,
    OverloadedError,
    RequestError,
)
from localfusion.types import Delta
from tests.engines.kinds import PROMPT, collect
from tests.engines.raw_server import (
    DONE,
    FINISH,
    RawServer,
    event_stream,
    response,
    says,
)

CHAT = "/v1/chat/completions"
EVENTS = "text/event-stream"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (event_stream(says("x"), {"error": {"message": "oom", "code": 500}}, DONE), "engine_error"),
        (event_stream(says("x"), {"error": "oom"}, DONE), "engine_error"),
        (event_stream(says("x"), DONE), "truncated"),
        (event_stream(says("x")), "truncated"),
        (event_stream(), "truncated"),
        (event_stream({"choices": [{"delta": {}, "finish_reason": "abort"}]}, DONE), "aborted"),
        (event_stream("{no json"), "malformed_stream"),
        (event_stream("[1]"), "malformed_stream"),
        (event_stream({"choices": 7}), "malformed_stream"),
        (event_stream({"choices": [{"delta": {"content": 7}}]}), "malformed_stream"),
        (event_stream({"choices": [], "usage": {"prompt_tokens": "many"}}), "malformed_stream"),
        (event_stream("x" * (MAX_EVENT + 1)), "malformed_stream"),
        (response(200, "<html>", kind="text/html"), "malformed_stream"),
        (response(200, "9\r\ndata", "transfer-encoding: chunked", kind=EVENTS), "engine_died"),
        (response(200, "data: ", "content-length: 100", kind=EVENTS), "engine_died"),
        (b"", "engine_died"),
        (b"SSH-2.0-nonsense\r\n", "engine_died"),
    ],
)
async def test_bad_stream_is_an_error(
    server: RawServer, engine: OpenAIEngine, answer: bytes, code: str
) -> None:
    server.answer(CHAT, answer)

    with pytest.raises(EngineError) as raised:
        await collect(engine)

    assert raised.value.code == code


@pytest.mark.parametrize(
    "logprobs",
    [
        7,
        {"content": 7},
        {"content": [7]},
        {"content": [{"token": "x"}]},
        {"content": [{"token": 7, "logprob": -1}]},
        {"content": [{"token": "x", "logprob": "-1"}]},
        {"content": [{"token": "x", "logprob": 0.5}]},
        {"content": [{"token": "x", "logprob": float("nan")}]},
        {"content": [{"token": "x", "logprob": -1, "top_logprobs": 7}]},
        {"content": [{"token": "x", "logprob": -1, "top_logprobs": [{"token": "y"}]}]},
    ],
)
async def test_logprobs_of_another_shape_are_an_error(
    server: RawServer, engine: OpenAIEngine, logprobs: object
) -> None:
    server.stream({"choices": [{"delta": {"content": "x"}, "logprobs": logprobs}]}, FINISH, DONE)

    with pytest.raises(EngineError) as raised:
        await collect(engine, replace(PROMPT, logprobs=3))

    assert raised.value.code == "malformed_stream"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": ANYTHING, "arguments": ANYTHING})
CALLS = st.fixed_dictionaries(
    {}, optional={"index": ANYTHING, "id": ANYTHING, "function": FUNCTIONS | ANYTHING}
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": ANYTHING,
        "reasoning": ANYTHING,
        "tool_calls": st.lists(CALLS) | ANYTHING,
    },
)
TOKENS = st.fixed_dictionaries({}, optional={"token": ANYTHING, "logprob": ANYTHING})
PLACES = st.fixed_dictionaries(
    {"token": st.text() | ANYTHING, "logprob": st.floats() | ANYTHING},
    optional={"top_logprobs": st.lists(TOKENS) | ANYTHING},
)
LOGPROBS = st.fixed_dictionaries({}, optional={"content": st.lists(PLACES) | ANYTHING})
CHOICES = st.fixed_dictionaries(
    {}, optional={"delta": DELTAS, "finish_reason": ANYTHING, "logprobs": LOGPROBS | ANYTHING}
)
USAGES = st.fixed_dictionaries(
    {}, optional={"prompt_tokens": ANYTHING, "prompt_tokens_details": ANYTHING}
)
CHUNKS = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICES) | ANYTHING, "usage": USAGES | ANYTHING}
)


@given(st.lists(CHUNKS | ANYTHING))
def test_any_json_is_read_or_refused_as_an_engine_error(chunks: list[object]) -> None:
    reader = ChunkReader("a", with_logprobs=True)

    try:
        for chunk in chunks:
            delta = reader.read(json.dumps(chunk))
            assert delta != Delta()
            for place in delta.logprobs if delta else ():
                assert all(-9999 <= logprob <= 0 for logprob in place.alternatives.values())
        assert reader.last().usage is not None
    except EngineError as error:
        assert error.code in ("engine_error", "malformed_stream", "aborted", "truncated")  # noqa: PT017  any outcome but another error is good


@pytest.mark.parametrize(
    ("status", "message", "error", "code"),
    [
        (400, "maximum context length is 4096", ContextLengthError, "context_length_exceeded"),
        (400, "temperature must be positive", RequestError, "invalid_request"),
        (401, "no key", EngineError, "engine_refused"),
        (404, "no model", EngineError, "not_served"),
        (422, "bad field", RequestError, "invalid_request"),
        (429, "slow down", OverloadedError, "engine_overloaded"),
        (500, "boom", EngineError, "engine_error"),
        (302, "elsewhere", EngineError, "engine_error"),
        (503, "queue full", OverloadedError, "engine_overloaded"),
    ],
)
async def test_status_decides_on_the_error(
    server: RawServer,
    engine: OpenAIEngine,
    status: int,
    message: str,
    error: type[FusionError],
    code: str,
) -> None:
    body = json.dumps({"error": {"message": message}})
    server.answer(CHAT, response(status, body, "retry-after: 7"))

    with pytest.raises(FusionError, match=message) as raised:
        await collect(engine)

    assert type(raised.value) is error
    assert raised.value.code == code
    assert raised.value.retry_after == (7.0 if error is OverloadedError else None)


@pytest.mark.parametrize("body", ["", "<html>", "[]", '"x"', '{"error": null}', '{"detail": 1}'])
async def test_refusal_without_a_message_still_has_one(
    server: RawServer, engine: OpenAIEngine, body: str
) -> None:
    server.answer(CHAT, response(500, body))

    with pytest.raises(EngineError, match=r"^a: ."):
        await collect(engine)


async def test_paths_of_the_engine_stay_hidden(server: RawServer, engine: OpenAIEngine) -> None:
    message = "cannot open /srv/weights/a/model.safetensors: no such file"
    server.answer(CHAT, response(500, json.dumps({"error": {"message": message}})))

    with pytest.raises(EngineError, match=r"cannot open .* no such file") as raised:
        await collect(engine)

    assert "srv" not in str(raised.value)


@pytest.mark.parametrize("held", [b"", event_stream(says("x"))])
async def test_silence_is_a_timeout(server: RawServer, held: bytes) -> None:
    server.holds = True
    server.answer(CHAT, held)
    engine = OpenAIEngine("a", uds=server.uds, idle_timeout=0.05)

    with pytest.raises(EngineTimeoutError, match=r"silent for 0\.05 s"):
        await collect(engine)

    await server.is_left.wait()
    await engine.aclose()


async def test_closing_the_stream_closes_the_connection(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.holds = True
    server.stream(says("x"))

    async with aclosing(engine.generate(PROMPT)) as deltas:
        await anext(deltas)

    async with asyncio.timeout(10):
        await server.is_left.wait()


async def test_number_of_connections_is_not_limited(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.holds = True
    server.stream(says("x"))
    streams = [engine.generate(PROMPT) for _ in range(120)]

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(anext(stream))

    assert server.most == 120
    for stream in streams:
        await stream.aclose()


async def test_missing_socket_is_unavailable_and_unhealthy(run_dir: Path) -> None:
    engine = OpenAIEngine("a", uds=run_dir / "none.sock")

    assert not await engine.healthy()
    with pytest.raises(EngineUnavailableError, match="a does not accept connections"):
        await collect(engine)

    await engine.aclose()


def all_subclasses(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in all_subclasses(child))]


def test_every_error_of_httpx2_has_a_root_that_is_caught() -> None:
    public = [getattr(httpx2, name) for name in httpx2.__all__]
    errors = [e for e in public if inspect.isclass(e) and issubclass(e, Exception)]

    assert len(errors) > 20
    assert [e for e in errors if not issubclass(e, HTTP_ERRORS)] == []


@pytest.mark.parametrize("kind", [e for root in HTTP_ERRORS for e in all_subclasses(root)])
def test_every_error_of_httpx2_becomes_an_engine_error(kind: type[Exception]) -> None:
    error = kind.__new__(kind)  # their constructors differ; only the class may decide
    expected: type[EngineError] = EngineError
    if issubclass(kind, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)):
        expected = EngineUnavailableError
    elif issubclass(kind, httpx2.TimeoutException):
        expected = EngineTimeoutError

    ours = translate("engine-x", error)

    assert type(ours) is expected
    assert "engine-x" in str(ours)


def test_nonsense_as_base_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="base_url of a"):
        OpenAIEngine("a", base_url="http://host:port/v1")
