"""Server-sent events as bytes: data, comments, the end. Pure."""

import json
from collections.abc import Mapping

from pydantic_core import PydanticSerializationError, to_json

DONE = b"data: [DONE]\n\n"

# Legal inside JSON, but some clients split lines at them.
_LINE_BREAKS = {"\u0085": b"\\u0085", "\u2028": b"\\u2028", "\u2029": b"\\u2029"}


def data(value: Mapping[str, object]) -> bytes:
    """Frame one JSON object; a lone surrogate from a model becomes a question mark."""
    try:
        text = to_json(value)
    except PydanticSerializationError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    if not text.isascii():
        for sign, escape in _LINE_BREAKS.items():
            text = text.replace(sign.encode(), escape)
    return b"data: %b\n\n" % text


def event(fields: Mapping[str, object]) -> bytes:
    """Frame an object under the name of its own type, as responses and messages have it."""
    return f"event: {fields['type']}\n".encode() + data(fields)


def comment(text: str) -> bytes:
    """Frame a comment, which clients skip; it must be one line."""
    return f": {text}\n\n".encode()
