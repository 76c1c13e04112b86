"""Events as JSON objects, under the hosted service's names where it has one, and back."""

from collections.abc import Mapping

from pydantic import TypeAdapter

from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    AnswerDelta,
    AnswerStarted,
    CandidateChecked,
    Event,
    PanelAdded,
    PanelCompleted,
    PanelDelta,
    PolicyChosen,
    PrefillCompleted,
    RunCompleted,
    RunStarted,
    SynthesisStarted,
    VerdictCompleted,
)

PREFIX = "response.fusion_call."

# Source: the event table of the Fusion API (OpenRouter, August 2026); the others are ours.
_NAMES: Mapping[type[Event], str] = {
    RunStarted: "in_progress",
    PolicyChosen: "policy.chosen",
    PanelAdded: "panel.added",
    PanelDelta: "panel.delta",
    PanelCompleted: "panel.completed",
    PrefillCompleted: "prefill.completed",
    CandidateChecked: "check.completed",
    VerdictCompleted: "verdict.completed",
    AnalysisStarted: "analysis.in_progress",
    AnalysisCompleted: "analysis.completed",
    SynthesisStarted: "synthesis.in_progress",
    AnswerStarted: "answer.started",
    AnswerDelta: "answer.delta",
    RunCompleted: "completed",
}
_TYPES = {name: kind for kind, name in _NAMES.items()}


_ADAPTERS: Mapping[type[Event], TypeAdapter[Event]] = {kind: TypeAdapter(kind) for kind in _NAMES}


def encode(event: Event) -> dict[str, object]:
    """Return the event's fields as JSON values, with its name as ``type``.

    Raises:
        KeyError: RunFailed, which travels as an error, not as an event.
    """
    fields = _ADAPTERS[type(event)].dump_python(event, mode="json")
    return {"type": PREFIX + _NAMES[type(event)], **fields}


def dump(event: Event) -> bytes:
    """Return what ``encode`` returns as JSON text, in a third of the time.

    Raises:
        KeyError: as ``encode``.
        ValueError: a text in it has no UTF-8.
    """
    body = _ADAPTERS[type(event)].dump_json(event)
    return b'{"type":"' + (PREFIX + _NAMES[type(event)]).encode() + b'",' + body[1:]


def decode(fields: Mapping[str, object]) -> Event:
    """Return the event that ``encode`` made the object of.

    Raises:
        ValueError: an unknown type, or fields that do not belong to it.
    """
    name = str(fields.get("type", "")).removeprefix(PREFIX)
    if name not in _TYPES:
        raise ValueError(f"unknown event {name!r}")
    rest = {key: value for key, value in fields.items() if key != "type"}
    return _ADAPTERS[_TYPES[name]].validate_python(rest)
