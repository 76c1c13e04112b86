"""The fields of a chat request: which are honored, which refused, which ignored. Pure.

A documented field that would change the answer and is not built is refused, never dropped in
silence; a field that nobody documents is ignored and named in a header. Values are never echoed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from localfusion.errors import RequestError
from localfusion.server.body import field_path
from localfusion.types import Message, Request, Role, SamplingParams

MAX_UNKNOWN = 100
MAX_NAMED = 10

_SAFE_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


class Section(BaseModel):
    """A part of a request: nothing is coerced, nothing unknown is an error."""

    model_config = ConfigDict(strict=True, frozen=True, use_attribute_docstrings=True)


def _check_part(value: object) -> object:
    kind = value.get("type", "text") if isinstance(value, dict) else "text"
    if kind == "image_url":
        raise PydanticCustomError(
            "unsupported_image", "is an image, and the models here read text; send text parts only"
        )
    if kind != "text":
        raise PydanticCustomError(
            "unsupported_parameter", "is no text part; send parts of type text only"
        )
    return value


class TextPart(Section):
    type: Literal["text"]
    text: str


def _content_kind(value: object) -> str | None:
    match value:
        case str():
            return "<text>"
        case list():
            return "<parts>"
    return None


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[Annotated[TextPart, BeforeValidator(_check_part)]],
        Field(min_length=1, max_length=64),
        Tag("<parts>"),
    ],
    Discriminator(
        _content_kind,
        custom_error_type="invalid_type",
        custom_error_message="must be a string or a list of text parts; send text",
    ),
]


def _refuse_tools(value: object) -> object:
    if value:
        raise PydanticCustomError(
            "unsupported_parameter", "is not supported; write what happened as text content"
        )
    return None


def _refuse_tool_role(value: object) -> object:
    if value in ("tool", "function"):
        raise PydanticCustomError(
            "unsupported_parameter", "tool results are not supported; send them as user text"
        )
    return value


_NoTools = Annotated[object, AfterValidator(_refuse_tools)]


class ChatMessage(Section):
    role: Annotated[
        Literal["system", "developer", "user", "assistant"], BeforeValidator(_refuse_tool_role)
    ]
    """``developer`` is read as ``system``."""
    tool_calls: _NoTools = None
    function_call: _NoTools = None
    audio: _NoTools = None
    content: Content
    """A string, or text parts, which are joined by line breaks."""

    def to_message(self) -> Message:
        role: Role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return Message(role, self.content)
        return Message(role, "\n".join(part.text for part in self.content))


class StreamOptions(Section):
    include_usage: bool | None = None
    """Send a last chunk with the tokens of the whole run."""
    include_obfuscation: bool | None = None
    """Accepted; none is added."""


class FusionOptions(Section):
    model_config = ConfigDict(extra="forbid")

    stream_panel: bool = False
    """Send every event of the run as a chunk ``{"choices": [], "fusion_event": {...}}``."""
    policy: str | None = Field(default=None, max_length=40)
    """How the answer is made; None: as the preset says."""
    options: dict[str, str | int | float | bool] | None = Field(default=None, max_length=20)
    """Of the policy."""
    deadline_ms: int | None = Field(default=None, ge=100, le=3_600_000)
    """For the whole request; None: the preset's."""

    @property
    def changes(self) -> dict[str, object]:
        """What the request has otherwise than its preset."""
        found: dict[str, object] = {"policy": self.policy, "options": self.options}
        if self.deadline_ms is not None:
            found["deadline"] = self.deadline_ms / 1000
        return {name: value for name, value in found.items() if value is not None}


Stop = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=512)]


