"""The JSON form of a trace, whole and in the parts in which it is stored; and back. Pure.

Events look as they do on the wire. What a client reads is described in docs/debugging.md.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError
from pydantic_core import to_json as dump

from localfusion import errors, wire
from localfusion.errors import FusionError, TraceError
from localfusion.events import Event, RunFailed
from localfusion.traces.content import redact
from localfusion.traces.trace import Content, Head, RenderedPrompt, Summary, Trace, Versions
from localfusion.types import Prompt

Json = dict[str, object]

FAILED = wire.PREFIX + "failed"
COMPLETED = wire.PREFIX + "completed"
LEVEL = 1
"""Of deflating: a higher one takes three times as long for a tenth less."""

_SUMMARY = TypeAdapter(Summary)
_HEAD = TypeAdapter(Head)
_PROMPT = TypeAdapter(Prompt)
_RENDERED = TypeAdapter(RenderedPrompt)


def to_json(trace: Trace) -> Json:
    """Return all of a trace as JSON values."""
    return join(
        asdict(trace.summary) | {"content": trace.content},
        None if trace.head is None else encode_head(trace.head),
        [encode(event) for event in trace.events],
        [encode_prompt(prompt) for prompt in trace.prompts],
    )


def from_json(told: Mapping[str, object]) -> Trace:
    """Return the trace that ``to_json`` made the object of.

    Raises:
        ValueError: it is no trace.
    """
    events, prompts, content = (told.get(name) for name in ("events", "prompts", "content"))
    if told.get("object") != "trace" or content not in ("none", "hash", "full"):
        raise ValueError("this is no trace")
    if not isinstance(events, list) or not isinstance(prompts, list):
        raise ValueError("a trace has a list of events and one of prompts")  # noqa: TRY004  of text
    if not re.fullmatch(r"[0-9a-f]{32}", str(told.get("id"))):
        raise ValueError("a trace's id has 32 hex digits")
    return Trace(
        summary=_SUMMARY.validate_python(_only(Summary, told)),
        head=decode_head(told) if told.get("request") else None,
        events=tuple(decode(event) for event in events),
        prompts=tuple(_decode_prompt(prompt) for prompt in prompts),
        content=content,
    )


def decoded(told: Mapping[str, object]) -> Trace:
    """Return a stored trace from its JSON form.

    Raises:
        TraceError: it is not one of this version; says where it can be seen all the same.
    """
    try:
        return from_json(told)
    except ValueError as error:
        raise TraceError(
            f"trace {told.get('id')} is of another version, or damaged; localfusion traces export "
            "shows it"
        ) from error


def join(
    summary: Mapping[str, object],
    head: Mapping[str, object] | None,
    events: Sequence[Mapping[str, object]],
    prompts: Sequence[Mapping[str, object]],
) -> Json:
    """Return the form of a whole trace, with its answer or error beside the events."""
    blank: Json = {"request": None, "settings": {}, "versions": asdict(Versions()), "ignored": []}
    last = events[-1] if events else {}
    return {
        **summarize(summary),
        "content": summary["content"],
        **(blank if head is None else head),
        "events": list(events),
        "answer": last.get("answer") if last.get("type") == COMPLETED else None,
        "error": last.get("error") if last.get("type") == FAILED else None,
        "prompts": list(prompts),
    }


def summarize(summary: Mapping[str, object]) -> Json:
    """Return the form of a trace in a list."""
    named = {field.name: summary[field.name] for field in fields(Summary)}
    members = named["members"]
    assert isinstance(members, Sequence)
    return {"object": "trace", **named, "members": list(members)}


def encode_head(head: Head) -> Json:
    """Return it as JSON values."""
    told: Json = _HEAD.dump_python(head, mode="json", exclude={"request": {"origin", "recorded"}})
    return told


def decode_head(told: Mapping[str, object]) -> Head:
    """Return the head that ``encode_head`` made the object of, or whose fields are in it.

    Raises:
        ValueError: it is none.
    """
    return _HEAD.validate_python(_only(Head, told))


def encode_prompt(prompt: RenderedPrompt) -> Json:
    """Return it as JSON values, the prompt's own fields among the others."""
    told: Json = _RENDERED.dump_python(prompt, mode="json")
    inner = told.pop("prompt")
    assert isinstance(inner, dict)
    return {**told, **inner}


def encode(event: Event) -> Json:
    """Return an event as JSON values, a failure too."""
    if not isinstance(event, RunFailed):
        return wire.encode(event)
    error = event.error
    told = {
        "message": str(error),
        "type": error.type,
        "code": error.code,
        "param": error.param,
        "error_type": type(error).__name__,
    }
    return {"type": FAILED, "run_id": event.run_id, "at": event.at, "error": told}


def pack_events(events: Sequence[Event], content: Content) -> bytes:
    """Return events as they are stored, a list, with as much of their texts as may be kept."""
    if content == "full":
        with suppress(KeyError, ValueError):  # a failure, or a text that has no UTF-8
            return deflate(b"[" + b",".join(map(wire.dump, events)) + b"]")
    return pack([redact(encode(event), content) for event in events])


def decode(told: object) -> Event:
    """Return the event that ``encode`` made the object of.

    Raises:
        ValueError: it made no such object.
    """
    if not isinstance(told, dict):
        raise ValueError("an event is an object")  # noqa: TRY004  of the text that was read
    if told.get("type") != FAILED:
        return wire.decode(told)
    match told:
        case {"run_id": str(run_id), "at": float() | int() as at, "error": dict(error)}:
            return RunFailed(run_id=run_id, at=at, error=_error(error))
        case _:
            raise ValueError("a failure has a run, a time and an error")


def _error(told: Mapping[str, object]) -> FusionError:
    """Return an error of the class that failed, of our base class where it is none of ours."""
    kind = getattr(errors, str(told.get("error_type")), None)
    if not (isinstance(kind, type) and issubclass(kind, FusionError)):
        kind = FusionError
    param = told.get("param")
    return kind(
        str(told.get("message", "")),
        code=str(told.get("code", FusionError.code)),
        param=None if param is None else str(param),
    )


def _decode_prompt(told: object) -> RenderedPrompt:
    if not isinstance(told, Mapping):
        raise ValueError("a prompt is an object")  # noqa: TRY004  of the text that was read
    own = _only(RenderedPrompt, told)
    return _RENDERED.validate_python({**own, "prompt": _only(Prompt, told)})


def _only(kind: type[Summary | Head | RenderedPrompt | Prompt], told: Mapping[str, object]) -> Json:
    """Pick the fields that belong to a part."""
    return {field.name: told[field.name] for field in fields(kind) if field.name in told}


def pack(value: object) -> bytes:
    """Return JSON values as they are stored: a line, deflated."""
    return deflate(line(value))


def deflate(text: bytes) -> bytes:
    """Return text as it is stored."""
    return zlib.compress(text, LEVEL)


def line(value: object) -> bytes:
    """Return JSON values as one line of UTF-8.

    What has no UTF-8, half a surrogate pair, becomes a question mark.
    """
    try:
        return dump(value)
    except PydanticSerializationError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def unpack(body: bytes) -> object:
    """Return what ``pack`` has packed.

    Raises:
        ValueError: the bytes are not what they were.
    """
    try:
        return json.loads(zlib.decompress(body))
    except zlib.error as error:
        raise ValueError(f"stored bytes are damaged: {error}") from error
