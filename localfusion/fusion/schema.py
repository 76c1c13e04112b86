"""Whether a text has the form that ``response_format`` asks for. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import re2
from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from localfusion.types import Answer


def _pattern(_: object, pattern: str, instance: object, __: object) -> Iterator[ValidationError]:
    # Python's own expressions can take exponential time; RE2's never do.
    if isinstance(instance, str) and not re2.search(pattern, instance):
        yield ValidationError("does not match its pattern")


def _pattern_properties(
    validator: Any,  # noqa: ANN401  jsonschema's own validator, which has no public type
    patterns: Mapping[str, object],
    instance: Any,  # noqa: ANN401  JSON
    _: object,
) -> Iterator[ValidationError]:
    for pattern, schema in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if re2.search(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


_Validator = extend(  # type: ignore[no-untyped-call]  # so it is in its stubs
    Draft202012Validator, {"pattern": _pattern, "patternProperties": _pattern_properties}
)


def is_schema(schema: Mapping[str, object]) -> bool:
    """Say whether this is a JSON schema at all (draft 2020-12)."""
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError):
        return False
    return True


class Form:
    """The form of an answer: JSON of a schema, or any text.

    References reach inside the schema alone; nothing is fetched. What is no schema nothing obeys.

    Args:
        schema: Draft 2020-12; None: any text.
    """

    def __init__(self, schema: Mapping[str, object] | None = None) -> None:
        self._is_free = schema is None
        is_usable = schema is not None and is_schema(schema)
        self._validator = _Validator(schema, registry=Registry()) if is_usable else None

    def has(self, text: str) -> bool:
        """Say whether a text has the form."""
        if self._validator is None:
            return self._is_free
        try:
            self._validator.validate(json.loads(text))
        except (ValueError, RecursionError, ValidationError, Unresolvable, re2.error):
            return False
        return True

    def check(self, answer: Answer) -> Answer:
        """Return the answer, its status less than full where it is whole and has not the form."""
        is_text = answer.finish_reason == "stop" and not answer.tool_calls
        if not is_text or self.has(answer.text):
            return answer
        status = "degraded" if answer.status == "full" else answer.status
        return replace(answer, status=status, reason="schema_mismatch")


def obeys(text: str, schema: Mapping[str, object]) -> bool:
    """Say whether a text is JSON of the schema."""
    return Form(schema).has(text)
