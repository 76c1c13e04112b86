"""The content blocks of Anthropic's Messages API, and the turns that they are. Pure."""

import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from localfusion.functions import ToolCall
from localfusion.server.section import Section, wrong
from localfusion.server.tools import FunctionName
from localfusion.server.turns import TEXT_OR_PARTS, joined
from localfusion.types import Message, Role

Id = Annotated[str, Field(min_length=1, max_length=256)]
_IMAGES = ("image", "document", "file", "container_upload")


class Hint(Section):
    """Where the client would cache; prefixes are cached anyway."""

    type: Literal["ephemeral"]


class TextBlock(Section):
    type: Literal["text"]
    text: str
    cache_control: Hint | None = None


class ToolUseBlock(Section):
    type: Literal["tool_use"]
    id: Id
    name: FunctionName
    input: dict[str, object]


def _refuse_image(value: object) -> object:
    if isinstance(value, dict) and value.get("type") in _IMAGES:
        raise PydanticCustomError(
            "unsupported_image", "is no text, and the models here read text; send text blocks only"
        )
    return value


ResultContent = Annotated[
    Annotated[None, Tag("<none>")]
    | Annotated[str, Tag("<text>")]
    | Annotated[
        list[Annotated[TextBlock, BeforeValidator(_refuse_image)]],
        Field(max_length=64),
        Tag("<parts>"),
    ],
    TEXT_OR_PARTS,
]


class ToolResultBlock(Section):
    type: Literal["tool_result"]
    tool_use_id: Id
    content: ResultContent = None
    is_error: bool | None = None
    """Said to the model in front of the result."""
    cache_control: Hint | None = None


class SkippedBlock(Section):
    """Thinking of an earlier answer: accepted, and not shown to the models again."""

    type: Literal["thinking", "redacted_thinking"]


def _block_kind(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    match kind:
        case "text":
            return "<text>"
        case "tool_use":
            return "<call>"
        case "tool_result":
            return "<result>"
        case "thinking" | "redacted_thinking":
            return "<skipped>"
    return None


def _check_block(value: object) -> object:
    _refuse_image(value)
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and _block_kind(value) is None:
        raise PydanticCustomError(
            "unsupported_parameter",
            "is of a kind that is not supported; send text, tool_use and tool_result",
        )
    return value


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ToolUseBlock, Tag("<call>")]
    | Annotated[ToolResultBlock, Tag("<result>")]
    | Annotated[SkippedBlock, Tag("<skipped>")],
    Discriminator(
        _block_kind,
        custom_error_type="invalid_type",
        custom_error_message="must be a block with a type; send {type: text, text: ...}",
    ),
    BeforeValidator(_check_block),
]


def _content_kind(value: object) -> str | None:
    return "<text>" if isinstance(value, str) else "<blocks>" if isinstance(value, list) else None


class MessageBody(Section):
    role: Literal["user", "assistant", "system"]
    content: Annotated[
        Annotated[str, Tag("<text>")]
        | Annotated[list[Block], Field(min_length=1, max_length=512), Tag("<blocks>")],
        Discriminator(
            _content_kind,
            custom_error_type="invalid_type",
            custom_error_message="must be a string or a list of blocks; send text",
        ),
    ]
    """A string, or blocks; texts are joined by line breaks."""


def to_turns(message: MessageBody, called: set[str], where: str) -> list[Message]:
    """Return the turns of a message: results of tools first, each a turn of its own.

    Args:
        message: As it came.
        called: Calls so far, which those of this message join.
        where: Its place in the body.

    Raises:
        RequestError: a block in another role's message, or a result of no call.
    """
    if isinstance(message.content, str):
        return [Message(message.role, message.content)]
    texts: list[TextBlock] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for place, block in enumerate(message.content):
        path = f"{where}.content[{place}]"
        match block:
            case TextBlock():
                texts.append(block)
            case ToolUseBlock():
                _refuse_role(message.role, "assistant", path)
                called.add(block.id)
                calls.append(ToolCall(block.id, block.name, json.dumps(block.input)))
            case SkippedBlock():
                _refuse_role(message.role, "assistant", path)
            case ToolResultBlock():
                _refuse_role(message.role, "user", path)
                if block.tool_use_id not in called:
                    raise wrong(
                        f"{path}.tool_use_id", "answers no tool_use before it; send that too"
                    )
                results.append(Message("tool", _result(block), tool_call_id=block.tool_use_id))
    is_empty = not (texts or calls) and bool(results)
    rest = [] if is_empty else [Message(message.role, joined(texts), tuple(calls))]
    return [*results, *rest]


def _result(block: ToolResultBlock) -> str:
    text = joined(block.content or "")
    return f"Error: {text}" if block.is_error else text


def _refuse_role(role: Role, wanted: Role, path: str) -> None:
    if role != wanted:
        raise wrong(path, f"belongs to role {wanted}; move it there")
