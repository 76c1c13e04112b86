"""Whether a text has the form that ``response_format`` asks for. Pure."""

import json
from collections.abc import Mapping
from dataclasses import replace

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from localfusion.types import Answer


def obeys(text: str, schema: Mapping[str, object] | None) -> bool:
    """Say whether a text is JSON of the schema; without one every text is right.

    References reach inside the schema alone; nothing is fetched.
    """
    if schema is None:
        return True
    try:
        value = json.loads(text)
        Draft202012Validator(schema, registry=Registry()).validate(value)
    except (ValueError, RecursionError, ValidationError, SchemaError, Unresolvable):
        return False
    return True


def checked(answer: Answer, schema: Mapping[str, object] | None) -> Answer:
    """Return the answer, its status less than full where it is whole and has not its form."""
    is_text = answer.finish_reason == "stop" and not answer.tool_calls
    if not is_text or obeys(answer.text, schema):
        return answer
    status = "degraded" if answer.status == "full" else answer.status
    return replace(answer, status=status, reason="schema_mismatch")
