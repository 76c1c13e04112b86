"""The body of Anthropic's Messages API: its blocks, tools and choices as a request of ours. Pure.

Source: the Messages API, version 2023-06-01, as its SDK 2.12 has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag
from pydantic_core import PydanticCustomError

from localfusion.functions import Tools
from localfusion.server.fields import ChatRequest, Stop, Text
from localfusion.server.forms import Forms, FusionOptions, take_forms, to_effort
from localfusion.server.messages_blocks import Hint, MessageBody, TextBlock, to_turns
from localfusion.server.schemas import check_schema
from localfusion.server.section import (
    Section,
    ignored_names,
    missing,
    read,
    refuse,
    unsupported,
    wrong,
)
from localfusion.server.tools import FunctionName, check_known, functions_of, offered
from localfusion.server.turns import TEXT_OR_PARTS, joined
from localfusion.types import Effort, Message, Origin, Request, SamplingParams

LITTLE, SOME = 4096, 16_384
"""Thinking tokens up to which the effort is ``low``, and ``medium``; the budget is not held."""


def _check_tool(value: object) -> object:
    if isinstance(value, dict) and value.get("type", "custom") not in ("custom", None):
        raise PydanticCustomError(
            "unsupported_parameter", "is a tool of the service; send tools with an input_schema"
        )
    return value


class CustomTool(Section):
    type: Literal["custom"] | None = None
    name: FunctionName
    description: str | None = Field(default=None, max_length=16_384)
    parameters: dict[str, object] = Field(alias="input_schema")
    """JSON schema of the input."""
    strict: bool | None = None
    cache_control: Hint | None = None


class ToolChoice(Section):
    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    """With type ``tool``: which one."""
    disable_parallel_tool_use: bool | None = None


class Thinking(Section):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(default=None, ge=1024, lt=2**31)
    """Becomes an effort: low up to 4,096, medium up to 16,384, else high."""
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Section):
    type: Literal["json_schema"]
    schema_: dict[str, object] = Field(alias="schema")


class OutputConfig(Section):
    format: OutputFormat | None = None
    """What form the answer has; drafts are free text."""
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """``xhigh`` and ``max`` are ``high`` here."""


class UserData(Section):
    user_id: Text | None = None


SystemText = Annotated[
    Annotated[None, Tag("<none>")]
    | Annotated[str, Tag("<text>")]
    | Annotated[list[TextBlock], Field(max_length=64), Tag("<parts>")],
    TEXT_OR_PARTS,
]


class CountBody(Section):
    """The body of ``POST /v1/messages/count_tokens``."""

    model: str
    """A preset, a model, ``openrouter/fusion`` or ``openrouter/fusion-flash``."""
    messages: list[MessageBody] = Field(min_length=1)
    system: SystemText = None
    tools: list[Annotated[CustomTool, BeforeValidator(_check_tool)]] | None = Field(
        default=None, max_length=128
    )
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesBody(CountBody):
    """The body of ``POST /v1/messages``; null means absent."""

    max_tokens: int = Field(ge=1, lt=2**31)
    """Longest answer, thinking included; the panel's length is the preset's."""
    stream: bool | None = None
    stop_sequences: list[Stop] | None = Field(default=None, max_length=4)
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    metadata: UserData | None = None
    """Accepted; nothing here reads it."""
    service_tier: Literal["auto", "standard_only"] | None = None
    """Accepted; there is one tier."""
    fusion: FusionOptions | None = None
    """How the answer is made."""
    plugins: list[object] | None = None
    """The same as ``[{"id": "fusion", …}]``."""


_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "top_k": ((), "leave it out, or send top_p"),
    "container": ((), "leave it out, for no code is run"),
    "mcp_servers": (([],), "leave it out, for the server calls no others"),
    "context_management": ((), "leave it out and shorten the conversation"),
    "output_format": ((), "send output_config.format"),
    "speed": (("standard",), "leave it out"),
    "inference_geo": ((), "leave it out, for everything stays on this machine"),
}


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """A request that can be run.

    Attributes:
        shows_thinking: The client asked for thinking blocks.
    """

    chat: ChatRequest
    shows_thinking: bool


def read_messages(document: Mapping[str, object], max_messages: int) -> MessagesRequest:
    """Check a body and turn it into a request.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
    """
    refuse(document, _REFUSED)
    ignored = ignored_names(document, {*MessagesBody.model_fields, *_REFUSED, "cache_control"})
    forms, rest = _take_forms(document)
    with forms.in_its_places():
        body = read(MessagesBody, rest)
        tools = to_tools(body)
    for name in ("stream_panel", "progress"):
        if getattr(forms.options, name) not in (None, False, "none"):
            raise unsupported(f"fusion.{name}", "belongs to chat completions; leave it out")
    request = Request(
        model=body.model,
        messages=to_messages(body, max_messages),
        sampling=SamplingParams(
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_tokens,
            stop=tuple(body.stop_sequences or ()),
        ),
        schema=_schema(body.output_config),
        tools=tools,
        effort=_effort(body),
        changes=forms.options.changes,
        watches="answer" if body.stream else "nothing",
        origin=Origin(ignored=ignored),
    )
    chat = ChatRequest(
        request, body.model, forms=forms, is_stream=bool(body.stream), ignored=ignored
    )
    thinking = body.thinking
    shows_thinking = (
        thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"
    )
    return MessagesRequest(chat, shows_thinking)


def _take_forms(document: Mapping[str, object]) -> tuple[Forms, dict[str, object]]:
    """Take the fusion forms out; the choice of tools is an object here, not a word."""
    choice = document.get("tool_choice")
    words = {"any": "required", "none": "none"}
    word = words.get(str(choice.get("type"))) if isinstance(choice, dict) else None
    forms, rest = take_forms(document if word is None else {**document, "tool_choice": word})
    if "tool_choice" in rest:
        rest["tool_choice"] = choice
    return forms, rest


def read_count(
    document: Mapping[str, object], max_messages: int
) -> tuple[str, tuple[Message, ...], Tools | None]:
    """Check the body of a count; return the model's name, the conversation and the tools.

    Raises:
        RequestError: as ``read_messages`` says.
    """
    ignored_names(document, CountBody.model_fields)
    body = read(CountBody, document)
    return body.model, to_messages(body, max_messages), to_tools(body)


def to_messages(body: CountBody, max_messages: int) -> tuple[Message, ...]:
    """Return the conversation.

    Raises:
        RequestError: too many messages, a block in another role's message, a result of no call, or
            an assistant's message at the end.
    """
    if len(body.messages) > max_messages:
        raise wrong("messages", f"has more than {max_messages} entries; shorten the conversation")
    told: list[Message] = []
    if body.system:
        told.append(Message("system", joined(body.system)))
    called: set[str] = set()
    for place, message in enumerate(body.messages):
        told += to_turns(message, called, f"messages[{place}]")
    if told[-1].role == "assistant":
        raise unsupported(
            f"messages[{len(body.messages) - 1}].role",
            "may not be assistant at the end, for no answer is continued; end with a user's",
        )
    return tuple(told)


def to_tools(body: CountBody) -> Tools | None:
    """Return the functions that may be called, None where none may.

    Raises:
        RequestError: two of one name, a choice of none of them, or a schema without bounds.
    """
    functions = functions_of(body.tools or (), "tools[{}]", schema="input_schema")
    choice = body.tool_choice or ToolChoice(type="auto")
    parallel = False if choice.disable_parallel_tool_use else None
    if choice.type == "tool":
        if choice.name is None:
            raise missing("tool_choice.name", "add the name of one of the tools")
        check_known(choice.name, functions, "tool_choice.name")
        return offered(functions, None, choice.name, parallel)
    return offered(functions, "required" if choice.type == "any" else choice.type, None, parallel)


def _schema(config: OutputConfig | None) -> Mapping[str, object] | None:
    if config is None or config.format is None:
        return None
    check_schema(config.format.schema_, "output_config.format.schema")
    return config.format.schema_


def _effort(body: CountBody) -> Effort | None:
    config, thinking = body.output_config, body.thinking
    if config is not None and config.effort is not None:
        return to_effort(config.effort)
    if thinking is None or thinking.type == "adaptive":
        return None
    if thinking.type == "disabled":
        return "none"
    if thinking.budget_tokens is None:
        raise missing("thinking.budget_tokens", "add it, at least 1024")
    budgets: Sequence[tuple[int, Effort]] = ((LITTLE, "low"), (SOME, "medium"))
    return next((effort for most, effort in budgets if thinking.budget_tokens <= most), "high")
