"""Items of the Responses API, as clients send and the store keeps them; their messages. Pure."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from localfusion.functions import ToolCall
from localfusion.server.forms import FUSION_TOOL
from localfusion.server.section import Section, wrong
from localfusion.server.tools import FunctionName
from localfusion.server.turns import TEXT_OR_PARTS, joined
from localfusion.types import Message, Role

Id = Annotated[str, Field(min_length=1, max_length=256)]

_TEXTS = ("input_text", "output_text", "text")


def _check_part(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "input_image":
        raise PydanticCustomError(
            "unsupported_image", "is an image, and the models here read text; send text parts only"
        )
    if isinstance(value, dict) and kind not in _TEXTS:
        raise PydanticCustomError(
            "unsupported_parameter", "is no text part; send parts of type input_text only"
        )
    return value


class InputPart(Section):
    type: Literal["input_text", "output_text", "text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[Annotated[InputPart, BeforeValidator(_check_part)]],
        Field(min_length=1, max_length=64),
        Tag("<parts>"),
    ],
    TEXT_OR_PARTS,
]


class MessageItem(Section):
    type: Literal["message"] = "message"
    id: Id | None = None
    role: Literal["user", "assistant", "system", "developer"]
    """``developer`` is read as ``system``."""
    content: Content
    """A string, or text parts, which are joined by line breaks."""

    @property
    def text(self) -> str:
        return joined(self.content)

    def to_json(self) -> dict[str, object]:
        part: dict[str, object] = {"type": "input_text", "text": self.text}
        if self.role == "assistant":
            part = {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}
        return {
            "type": "message",
            "id": self.id or _new_id("msg"),
            "role": self.role,
            "status": "completed",
            "content": [part],
        }


class CallItem(Section):
    """A call of the client's function, as the model made it in an earlier turn."""

    type: Literal["function_call"]
    id: Id | None = None
    call_id: Id
    name: FunctionName
    arguments: str
    """JSON text."""

    def to_json(self) -> dict[str, object]:
        return {
            "type": "function_call",
            "id": self.id or _new_id("fc"),
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "status": "completed",
        }


class ResultItem(Section):
    """What came of a call."""

    type: Literal["function_call_output"]
    id: Id | None = None
    call_id: Id
    output: Content

    def to_json(self) -> dict[str, object]:
        return {
            "type": "function_call_output",
            "id": self.id or _new_id("fco"),
            "call_id": self.call_id,
            "output": joined(self.output),
            "status": "completed",
        }


class SkippedItem(Section):
    """Part of an earlier reply that the models are not shown again."""

    type: Literal["reasoning", "openrouter:fusion"]


def _item_kind(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    match value.get("type", "message"):
        case "message":
            return "<message>"
        case "function_call":
            return "<call>"
        case "function_call_output":
            return "<result>"
        case kind if kind in ("reasoning", FUSION_TOOL):
            return "<skipped>"
    return None


def _check_item(value: object) -> object:
    if isinstance(value, dict) and _item_kind(value) is None:
        raise PydanticCustomError(
            "unsupported_parameter",
            "is of a kind that is not supported; send messages, function calls and their outputs",
        )
    return value


AnyItem = MessageItem | CallItem | ResultItem | SkippedItem
Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<call>")]
    | Annotated[ResultItem, Tag("<result>")]
    | Annotated[SkippedItem, Tag("<skipped>")],
    Discriminator(
        _item_kind,
        custom_error_type="invalid_type",
        custom_error_message="must be an item; send an object",
    ),
    BeforeValidator(_check_item),
]


class Items(Section):
    """Items that have been checked before, such as a stored response's."""

    items: list[Item]


def to_json(items: Sequence[AnyItem]) -> list[dict[str, object]]:
    """Return the items as they are stored and listed, without those that are skipped."""
    return [item.to_json() for item in items if not isinstance(item, SkippedItem)]


def to_messages(items: Sequence[AnyItem], first: int = 0) -> tuple[Message, ...]:
    """Return the conversation that items are.

    Calls belong to the assistant's turn beside them: templates know no call without one.

    Args:
        items: In order.
        first: Place of the first one that this request brought; those before it are stored ones.

    Raises:
        RequestError: an output that answers no call before it.
    """
    messages: list[Message] = []
    called: set[str] = set()
    for place, item in enumerate(items):
        match item:
            case MessageItem(role="assistant") if messages and messages[-1].tool_calls:
                text = "\n".join(filter(None, (messages[-1].content, item.text)))
                messages[-1] = replace(messages[-1], content=text)
            case MessageItem():
                role: Role = "system" if item.role == "developer" else item.role
                messages.append(Message(role, item.text))
            case CallItem():
                called.add(item.call_id)
                _add_call(messages, ToolCall(item.call_id, item.name, item.arguments))
            case ResultItem():
                if item.call_id not in called:
                    raise wrong(
                        f"input[{place - first}].call_id",
                        "answers no function call before it; send the function_call item "
                        "too, or previous_response_id",
                    )
                messages.append(Message("tool", joined(item.output), tool_call_id=item.call_id))
    return tuple(messages)


def _add_call(messages: list[Message], call: ToolCall) -> None:
    if messages and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
    else:
        messages.append(Message("assistant", "", (call,)))


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
