"""What OpenAIEngine sends, and what it reads from a good stream."""

import json
from dataclasses import replace
from typing import Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines import openai_wire as wire
from localfusion.engines.base import EngineFacts
from localfusion.engines.openai import OpenAIEngine
from localfusion.engines.openai_stream import MAX_TEXT, ChunkReader
from localfusion.engines.stops import StopWords
from localfusion.functions import Function, Tools
from localfusion.types import Delta, Effort, Message, Prompt, SamplingParams, Usage
from tests.engines.kinds import PROMPT, collect
from tests.engines.raw_server import (
    DONE,
    FINISH,
    RawServer,
    says,
)

ON = {"enable_thinking": True, "thinking": True}
OFF = {"enable_thinking": False, "thinking": False}


def place(token: str, logprob: float, **likeliest: float) -> dict[str, object]:
    """Return what a server tells of one place."""
    tops = [{"token": text, "logprob": value} for text, value in likeliest.items()]
    return {"token": token, "logprob": logprob, "top_logprobs": tops}


def told(text: str, *places: object) -> dict[str, object]:
    """Return a chunk with logprobs."""
    return {"choices": [{"delta": {"content": text}, "logprobs": {"content": places}}]}


async def test_body_holds_the_allowed_fields_and_no_other(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.stream(FINISH, DONE)
    sampling = SamplingParams(0.5, 0.9, 7, ("x",), 3, 0.1, 0.2)

    await collect(engine, Prompt(PROMPT.messages, sampling, schema={"type": "null"}, priority=-10))

    assert server.asked[0].body == {
        "model": "a",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say hello."},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["x"],
        "seed": 3,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "null"}},
        },
    }


WORDS = st.lists(st.text("ab[x", min_size=1, max_size=4), min_size=1, max_size=3)


@given(WORDS, st.text("ab[x", max_size=30), st.lists(st.integers(1, 5)))
def test_text_is_cut_at_the_first_stop_word_however_its_pieces_come(
    words: list[str], text: str, sizes: list[int]
) -> None:
    ends = [text.find(word) + len(word) for word in words if word in text]
    told = text[: min(ends)] if ends else text  # as a server that leaves the stop word in it

    reader, found, rest = StopWords(words), "", told
    for size in sizes:
        found += reader.take(rest[:size])
        assert told.startswith(found)
        rest = rest[size:]
    found += reader.take(rest)
    found += reader.end()

    longest = max((word for word in words if told.endswith(word)), key=len, default="")
    assert found == told.removesuffix(longest)


def test_text_that_no_stop_word_begins_with_is_not_held_back() -> None:
    reader = StopWords(["[code", "\n\n"])

    assert reader.take("The town") == "The town"
    assert reader.take(" may [") == " may "
    assert reader.take("build") == "[build"


@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [({}, True), ({"logprobs": 0}, False), ({"tools": Tools((Function("f"),))}, False)],
)
def test_vllm_leaves_the_stop_word_in_plain_texts(
    changes: dict[str, object], is_kept: bool
) -> None:
    prompt = replace(PROMPT, sampling=SamplingParams(stop=("[code",)), **changes)  # type: ignore[arg-type]

    body = wire.request_body("a", prompt, wire.Dialect(is_vllm=True))
    elsewhere = wire.request_body("a", prompt, wire.Dialect())

    assert ("include_stop_str_in_output" in body) == is_kept
    assert "include_stop_str_in_output" not in elsewhere


@pytest.mark.parametrize(("said", "left"), [("two [code", "two "), ("two [co", "two [co")])
def test_stop_word_is_taken_off_what_is_said_and_thought(said: str, left: str) -> None:
    reader = ChunkReader("a", stop=("[code",))
    chunks: list[dict[str, object]] = [{"delta": {key: said}} for key in ("reasoning", "content")]
    chunks[-1]["finish_reason"] = "stop"

    deltas = [reader.read(json.dumps({"choices": [chunk]})) for chunk in chunks]
    deltas.append(reader.last())

    assert "".join(delta.text for delta in deltas if delta) == left
    assert "".join(delta.reasoning for delta in deltas if delta) == left


async def test_unset_fields_are_left_to_the_server(server: RawServer, engine: OpenAIEngine) -> None:
    server.stream(FINISH, DONE)

    await collect(engine)

    assert set(server.asked[0].body) == {"model", "messages", "stream", "stream_options"}


async def test_headers_carry_the_key_and_the_depth(server: RawServer, engine: OpenAIEngine) -> None:
    server.stream(FINISH, DONE)

    await collect(engine)

    assert server.asked[0].headers["authorization"] == "Bearer secret"
    assert server.asked[0].headers["x-openrouter-fusion-depth"] == "1"


async def test_priority_is_sent_only_where_it_is_supported(server: RawServer) -> None:
    server.stream(FINISH, DONE)
    facts = EngineFacts(4096, supports_priority=True)
    engine = OpenAIEngine("a", uds=server.uds, remote_name="b", facts=facts)

    await collect(engine, Prompt(PROMPT.messages, priority=-10))

    assert server.asked[0].body["priority"] == -10
    assert server.asked[0].body["model"] == "b"
    await engine.aclose()


