"""The fields of a Responses request: which are honored, which refused, which ignored. Pure.

The rules are those of chat completions (``fields.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from localfusion.server.fields import HINTS, REFUSED, ChatRequest, Text
from localfusion.server.forms import EffortName, FusionOptions, take_forms, to_effort
from localfusion.server.responses_items import Item, Items, to_json, to_messages
from localfusion.server.responses_tools import TextFormat, Tool, ToolChoice, to_schema, to_tools
from localfusion.server.section import (
    Section,
    ignored_names,
    read,
    refuse,
    unsupported,
    wrong,
)
from localfusion.server.store import StoredResponse
from localfusion.types import Message, Origin, Request, SamplingParams, Watches

LOGPROBS = "message.output_text.logprobs"

Include = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


def _only(*accepted: object, remedy: str) -> BeforeValidator:
    """Refuse every value but a few, which ask for what happens anyway."""

    def check(value: object) -> object:
        if value is None or value in accepted:
            return value
        context = {"remedy": remedy}
        raise PydanticCustomError("unsupported_parameter", "is not supported; {remedy}", context)

    return BeforeValidator(check)


_Summary = Annotated[
    str | None, _only("auto", remedy="send auto: reasoning is given whole, never summarized")
]


class ReasoningOptions(Section):
    effort: EffortName | None = None
    """Of the model that writes the answer; ``max`` and ``xhigh`` are ``high`` here."""
    summary: _Summary = None
    """Only ``auto``: the reasoning item holds the reasoning itself."""
    generate_summary: _Summary = None
    """The older name of summary."""
    context: Annotated[str | None, _only("auto", remedy="leave it out")] = None
    """Only ``auto``: the models are not shown earlier reasoning."""
    mode: Annotated[str | None, _only("standard", remedy="leave it out")] = None


class TextOptions(Section):
    format: TextFormat | None = None
    """What form the answer has; drafts are free text."""
    verbosity: Annotated[
        str | None, _only("medium", remedy="leave it out and ask for the length in a message")
    ] = None


class EventOptions(Section):
    include_obfuscation: bool | None = None
    """Accepted; none is added."""


def _to_items(value: object) -> object:
    match value:
        case str():
            return [{"role": "user", "content": value}]
        case list():
            return value
    raise PydanticCustomError("invalid_type", "must be a string or a list of items; send text")


class ResponsesBody(Section):
    """The body of ``POST /v1/responses``; null means absent."""

    model: str
    """A preset, a model, ``openrouter/fusion`` or ``openrouter/fusion-flash``."""
    input: Annotated[
        list[Item],
        Field(min_length=1),
        BeforeValidator(_to_items, json_schema_input_type=str | list[Item]),
    ]
    """A string, or items: messages, function calls and their outputs; reasoning and fusion items
    are skipped."""
    instructions: str | None = None
    """A system message before everything else; not carried on by previous_response_id."""
    previous_response_id: str | None = Field(default=None, max_length=256)
    """A stored response whose input and output come before this input."""
    stream: bool | None = None
    stream_options: EventOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """Longest answer, reasoning included; the panel's length is the preset's."""
    max_tool_calls: int | None = Field(default=None, ge=1, lt=2**31)
    """Of tools that the server runs; there are none."""
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    """Functions that the answer may call; drafts may not."""
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Include] | None = Field(default=None, max_length=8)
    """``message.output_text.logprobs`` of a single model's answer; the others change nothing."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """With included logprobs: how many of the likeliest tokens are told for each place."""
    store: bool | None = None
    """Whether the response can be asked for again; true unless set."""
    metadata: dict[Annotated[str, Field(max_length=64)], Text] | None = Field(
        default=None, max_length=16
    )
    """Given back with the response."""
    user: Text | None = None
    """Accepted; nothing here reads it."""
    safety_identifier: Text | None = None
    """Accepted; nothing here reads it."""
    prompt_cache_key: Text | None = None
    """Accepted; every prompt is cached here."""
    truncation: Annotated[str | None, _only("disabled", remedy="send disabled: nothing is cut")] = (
        None
    )
    fusion: FusionOptions | None = None
    """How the answer is made; ``stream_panel`` is true here unless set."""
    plugins: list[object] | None = None
    """The same as ``[{"id": "fusion", …}]``."""


_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    **{name: rule for name, rule in REFUSED.items() if name != "store"},
    "background": ((False,), "leave it out and keep the connection open, with stream: true"),
    "background_options": ((), "leave it out"),
    "conversation": ((), "send previous_response_id"),
    "context_management": (([],), "leave it out, for nothing is cut"),
    "prompt": ((), "send instructions and input"),
    "access_programs": ((), "leave it out"),
    "image": ((), "leave it out, for the models here read text"),
}

