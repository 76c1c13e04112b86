"""Pieces of a stream that came together, as one. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from localfusion.events import AnswerDelta, Event, PanelDelta

DELTAS = frozenset({PanelDelta, AnswerDelta})
"""Events that are pieces of a stream, which another event has whole in the end."""


def is_delta(event: Event) -> bool:
    """Say whether an event is one of DELTAS."""
    return type(event) in DELTAS


def joined(events: Iterable[Event]) -> list[Event]:
    """Join the deltas of each stream that no other event stands between; the first one's time."""
    result: list[Event] = []
    for are_deltas, found in groupby(events, is_delta):
        group = list(found)
        result += _joined(group) if are_deltas else group
    return result


def _joined(deltas: Iterable[Event]) -> Iterable[Event]:
    panel: dict[int, list[PanelDelta]] = {}
    answer: list[AnswerDelta] = []
    for delta in deltas:
        if isinstance(delta, PanelDelta):
            panel.setdefault(delta.index, []).append(delta)
        elif isinstance(delta, AnswerDelta):
            answer.append(delta)
    for pieces in panel.values():
        yield replace(pieces[0], text=_text(pieces), reasoning=_reasoning(pieces))
    if answer:
        yield replace(
            answer[0],
            text=_text(answer),
            reasoning=_reasoning(answer),
            tool_calls=tuple(call for delta in answer for call in delta.tool_calls),
            logprobs=tuple(token for delta in answer for token in delta.logprobs),
        )


def _text(pieces: Iterable[PanelDelta | AnswerDelta]) -> str:
    return "".join(piece.text for piece in pieces)


def _reasoning(pieces: Iterable[PanelDelta | AnswerDelta]) -> str:
    return "".join(piece.reasoning for piece in pieces)
