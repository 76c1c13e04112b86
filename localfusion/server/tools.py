"""Functions of the client, and the form that it wants the answer in. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from localfusion.errors import RequestError
from localfusion.server.schemas import check_schema
from localfusion.server.section import Section
from localfusion.types import Function, Tools

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

ANY_OBJECT: Mapping[str, object] = {"type": "object"}
"""What ``json_object`` asks for."""


class FunctionBody(Section):
    name: FunctionName
    description: str | None = Field(default=None, max_length=16_384)
    parameters: dict[str, object] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None


class ToolBody(Section):
    type: Literal["function"]
    function: FunctionBody


class NamedFunction(Section):
    name: FunctionName


class NamedTool(Section):
    type: Literal["function"]
    function: NamedFunction


Choice = Literal["none", "auto", "required"]


class JsonSchema(Section):
    name: FunctionName
    description: str | None = Field(default=None, max_length=16_384)
    schema_: dict[str, object] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Section):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    """With type ``json_schema``: what the answer must obey, ``strict`` or not."""


def to_schema(
    form: ResponseFormat | None, where: str = "response_format"
) -> Mapping[str, object] | None:
    """Return the JSON schema that the answer must obey, None for any text.

    Raises:
        RequestError: there is none where one belongs, or a decoder could not hold to it.
    """
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.json_schema is None:
        path = f"{where}.json_schema"
        raise RequestError(
            f"{path} is missing; add it, with name and schema", code="missing_parameter", param=path
        )
    schema = form.json_schema.schema_
    if schema is None:
        return ANY_OBJECT
    check_schema(schema, f"{where}.json_schema.schema")
    return schema


def to_tools(
    bodies: Sequence[ToolBody], choice: Choice | NamedTool | None, parallel: bool | None
) -> Tools | None:
    """Return the functions that may be called, None where none may.

    Raises:
        RequestError: two of one name, a choice of none of them, or a schema without bounds.
    """
    names: set[str] = set()
    for place, body in enumerate(bodies):
        path = f"tools[{place}].function"
        if body.function.name in names:
            raise RequestError(
                f"{path}.name stands there twice; rename one",
                code="out_of_range",
                param=f"{path}.name",
            )
        names.add(body.function.name)
        if body.function.parameters is not None:
            check_schema(body.function.parameters, f"{path}.parameters")
    only = choice.function.name if isinstance(choice, NamedTool) else None
    if only is not None and only not in names:
        path = "tool_choice.function.name"
        raise RequestError(
            f"{path} is none of the tools; name one of them", code="out_of_range", param=path
        )
    if choice == "required" and not bodies:
        raise RequestError(
            "tool_choice requires a call, and there are no tools; send tools",
            code="out_of_range",
            param="tool_choice",
        )
    if not bodies or choice == "none":
        return None
    functions = tuple(
        Function(f.name, f.description or "", f.parameters, f.strict)
        for f in (body.function for body in bodies)
    )
    is_forced = only is not None or choice == "required"
    return Tools(functions, "required" if is_forced else "auto", only, parallel)