Find = Callable[[str], StoredResponse]


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A Responses request that can be run.

    Attributes:
        chat: What is asked, as of every API.
        items: The whole input as items, earlier turns included.
        echo: Fields that the response repeats.
        is_stored: The response is to be kept.
    """

    chat: ChatRequest
    items: Sequence[Mapping[str, object]]
    echo: Mapping[str, object]
    is_stored: bool = True

    @property
    def streams_panel(self) -> bool:
        return self.chat.is_stream and self.chat.options.stream_panel is not False


def read_responses(
    document: Mapping[str, object], max_messages: int, find: Find
) -> ResponsesRequest:
    """Check a body and turn it into a request.

    Args:
        document: The body.
        max_messages: Most items of one conversation.
        find: Returns a stored response, or raises.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
        NotFoundError: previous_response_id is unknown.
    """
    refuse(document, _REFUSED)
    ignored = ignored_names(document, {*ResponsesBody.model_fields, *_REFUSED, *HINTS})
    forms, rest = take_forms(document)
    with forms.in_its_places():
        body = read(ResponsesBody, rest)
        _check_together(body, forms.options)
        tools = to_tools(body.tools or (), body.tool_choice, body.parallel_tool_calls)
    earlier = _earlier(body, find)
    items = [*read(Items, {"items": earlier}).items, *body.input]
    if len(items) > max_messages:
        what = f"has more than {max_messages} items, earlier turns included"
        raise wrong("input", f"{what}; shorten the conversation")
    messages = to_messages(items, len(earlier))
    if not messages:
        raise wrong("input", "has no message; send at least one")
    if body.instructions:
        messages = (Message("system", body.instructions), *messages)
    request = Request(
        model=body.model,
        messages=messages,
        sampling=SamplingParams(
            temperature=body.temperature, top_p=body.top_p, max_tokens=body.max_output_tokens
        ),
        schema=to_schema(body.text.format if body.text else None),
        tools=tools,
        effort=to_effort(body.reasoning.effort) if body.reasoning else None,
        logprobs=(body.top_logprobs or 0) if LOGPROBS in (body.include or ()) else None,
        changes=forms.options.changes,
        watches=_watches(body, forms.options),
        origin=Origin(ignored=ignored),
    )
    chat = ChatRequest(
        request, body.model, forms=forms, is_stream=bool(body.stream), ignored=ignored
    )
    kept = [*earlier, *to_json(body.input)]
    return ResponsesRequest(chat, kept, _echo(body), is_stored=body.store is not False)


def _earlier(body: ResponsesBody, find: Find) -> list[Mapping[str, object]]:
    """Return input and output of the response that this one follows."""
    if body.previous_response_id is None:
        return []
    stored = find(body.previous_response_id)
    output = stored.body["output"]
    assert isinstance(output, list)
    kept = [item for item in output if item["type"] in ("message", "function_call")]
    return [*stored.items, *kept]


def _watches(body: ResponsesBody, options: FusionOptions) -> Watches:
    if not body.stream:
        return "nothing"
    return "answer" if options.stream_panel is False else "panel"


def _check_together(body: ResponsesBody, options: FusionOptions) -> None:
    if body.stream_options is not None and not body.stream:
        raise unsupported("stream_options", "belongs to streams; leave it out or set stream: true")
    if options.stream_panel and not body.stream:
        raise unsupported("fusion.stream_panel", "belongs to streams; set stream: true")
    if options.progress != "none":
        raise unsupported(
            "fusion.progress", "belongs to chat completions; read response.fusion_call events"
        )
    if body.top_logprobs and LOGPROBS not in (body.include or ()):
        raise unsupported("top_logprobs", f"belongs to logprobs; add {LOGPROBS} to include")


def _echo(body: ResponsesBody) -> dict[str, object]:
    form = body.text.format if body.text else None
    choice = body.tool_choice
    # The public schema of the API wants numbers where OpenAI's default holds.
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": body.reasoning.effort if body.reasoning else None,
            "summary": body.reasoning.summary if body.reasoning else None,
        },
        "safety_identifier": body.safety_identifier,
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {
            "format": form.model_dump(by_alias=True, exclude_none=True)
            if form
            else {"type": "text"},
            "verbosity": "medium",
        },
        "tool_choice": choice.model_dump() if isinstance(choice, Section) else choice or "auto",
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": tool.strict,
            }
            for tool in body.tools or ()
        ],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "user": body.user,
    }