def _stop_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ChatBody(Section):
    """The body of ``POST /v1/chat/completions``; null means absent."""

    model: str
    """A preset, a model, ``openrouter/fusion`` or ``openrouter/fusion-flash``."""
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """The older name of max_completion_tokens."""
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    """Longest answer, reasoning included; the panel's length is the preset's."""
    stop: Annotated[list[Stop] | None, BeforeValidator(_stop_list)] = Field(
        default=None, max_length=4
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    n: int | None = Field(default=None, ge=1, le=8)
    """Only 1."""
    metadata: dict[Annotated[str, Field(max_length=64)], Text] | None = Field(
        default=None, max_length=16
    )
    """Accepted; nothing here reads it."""
    user: Text | None = None
    """Accepted; nothing here reads it."""
    safety_identifier: Text | None = None
    """Accepted; nothing here reads it."""
    fusion: FusionOptions | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request that can be run.

    Attributes:
        ignored: Names of fields that nobody documents, for ``x-localfusion-ignored``.
    """

    request: Request
    is_stream: bool = False
    include_usage: bool = False
    stream_panel: bool = False
    ignored: tuple[str, ...] = ()


_ENGINE_ONLY = "it belongs to the engine and is set in models.yaml"
_TEXT_ONLY = "leave it out, for answers are text"

# Values that ask for nothing besides what happens anyway, and what to do otherwise.
_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "tools": (([],), "leave it out and describe in a message what the tools found"),
    "tool_choice": (("none", "auto"), "leave it out, for there are no tools"),
    "parallel_tool_calls": ((), "leave it out, for there are no tools"),
    "functions": (([],), "leave it out and describe in a message what the functions found"),
    "function_call": (("none", "auto"), "leave it out, for there are no functions"),
    "response_format": (({"type": "text"},), "leave it out and describe the format in a message"),
    "logprobs": ((False,), "leave it out"),
    "top_logprobs": ((0,), "leave it out"),
    "logit_bias": (({},), "leave it out"),
    "reasoning_effort": ((), "leave it out"),
    "audio": ((), _TEXT_ONLY),
    "modalities": ((["text"],), _TEXT_ONLY),
    "web_search_options": ((), "leave it out, for there is no network"),
    "moderation": ((), "leave it out"),
    "service_tier": (("auto", "default"), "leave it out"),
    "verbosity": (("medium",), "leave it out and ask for the length in a message"),
    "store": ((False,), "leave it out, for nothing is stored"),
    "plugins": (([],), "leave it out; the model's name chooses the preset"),
} | dict.fromkeys(
    (
        "add_generation_prompt",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "echo",
        "guided_choice",
        "guided_decoding_backend",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "kv_transfer_params",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "priority",
        "prompt_embeds",
        "prompt_logprobs",
        "structured_outputs",
        "vllm_xargs",
    ),
    ((), _ENGINE_ONLY),
)

# Hints that may speed a request up and change nothing else.
_HINTS = frozenset(
    {"prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
)


def read_chat(document: Mapping[str, object], max_messages: int) -> ChatRequest:
    """Check a body and turn it into a request.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
    """
    unknown = [n for n in document if n not in ChatBody.model_fields and n not in _HINTS]
    _refuse_unsupported(document)
    ignored = [name for name in unknown if name not in _REFUSED]
    if len(ignored) > MAX_UNKNOWN:
        raise RequestError(
            f"the body has more than {MAX_UNKNOWN} unknown fields; remove them",
            code="too_many_values",
        )
    try:
        body = ChatBody.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise _explain(details[0]) from None
    _check_together(body, max_messages)
    wants_panel = bool(body.fusion and body.fusion.stream_panel)
    named = [name for name in ignored if _SAFE_NAME.fullmatch(name)]
    return ChatRequest(
        request=Request(
            model=body.model,
            messages=tuple(message.to_message() for message in body.messages),
            sampling=_sampling(body),
            changes=body.fusion.changes if body.fusion else {},
            watches="panel" if wants_panel else "answer" if body.stream else "nothing",
        ),
        is_stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        stream_panel=wants_panel,
        ignored=tuple(named[:MAX_NAMED]),
    )


def _sampling(body: ChatBody) -> SamplingParams:
    return SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=tuple(body.stop or ()),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
    )


def _refuse_unsupported(document: Mapping[str, object]) -> None:
    for name, (neutral, remedy) in _REFUSED.items():
        value = document.get(name)
        if value is None or any(type(value) is type(same) and value == same for same in neutral):
            continue
        raise _unsupported(name, f"is not supported; {remedy}")


def _check_together(body: ChatBody, max_messages: int) -> None:
    if len(body.messages) > max_messages:
        raise RequestError(
            f"messages has more than {max_messages} entries; shorten the conversation",
            code="out_of_range",
            param="messages",
        )
    if body.n not in (None, 1):
        raise _unsupported("n", "may only be 1; send the request as often as you need answers")
    if body.stream_options is not None and not body.stream:
        raise _unsupported("stream_options", "belongs to streams; leave it out or set stream: true")
    if body.fusion is not None and body.fusion.stream_panel and not body.stream:
        raise _unsupported("fusion.stream_panel", "belongs to streams; set stream: true")
    lengths = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(lengths) > 1:
        raise RequestError(
            "max_tokens and max_completion_tokens differ; send one of them",
            code="out_of_range",
            param="max_tokens",
        )


def _unsupported(name: str, what: str) -> RequestError:
    return RequestError(f"{name} {what}", code="unsupported_parameter", param=name)


_OWN_CODES = frozenset({"unsupported_parameter", "unsupported_image", "invalid_type"})


def _explain(item: ErrorDetails) -> RequestError:
    # The tags of alternatives, which pydantic puts into the place, are written <like this>.
    parts = tuple(p for p in item["loc"] if not (isinstance(p, str) and p.startswith("<")))
    path, kind = field_path(parts), item["type"]
    message = item["msg"].replace("Input should", "must").replace("should", "must")
    message = message[0].lower() + message[1:]
    if kind in _OWN_CODES:
        return RequestError(f"{path} {message}", code=kind, param=path)
    if kind == "missing":
        return RequestError(f"{path} is missing; add it", code="missing_parameter", param=path)
    if kind == "extra_forbidden":
        known = ", ".join(FusionOptions.model_fields)
        return RequestError(
            f"{path} is not an option here; known: {known}", code="unknown_option", param=path
        )
    if kind.endswith("_type") or kind == "int_from_float":
        what = f"{path} {message}; send it as that type"
        return RequestError(what, code="invalid_type", param=path)
    limits = _range(parts) or message
    return RequestError(
        f"{path} {limits}; send it within that limit", code="out_of_range", param=path
    )


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _range(parts: tuple[str | int, ...]) -> str | None:
    """Name both ends of a number's range; pydantic names only the one that was passed."""
    field = ChatBody.model_fields.get(str(parts[0]))
    if field is None or len(parts) > 1:
        return None
    bounds = [
        f"{word} {getattr(limit, name)}"
        for limit in field.metadata
        for name, word in _BOUNDS.items()
        if hasattr(limit, name)
    ]
    return "must be " + " and ".join(bounds) if bounds else None
