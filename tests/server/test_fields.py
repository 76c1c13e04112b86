"""read_chat: which fields are honored, refused, ignored; rows M25 to M37."""

from collections.abc import Mapping

import pytest

from localfusion.errors import RequestError
from localfusion.server.fields import read_chat
from localfusion.types import Message, SamplingParams

HELLO = [{"role": "user", "content": "hello"}]

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def chat(**fields: object) -> Mapping[str, object]:
    return {"model": "trio", "messages": HELLO, **fields}


def message(**fields: object) -> Mapping[str, object]:
    return chat(messages=[*HELLO, {"role": "user", "content": "x", **fields}])


MALFORMED = [
    ("M25 fusion option", chat(fusion={"juge": "x"}), "unknown_option", "fusion.juge"),
    ("M25 unknown fields", chat(**{f"x{i}": 1 for i in range(101)}), "too_many_values", None),
    ("M26 temperature text", chat(temperature="0.7"), "invalid_type", "temperature"),
    ("M26 stream text", chat(stream="yes"), "invalid_type", "stream"),
    ("M26 n fraction", chat(n=1.5), "invalid_type", "n"),
    ("M26 n true", chat(n=True), "invalid_type", "n"),
    ("M26 temperature true", chat(temperature=True), "invalid_type", "temperature"),
    ("M26 seed fraction", chat(seed=1.0), "invalid_type", "seed"),
    ("M27 temperature 2.1", chat(temperature=2.1), "out_of_range", "temperature"),
    ("M27 temperature -1", chat(temperature=-1), "out_of_range", "temperature"),
    ("M27 top_p 0", chat(top_p=0), "out_of_range", "top_p"),
    ("M27 n 0", chat(n=0), "out_of_range", "n"),
    ("M27 n 9", chat(n=9), "out_of_range", "n"),
    ("M27 max_tokens 0", chat(max_tokens=0), "out_of_range", "max_tokens"),
    ("M27 max_tokens -1", chat(max_tokens=-1), "out_of_range", "max_tokens"),
    ("M27 max_tokens 2^31", chat(max_tokens=2**31), "out_of_range", "max_tokens"),
    ("penalty 2.5", chat(presence_penalty=2.5), "out_of_range", "presence_penalty"),
    ("lengths differ", chat(max_tokens=5, max_completion_tokens=6), "out_of_range", "max_tokens"),
    ("M29 messages absent", {"model": "trio"}, "missing_parameter", "messages"),
    ("M29 messages null", chat(messages=None), "invalid_type", "messages"),
    ("M29 messages empty", chat(messages=[]), "out_of_range", "messages"),
    ("M29 messages 2,001", chat(messages=HELLO * 2001), "out_of_range", "messages"),
    ("M29 message text", chat(messages=["hello"]), "invalid_type", "messages[0]"),
    ("M29 role unknown", message(role="wizard"), "out_of_range", "messages[1].role"),
    ("M29 role absent", chat(messages=[{"content": "x"}]), "missing_parameter", "messages[0].role"),
    ("M29 content null", message(content=None), "invalid_type", "messages[1].content"),
    ("M29 content number", message(content=7), "invalid_type", "messages[1].content"),
    ("M29 content empty list", message(content=[]), "out_of_range", "messages[1].content"),
    ("M29 tool result", message(role="tool"), "missing_parameter", "messages[1].tool_call_id"),
    (
        "M29 tool result without a call",
        message(role="tool", tool_call_id="c1"),
        "out_of_range",
        "messages[1].tool_call_id",
    ),
    ("function result", message(role="function"), "unsupported_parameter", "messages[1].role"),
    (
        "half a tool call",
        message(role="assistant", tool_calls=[{"id": "1"}], content=None),
        "missing_parameter",
        "messages[1].tool_calls[0].function",
    ),
    (
        "a user's tool call",
        message(tool_calls=[CALL]),
        "out_of_range",
        "messages[1].tool_calls",
    ),
    ("M30 model absent", {"messages": HELLO}, "missing_parameter", "model"),
    ("M30 model null", chat(model=None), "invalid_type", "model"),
    ("M30 model 7", chat(model=7), "invalid_type", "model"),
    (
        "M31 image",
        message(content=[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
        "unsupported_image",
        "messages[1].content[0]",
    ),
    (
        "audio part",
        message(content=[{"type": "text", "text": "x"}, {"type": "input_audio"}]),
        "unsupported_parameter",
        "messages[1].content[1]",
    ),
    ("M34 five stops", chat(stop=list("abcde")), "out_of_range", "stop"),
    ("M34 empty stop", chat(stop=[""]), "out_of_range", "stop[0]"),
    ("M34 long stop", chat(stop="x" * 300), "out_of_range", "stop[0]"),
    ("M34 metadata key", chat(metadata={"x" * 65: "y"}), "out_of_range", None),
    ("M34 metadata number", chat(metadata={"x": 1}), "invalid_type", "metadata.x"),
    (
        "M34 metadata 17",
        chat(metadata={f"x{i}": "" for i in range(17)}),
        "out_of_range",
        "metadata",
    ),
    ("M37 chat_template", chat(chat_template="{{x}}"), "unsupported_parameter", "chat_template"),
    ("M37 cache_salt", chat(cache_salt="x"), "unsupported_parameter", "cache_salt"),
    ("M37 echo", chat(echo=True), "unsupported_parameter", "echo"),
    ("M37 guided_json", chat(guided_json={}), "unsupported_parameter", "guided_json"),
    (
        "half a tool",
        chat(tools=[{"type": "function"}]),
        "missing_parameter",
        "tools[0].function",
    ),
    ("M36 two of one name", chat(tools=[TOOL, TOOL]), "out_of_range", "tools[1].function.name"),
    (
        "M36 bad name",
        chat(tools=[{"type": "function", "function": {"name": "a b"}}]),
        "out_of_range",
        "tools[0].function.name",
    ),
    ("M36 129 tools", chat(tools=[TOOL] * 129), "out_of_range", "tools"),
    (
        "M36 choice of none",
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}),
        "out_of_range",
        "tool_choice.function.name",
    ),
    ("required of nothing", chat(tool_choice="required"), "out_of_range", "tool_choice"),
    ("other plugin", chat(plugins=[{"id": "web"}]), "unsupported_parameter", "plugins[0].id"),
    ("logprobs 0", chat(logprobs=0), "invalid_type", "logprobs"),
    ("M27 top_logprobs 21", chat(top_logprobs=21), "out_of_range", "top_logprobs"),
    ("top_logprobs alone", chat(top_logprobs=2), "unsupported_parameter", "top_logprobs"),
    ("M34 bias of a word", chat(logit_bias={"word": 1}), "out_of_range", None),
    ("M34 bias of 200", chat(logit_bias={"1": 200}), "out_of_range", "logit_bias.1"),
    (
        "form without a schema",
        chat(response_format={"type": "json_schema"}),
        "missing_parameter",
        "response_format.json_schema",
    ),
    ("other form", chat(response_format={"type": "xml"}), "out_of_range", "response_format.type"),
    (
        "M40 two forms",
        chat(fusion={}, plugins=[{"id": "fusion"}]),
        "out_of_range",
        "plugins[0]",
    ),
    (
        "M40 nine candidates",
        chat(fusion={"analysis_models": ["a"] * 9}),
        "out_of_range",
        "fusion.analysis_models",
    ),
    ("M40 deadline 0", chat(fusion={"deadline_ms": 0}), "out_of_range", "fusion.deadline_ms"),
    ("M40 deadline 2 h", chat(fusion={"deadline_ms": 7_200_000}), "out_of_range", None),
    (
        "web search",
        chat(plugins=[{"id": "fusion", "tools": [{"type": "openrouter:web_search"}]}]),
        "tool_unavailable",
        "plugins[0].tools[0]",
    ),
    (
        "tool beside its parameters",
        chat(tools=[{"type": "openrouter:fusion", "model": "a"}]),
        "unknown_option",
        "tools[0]",
    ),
    ("gate", chat(fusion={"deliberate": "auto"}), "out_of_range", "fusion.deliberate"),
    (
        "panel twice",
        chat(fusion={"panel": ["a"], "analysis_models": ["a"]}),
        "out_of_range",
        "fusion.panel",
    ),
    (
        "reasoning tokens",
        chat(fusion={"reasoning": {"max_tokens": 5}}),
        "unsupported_parameter",
        "fusion.reasoning.max_tokens",
    ),
    ("audio answer", chat(modalities=["audio"]), "unsupported_parameter", "modalities"),
    (
        "stream options alone",
        chat(stream_options={"include_usage": True}),
        "unsupported_parameter",
        "stream_options",
    ),
    (
        "panel without stream",
        chat(fusion={"stream_panel": True}),
        "unsupported_parameter",
        "fusion.stream_panel",
    ),
]


