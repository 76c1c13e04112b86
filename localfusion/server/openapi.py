"""The OpenAPI document: bodies that we parse ourselves, every status, an example each."""

from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

REF = "#/components/schemas/{model}"

_ERROR: dict[str, object] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What is wrong, and what to do."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "Path of the field."},
                "code": {"type": ["string", "null"]},
                "metadata": {"type": "object"},
            },
        }
    },
    "example": {
        "error": {
            "message": "temperature must be at least 0 and at most 2; send it within that limit",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "out_of_range",
            "metadata": {"remedy": "send it within that limit"},
        }
    },
}

_EVERYWHERE = {
    400: "The request is wrong; the message names the field and the remedy.",
    401: "No valid key.",
    403: "A scope, Host or Origin that is not allowed.",
    404: "There is nothing of that name.",
    405: "Another method.",
    414: "The address is too long.",
    429: "This key has as many requests as it may have; Retry-After says when to ask again.",
    431: "The headers are too large.",
    500: "A fault of the server's own.",
    503: "Full, starting or stopping: Retry-After says when; or nobody could answer.",
}
_WITH_BODY = {
    408: "The body stopped coming.",
    409: "The idempotency key belongs to another body.",
    413: "The body is too large.",
    415: "The body is no plain JSON.",
    502: "An engine failed.",
    504: "The deadline passed.",
}


def json_body(kind: type[BaseModel], example: dict[str, object]) -> dict[str, object]:
    """Return what a route that parses its own body passes as ``openapi_extra``."""
    schema = {"$ref": REF.format(model=kind.__name__)}
    content = {"application/json": {"schema": schema, "example": example}}
    extra: dict[str, object] = {"requestBody": {"required": True, "content": content}}
    if "stream" in kind.model_fields:
        events: dict[str, object] = {"text/event-stream": {}}
        extra["responses"] = {"200": {"content": events}}
    return extra


def describe(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> dict[str, object]:
    """Build the document once.

    Args:
        app: With all its routes.
        bodies: Of routes that parse their own.
    """
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=REF)
        components = document.setdefault("components", {}).setdefault("schemas", {})
        components.update(schemas.get("$defs", {}))
        components["Error"] = _ERROR
        for unused in ("HTTPValidationError", "ValidationError"):
            components.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                _add_errors(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_errors(operation: dict[str, dict[str, object]]) -> None:
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)  # FastAPI's own; never sent
    errors = _EVERYWHERE | (_WITH_BODY if "requestBody" in operation else {})
    content = {"application/json": {"schema": {"$ref": REF.format(model="Error")}}}
    for status, meaning in errors.items():
        responses.setdefault(str(status), {"description": meaning, "content": content})
