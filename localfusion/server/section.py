"""The base of every request body, and its faults in words. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from localfusion.errors import RequestError
from localfusion.server.body import field_path

MAX_UNKNOWN = 100
MAX_NAMED = 10

_SAFE_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_OWN_CODES = frozenset(
    {
        "duplicate_key",
        "invalid_type",
        "missing_parameter",
        "out_of_range",
        "too_many_values",
        "tool_unavailable",
        "unsupported_image",
        "unsupported_parameter",
    }
)
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Section(BaseModel):
    """A part of a request: nothing is coerced, nothing unknown is an error."""

    model_config = ConfigDict(strict=True, frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


def read(kind: type[S], document: object, prefix: Sequence[str | int] = ()) -> S:
    """Check one part of a body.

    Args:
        kind: What it is to be.
        document: The part.
        prefix: Where it stands in the body.

    Raises:
        RequestError: names the first field that is wrong, what it may be, and what to do.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise _explain(kind, details[0], tuple(prefix)) from None


def ignored_names(document: Mapping[str, object], known: Iterable[str]) -> tuple[str, ...]:
    """Return the fields of a body that nobody documents, for ``x-localfusion-ignored``.

    Raises:
        RequestError: there are too many.
    """
    unknown = document.keys() - set(known)
    if len(unknown) > MAX_UNKNOWN:
        raise RequestError(
            f"the body has more than {MAX_UNKNOWN} unknown fields; remove them",
            code="too_many_values",
        )
    named = [name for name in document if name in unknown and _SAFE_NAME.fullmatch(name)]
    return tuple(named[:MAX_NAMED])


def refuse(
    document: Mapping[str, object], refused: Mapping[str, tuple[tuple[object, ...], str]]
) -> None:
    """Refuse documented fields that are not built, except where they ask for nothing.

    Args:
        document: The body.
        refused: By name: values that change nothing, and what to do otherwise.

    Raises:
        RequestError: names the field.
    """
    for name, (neutral, remedy) in refused.items():
        value = document.get(name)
        if value is None or any(type(value) is type(same) and value == same for same in neutral):
            continue
        raise unsupported(name, f"is not supported; {remedy}")


def wrong(path: str, what: str, code: str = "out_of_range") -> RequestError:
    """Return the refusal of the field at ``path``; ``what`` ends with the remedy."""
    return RequestError(f"{path} {what}", code=code, param=path)


def missing(path: str, remedy: str = "add it") -> RequestError:
    return wrong(path, f"is missing; {remedy}", "missing_parameter")


def unsupported(path: str, what: str) -> RequestError:
    return wrong(path, what, "unsupported_parameter")


def _explain(
    kind: type[Section], item: ErrorDetails, prefix: tuple[str | int, ...]
) -> RequestError:
    # The tags of alternatives, which pydantic puts into the place, are written <like this>.
    inner = tuple(p for p in item["loc"] if not (isinstance(p, str) and p.startswith("<")))
    path, fault = field_path((*prefix, *inner)), item["type"]
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should", "must").replace("should", "must")
    message = message[:1].lower() + message[1:]
    if fault in _OWN_CODES:
        return wrong(path, message, fault)
    if fault == "missing":
        return missing(path)
    if fault == "extra_forbidden":
        known = ", ".join(_fields_at(kind, inner[:-1]))
        return wrong(path, f"is not an option here; known: {known}", "unknown_option")
    if fault.endswith("_type") or fault == "int_from_float":
        return wrong(path, f"{message}; send it as that type", "invalid_type")
    limits = _range(_field_at(kind, inner)) or message
    return wrong(path, f"{limits}; send it within that limit")


def _field_at(kind: type[BaseModel], path: Sequence[str | int]) -> FieldInfo | None:
    """Find a field by its path; None where the path leaves the sections."""
    found: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        if found is not None:
            inner = _section_in(found.annotation)
            if inner is None:
                return None
            kind = inner
        found = kind.model_fields.get(part)
        if found is None:
            return None
    return found


def _fields_at(kind: type[BaseModel], path: Sequence[str | int]) -> Iterable[str]:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return kind.model_fields
    field = _field_at(kind, path)
    inner = _section_in(field.annotation) if field is not None else None
    return inner.model_fields if inner is not None else ()


def _section_in(annotation: object) -> type[BaseModel] | None:
    """Return the section that an annotation holds, however it is wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _range(field: FieldInfo | None) -> str | None:
    """Name both ends of a number's range; pydantic names only the one that was passed."""
    bounds = [
        f"{word} {getattr(limit, name)}"
        for limit in (field.metadata if field is not None else ())
        for name, word in _BOUNDS.items()
        if hasattr(limit, name)
    ]
    return "must be " + " and ".join(bounds) if bounds else None