@pytest.mark.parametrize(
    ("document", "code", "param"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_wrong_field_is_refused_by_name(
    document: Mapping[str, object], code: str, param: str | None
) -> None:
    with pytest.raises(RequestError) as refused:
        read_chat(document, 2000)

    assert (refused.value.status, refused.value.code) == (400, code)
    assert param is None or refused.value.param == param
    assert refused.value.param is None or str(refused.value).startswith(refused.value.param)
    assert "; " in str(refused.value), "a remedy follows the semicolon"


def test_range_of_a_number_is_named() -> None:
    with pytest.raises(RequestError, match="temperature must be at least 0 and at most 2; "):
        read_chat(chat(temperature=3), 2000)


def test_values_of_wrong_fields_are_never_echoed() -> None:
    canary = "sk-canary"
    for document in (
        chat(temperature=canary),
        message(role=canary),
        message(content=[{"type": canary}]),
        chat(stop=[canary * 90]),
        chat(tools=canary),
        chat(metadata=canary),
    ):
        with pytest.raises(RequestError) as refused:
            read_chat(document, 2000)
        assert canary not in str(refused.value)


def test_sampling_reaches_the_request() -> None:
    document = chat(
        temperature=1,
        top_p=0.5,
        max_completion_tokens=7,
        stop="END",
        seed=-3,
        frequency_penalty=-2,
        presence_penalty=2.0,
    )

    sampling = read_chat(document, 2000).request.sampling

    assert sampling == SamplingParams(
        temperature=1.0,
        top_p=0.5,
        max_tokens=7,
        stop=("END",),
        seed=-3,
        frequency_penalty=-2.0,
        presence_penalty=2.0,
    )


def test_conversation_is_read_as_text_turns() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    document = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts, "name": "Ann"},
            {"role": "assistant", "content": "ok", "reasoning_content": "…", "tool_calls": None},
        ]
    )

    assert read_chat(document, 2000).request.messages == (
        Message("system", "Be brief."),
        Message("user", "one\ntwo"),
        Message("assistant", "ok"),
    )


def test_null_is_absent() -> None:
    names = ("temperature", "stop", "stream", "n", "tools", "response_format", "fusion", "logprobs")

    read = read_chat(chat(**dict.fromkeys(names)), 2000)

    assert read == read_chat(chat(), 2000)


def test_fields_that_ask_for_nothing_more_are_accepted() -> None:
    document = chat(
        tools=[],
        tool_choice="none",
        n=1,
        logprobs=False,
        logit_bias={},
        response_format={"type": "text"},
        modalities=["text"],
        service_tier="auto",
        store=False,
        user="ann",
        safety_identifier="x",
        metadata={"run": "1"},
        prompt_cache_key="x",
        prediction={"type": "content"},
    )

    assert read_chat(document, 2000).ignored == ()


def test_unknown_fields_are_ignored_and_the_harmless_names_kept() -> None:
    unknown: dict[str, object] = {"top_k": 5, "x\r\nset-cookie: y": 1, "é": 1, "k" * 41: 1}

    assert read_chat(chat(**unknown), 2000).ignored == ("top_k",)


def test_at_most_ten_ignored_fields_are_named() -> None:
    assert len(read_chat(chat(**{f"x{i}": 1 for i in range(50)}), 2000).ignored) == 10
