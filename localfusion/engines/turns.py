"""Conversations in the shape that an engine's chat template takes. Pure.

Templates refuse what they do not know with an error: a system turn, two turns of one role in a row
(NousResearch/hermes-agent #115606). What each one takes is found out once, when its engine starts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from localfusion.types import Message, Role

OPENING = "Begin."
"""Said by the user where a template wants one before an assistant's first turn."""


@dataclass(frozen=True, slots=True)
class TurnRules:
    """What a chat template takes besides turns that alternate, the user's first.

    Attributes:
        system: A system turn at the beginning.
        late_system: One further on.
        repeats: Two turns of one role in a row.
        assistant_first: An assistant's turn at the beginning.
    """

    system: bool = True
    late_system: bool = True
    repeats: bool = True
    assistant_first: bool = True


_USER, _ASSISTANT, _SYSTEM = (
    Message("user", "Hi"),
    Message("assistant", "Hello"),
    Message("system", "Be brief."),
)
PLAIN = (_USER,)
"""What every template takes; one that refuses it tells nothing by refusing more."""
PROBES: Mapping[str, tuple[Message, ...]] = {
    "system": (_SYSTEM, _USER),
    "late_system": (_USER, _ASSISTANT, _SYSTEM, _USER),
    "repeats": (_USER, _USER),
    "assistant_first": (_ASSISTANT, _USER),
}
"""Conversations that find out, by the rule's name."""


def shape(messages: Sequence[Message], rules: TurnRules) -> tuple[Message, ...]:
    """Return the conversation as a template with these rules takes it; nothing is left out.

    A system turn that is refused becomes the beginning of the user's next one, neighbors of one
    role are joined by a blank line.
    """
    turns = _without_system(messages, rules)
    if not rules.repeats:
        turns = joined(turns)
    first = next((turn for turn in turns if turn.role != "system"), None)
    if first is not None and first.role == "assistant" and not rules.assistant_first:
        place = turns.index(first)
        turns.insert(place, Message("user", OPENING))
    return tuple(turns)


def _without_system(messages: Sequence[Message], rules: TurnRules) -> list[Message]:
    turns: list[Message] = []
    held: list[str] = []
    has_begun = False
    for message in messages:
        if message.role == "system" and not (rules.late_system if has_begun else rules.system):
            held.append(message.content)
            continue
        has_begun = has_begun or message.role != "system"
        if held and message.role == "user":
            message = replace(message, content="\n\n".join([*held, message.content]))
            held = []
        elif held:
            turns.append(Message("user", "\n\n".join(held)))
            held = []
        turns.append(message)
    return [*turns, Message("user", "\n\n".join(held))] if held else turns


def joined(turns: Iterable[Message], *roles: Role) -> list[Message]:
    """Join neighbors of one role by a blank line, except calls and their results.

    Args:
        turns: In order.
        roles: Of these roles only; none: of all.
    """
    told: list[Message] = []
    for turn in turns:
        before = told[-1] if told else None
        is_plain = before is not None and not (before.tool_calls or turn.tool_calls)
        is_wanted = turn.role != "tool" and (not roles or turn.role in roles)
        if before is not None and is_plain and is_wanted and before.role == turn.role:
            told[-1] = replace(before, content=f"{before.content}\n\n{turn.content}")
        else:
            told.append(turn)
    return told
