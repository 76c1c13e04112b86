"""Turns of a conversation for a model that is offered no functions: calls and results as text."""

from collections.abc import Iterator, Sequence

from localfusion.engines.turns import joined
from localfusion.types import Message


def as_text(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation without tool traffic: what was called and what came of it is said.

    A result becomes a user's turn; neighbors of that role are joined, for some chat templates
    refuse two in a row. A conversation without such traffic is returned as it is.
    """
    if not any(message.tool_calls or message.role == "tool" for message in messages):
        return tuple(messages)
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return tuple(joined(_told(messages, names), "user"))


def _told(messages: Sequence[Message], names: dict[str, str]) -> Iterator[Message]:
    for message in messages:
        if message.role == "tool":
            name = names.get(message.tool_call_id or "", "a function")
            yield Message("user", f"Result of {name}:\n{message.content}")
        elif message.tool_calls:
            calls = [f"(I call {call.name} with {call.arguments})" for call in message.tool_calls]
            yield Message("assistant", "\n".join(filter(None, [message.content, *calls])))
        else:
            yield message
