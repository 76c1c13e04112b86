"""Server-sent events as bytes: data, comments, the end. Pure."""

import json
from collections.abc import Mapping

DONE = b"data: [DONE]\n\n"

# Legal inside JSON, but some clients split lines at them.
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def data(value: Mapping[str, object]) -> bytes:
    """Frame one JSON object; a lone surrogate from a model becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text.translate(_LINE_BREAKS)}\n\n".encode(errors="replace")


def event(fields: Mapping[str, object]) -> bytes:
    """Frame an object under the name of its own type, as responses and messages have it."""
    return f"event: {fields['type']}\n".encode() + data(fields)


def comment(text: str) -> bytes:
    """Frame a comment, which clients skip; it must be one line."""
    return f": {text}\n\n".encode()