async def test_logprobs_are_asked_for_by_both_fields(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.stream(FINISH, DONE)

    await collect(engine, replace(PROMPT, logprobs=20))

    assert server.asked[0].body["logprobs"] is True
    assert server.asked[0].body["top_logprobs"] == 20


@pytest.mark.parametrize(
    ("choice", "wanted", "sent"),
    [
        ("required", None, True),
        ("required", True, True),
        ("required", False, False),
        ("auto", None, None),
        ("auto", True, True),
    ],
)
def test_vllm_is_told_to_hold_forced_calls_to_the_functions_schema(
    choice: Literal["auto", "required"], wanted: bool | None, sent: bool | None
) -> None:
    function = Function("weather", parameters={"type": "object"}, strict=wanted)
    prompt = replace(PROMPT, tools=Tools((function,), choice))

    body = wire.request_body("a", prompt, wire.Dialect(is_vllm=True))
    elsewhere = wire.request_body("a", prompt, wire.Dialect())

    assert _strictness(body) == sent
    assert _strictness(elsewhere) == wanted


def _strictness(body: dict[str, object]) -> object:
    (tool,) = cast("list[dict[str, dict[str, object]]]", body["tools"])
    return tool["function"].get("strict")


@pytest.mark.parametrize(
    ("effort", "dialect", "fields"),
    [
        (None, wire.Dialect(is_vllm=True), {}),
        ("none", wire.Dialect(is_vllm=True), {"chat_template_kwargs": OFF}),
        ("none", wire.Dialect(is_vllm=True, takes_no_effort=False), {}),
        (
            "minimal",
            wire.Dialect(is_vllm=True, takes_no_effort=False),
            {"chat_template_kwargs": ON, "reasoning_effort": "minimal"},
        ),
        (None, wire.Dialect(), {}),
        ("none", wire.Dialect(), {"reasoning_effort": "none"}),
        ("none", wire.Dialect(takes_no_effort=False), {}),
        ("high", wire.Dialect(takes_no_effort=False), {"reasoning_effort": "high"}),
    ],
)
def test_effort_is_told_in_the_words_of_the_server(
    effort: Effort | None, dialect: wire.Dialect, fields: dict[str, object]
) -> None:
    body = wire.request_body("a", replace(PROMPT, effort=effort), dialect)

    names = ("chat_template_kwargs", "reasoning_effort")
    assert {name: body[name] for name in names if name in body} == fields


async def test_logprobs_are_read_from_each_chunk(server: RawServer, engine: OpenAIEngine) -> None:
    server.stream(
        {"choices": [{"delta": {"content": ""}, "logprobs": None}]},
        told("B", place("B", -0.5, A=-1.0, B=-0.5)),
        told("", place("<end>", -3.0, A=-0.1)),  # the token that came is none of the likeliest
        told(" x y", place(" x", 0.0, **{" x": 0.0}), place(" y", -1e30)),
        told("z", place("z", 1e-7)),
        FINISH,
        DONE,
    )

    deltas = await collect(engine, replace(PROMPT, logprobs=2))

    assert [(d.text, [place.alternatives for place in d.logprobs]) for d in deltas[:-1]] == [
        ("B", [{"B": -0.5, "A": -1.0}]),
        ("", [{"<end>": -3.0, "A": -0.1}]),
        (" x y", [{" x": 0.0}, {" y": -9999.0}]),
        ("z", [{"z": 0.0}]),
    ]
    assert [deltas[1].logprobs[0].token, deltas[1].logprobs[0].logprob] == ["<end>", -3.0]


async def test_logprobs_that_nobody_asked_for_are_not_looked_at(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.stream({"choices": [{"delta": {"content": "x"}, "logprobs": 7}]}, FINISH, DONE)

    assert (await collect(engine))[0] == Delta("x")


async def test_half_a_surrogate_pair_does_no_harm(server: RawServer, engine: OpenAIEngine) -> None:
    server.stream('{"choices": [{"delta": {"content": "\\ud83d"}}]}', FINISH, DONE)

    deltas = await collect(engine, Prompt((Message("user", "\ud83d"),)))

    assert deltas[0].text == "?"


async def test_usage_and_reasoning_are_read_under_all_their_names(
    server: RawServer, engine: OpenAIEngine
) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    server.stream(
        says("", reasoning="a"),
        says("", reasoning_content="b"),
        {**says("c"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
        FINISH,
        {"choices": [], "usage": usage},
        DONE,
    )

    deltas = await collect(engine)

    assert deltas == [
        Delta(reasoning="a"),
        Delta(reasoning="b"),
        Delta(text="c"),
        Delta(finish_reason="stop", usage=Usage(9, 4, 8, 2, calls=1)),
    ]


@pytest.mark.parametrize(
    ("sent", "read"), [("length", "length"), ("tool_calls", "tool_calls"), ("eos", "stop")]
)
async def test_finish_reason_is_passed_on(
    server: RawServer, engine: OpenAIEngine, sent: str, read: str
) -> None:
    server.stream({"choices": [{"delta": {"content": "x"}, "finish_reason": sent}]}, DONE)

    last = (await collect(engine))[-1]

    assert last == Delta(finish_reason=read, usage=Usage(calls=1))  # type: ignore[arg-type]  # as read


async def test_finished_stream_may_lack_its_done_event(
    server: RawServer, engine: OpenAIEngine
) -> None:
    server.stream(says("x"), FINISH)

    assert [delta.text for delta in await collect(engine)] == ["x", ""]


async def test_endless_text_is_cut(server: RawServer, engine: OpenAIEngine) -> None:
    megabyte = "x" * (MAX_TEXT // 4)
    server.stream(*[says(megabyte) for _ in range(8)])

    deltas = await collect(engine)

    assert sum(len(delta.text) for delta in deltas) == MAX_TEXT
    assert deltas[-1].finish_reason == "length"
