"""The messages of a chat request: roles, text parts, tool calls and their results. Pure."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from localfusion.functions import ToolCall
from localfusion.server.section import Section, missing, wrong
from localfusion.types import Message, Role


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
        case None:
            return "<none>"
        case str():
            return "<text>"
        case list():
            return "<parts>"
    return None


TEXT_OR_PARTS = Discriminator(
    _content_kind,
    custom_error_type="invalid_type",
    custom_error_message="must be a string or a list of text parts; send text",
)
"""Tells apart what is tagged <none>, <text> and <parts>."""

Content = Annotated[
    Annotated[None, Tag("<none>")]
    | Annotated[str, Tag("<text>")]
    | Annotated[
        list[Annotated[TextPart, BeforeValidator(_check_part)]],
        Field(min_length=1, max_length=64),
        Tag("<parts>"),
    ],
    TEXT_OR_PARTS,
]


class HasText(Protocol):
    """A part of a message."""

    @property
    def text(self) -> str: ...


def joined(content: str | Sequence[HasText]) -> str:
    """Return a message's text; parts are joined by line breaks."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _refuse_audio(value: object) -> object:
    if value:
        raise PydanticCustomError(
            "unsupported_parameter", "is not supported; write what happened as text content"
        )
    return None


def _refuse_function_role(value: object) -> object:
    if value == "function":
        raise PydanticCustomError(
            "unsupported_parameter", "function is the older form; send role tool and tool_call_id"
        )
    return value


_Refused = Annotated[object, AfterValidator(_refuse_audio)]


class CalledFunction(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    arguments: str
    """JSON text, as the model wrote it."""


class CalledTool(Section):
    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction

    def to_call(self) -> ToolCall:
        return ToolCall(self.id, self.function.name, self.function.arguments)


class ChatMessage(Section):
    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        BeforeValidator(_refuse_function_role),
    ]
    """``developer`` is read as ``system``."""
    content: Content = None
    """A string, or text parts, which are joined by line breaks. Null only beside ``tool_calls``."""
    tool_calls: list[CalledTool] | None = Field(default=None, max_length=128)
    """Of an assistant: functions that it has called."""
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=256)
    """Of a tool: the call that it answers."""
    reasoning: str | None = None
    """Of an assistant: accepted, and not shown to the models again."""
    reasoning_content: str | None = None
    """The same by its other name."""
    refusal: str | None = None
    """Of an assistant: accepted as its content where that is null."""
    function_call: _Refused = None
    audio: _Refused = None

    @property
    def text(self) -> str:
        return self.refusal or "" if self.content is None else joined(self.content)

    def to_message(self) -> Message:
        role: Role = "system" if self.role == "developer" else self.role
        calls = tuple(call.to_call() for call in self.tool_calls or ())
        return Message(role, self.text, calls, self.tool_call_id)


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the conversation.

    Raises:
        RequestError: a message without content, or a tool's result that answers no call.
    """
    called: set[str] = set()
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if message.role == "tool":
            _check_result(message, called, where)
        elif message.tool_calls and message.role != "assistant":
            raise wrong(f"{where}.tool_calls", "belongs to role assistant; leave it out")
        elif message.content is None and not (message.tool_calls or message.refusal):
            what = "must be a string or a list of text parts; send text"
            raise wrong(f"{where}.content", what, "invalid_type")
        called |= {call.id for call in message.tool_calls or ()}
    return tuple(message.to_message() for message in messages)


def _check_result(message: ChatMessage, called: set[str], where: str) -> None:
    if message.tool_call_id is None:
        raise missing(f"{where}.tool_call_id", "add the id of the call that this answers")
    if message.tool_call_id not in called:
        raise wrong(
            f"{where}.tool_call_id", "answers no call of an assistant before it; send that too"
        )
    if message.content is None:
        what = "must be a string; send the result as text"
        raise wrong(f"{where}.content", what, "invalid_type")
