"""From the bytes of a request body to plain JSON values that are safe to handle. Pure.

Python's JSON lets through what later breaks SQLite, logs and engines: repeated keys, lone
surrogates, U+0000, numbers without end. Values are never echoed.
"""

import json
import math
import re
from collections.abc import Iterator

from pydantic_core import from_json

from localfusion.errors import RequestError

MAX_DEPTH = 64
MAX_VALUES = 200_000
MAX_DIGITS = 20

_SAFE_KEY = re.compile(r"[A-Za-z0-9_]{1,40}")
_BAD_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# The parser's own words for faults whose place the walk below finds better.
_FOUND_BY_WALK = ("number out of range", "hex escape", "surrogate")

_Path = tuple["_Path", str | int] | tuple[()]


class _Repeated:
    """Stands for an object in which ``key`` occurs more than once."""

    def __init__(self, key: str) -> None:
        self.key = key


def parse_body(raw: bytes) -> dict[str, object]:
    """Parse a JSON object strictly.

    Raises:
        RequestError: its code says what is wrong; ``param`` is the field's path.
    """
    syntax_fault = _syntax_fault(raw)
    if syntax_fault is not None and not any(word in syntax_fault for word in _FOUND_BY_WALK):
        raise _not_json(raw, syntax_fault)
    try:
        document = json.loads(
            raw.decode(),
            object_pairs_hook=_to_object,
            parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else 1 << 64,
        )
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise _not_json(raw, syntax_fault or "no JSON") from error
    _check(document)
    if syntax_fault is not None:
        raise _not_json(raw, syntax_fault)
    if not isinstance(document, dict):
        raise RequestError(
            "the body must be a JSON object; send {...} with model and messages",
            code="invalid_type",
        )
    return document


def field_path(parts: Iterator[str | int] | tuple[str | int, ...]) -> str:
    """Write a path as clients know it: ``messages[3].content[0].text``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _SAFE_KEY.fullmatch(part) else "?"
            text += f".{name}" if text else name
    return text


def _syntax_fault(raw: bytes) -> str | None:
    try:
        from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return str(error)
    return None


def _not_json(raw: bytes, fault: str) -> RequestError:
    if fault.startswith("recursion limit"):
        return _too_deep()
    if raw.startswith(_BYTE_ORDER_MARKS) or fault.startswith("invalid unicode"):
        remedy = "send UTF-8 without BOM"
    else:
        remedy = "send one JSON object in UTF-8 without BOM"
    return RequestError(f"the body is not valid JSON: {fault}; {remedy}", code="invalid_json")


def _too_deep() -> RequestError:
    return RequestError(
        f"the body is nested too deeply; use at most {MAX_DEPTH} levels", code="invalid_json"
    )


def _to_object(pairs: list[tuple[str, object]]) -> object:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return _Repeated(key)


def _check(document: object) -> None:
    # A stack of its own: a path is built only for the value that is refused.
    stack: list[tuple[object, _Path, int]] = [(document, (), 1)]
    count = 0
    while stack:
        value, path, depth = stack.pop()
        count += 1
        if count > MAX_VALUES:
            raise RequestError(
                f"the body has too many values; send at most {MAX_VALUES}", code="too_many_values"
            )
        if isinstance(value, dict | list | _Repeated) and depth > MAX_DEPTH:
            raise _too_deep()
        match value:
            case dict():
                for key, inner in value.items():
                    _check_text(key, path, "a key of ")
                    stack.append((inner, (path, key), depth + 1))
            case list():
                stack.extend((inner, (path, i), depth + 1) for i, inner in enumerate(value))
            case _:
                _check_scalar(value, path)


def _check_scalar(value: object, path: _Path) -> None:
    match value:
        case str():
            _check_text(value, path, "")
        case _Repeated(key=key):
            name = _name((path, key))
            raise RequestError(
                f"{name} stands there twice; remove one", code="duplicate_key", param=name
            )
        case int() if not -(2**63) <= value < 2**63:
            raise _out_of_range(path, "an integer of more than 64 bits; send a smaller one")
        case float() if not math.isfinite(value):
            raise _out_of_range(path, "no finite number; send a smaller one")


def _check_text(text: str, path: _Path, what: str) -> None:
    if found := _BAD_CHARACTER.search(text):
        kind = "U+0000" if found[0] == "\0" else "a lone surrogate"
        name = _name(path)
        raise RequestError(
            f"{what}{name or 'the body'}: {kind} at character {found.start()} is not allowed; "
            "remove it",
            code="invalid_unicode",
            param=name or None,
        )


def _out_of_range(path: _Path, what: str) -> RequestError:
    name = _name(path)
    return RequestError(f"{name or 'the body'} is {what}", code="out_of_range", param=name or None)


def _name(path: _Path) -> str:
    parts: list[str | int] = []
    while path:
        path, part = path
        parts.append(part)
    return field_path(tuple(reversed(parts)))
