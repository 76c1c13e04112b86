"""Functions of the client, and the form that it wants the answer in. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from localfusion.functions import Function, Tools
from localfusion.server.schemas import check_schema
from localfusion.server.section import Section, missing, wrong

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


def to_schema(form: ResponseFormat | None) -> Mapping[str, object] | None:
    """Return the JSON schema that the answer must obey, None for any text.

    Raises:
        RequestError: there is none where one belongs, or a decoder could not hold to it.
    """
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.json_schema is None:
        raise missing("response_format.json_schema", "add it, with name and schema")
    schema = form.json_schema.schema_
    if schema is None:
        return ANY_OBJECT
    check_schema(schema, "response_format.json_schema.schema")
    return schema


def to_tools(
    bodies: Sequence[ToolBody], choice: Choice | NamedTool | None, parallel: bool | None
) -> Tools | None:
    """Return the functions that may be called, None where none may.

    Raises:
        RequestError: two of one name, a choice of none of them, or a schema without bounds.
    """
    functions = functions_of([body.function for body in bodies], "tools[{}].function")
    only = choice.function.name if isinstance(choice, NamedTool) else None
    if only is not None:
        check_known(only, functions, "tool_choice.function.name")
    return offered(functions, choice if isinstance(choice, str) else None, only, parallel)


class Described(Protocol):
    """A function, in whatever words an API has for it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def parameters(self) -> dict[str, object] | None: ...
    @property
    def strict(self) -> bool | None: ...


def functions_of(
    bodies: Sequence[Described], where: str, schema: str = "parameters"
) -> dict[str, Function]:
    """Return the functions by name.

    Args:
        bodies: As the client describes them.
        where: The path of each, with {} for its place.
        schema: The API's name for the parameters.

    Raises:
        RequestError: two of one name, or a schema without bounds.
    """
    functions: dict[str, Function] = {}
    for place, body in enumerate(bodies):
        path = where.format(place)
        if body.name in functions:
            raise wrong(f"{path}.name", "stands there twice; rename one")
        if body.parameters is not None:
            check_schema(body.parameters, f"{path}.{schema}")
        functions[body.name] = Function(
            body.name, body.description or "", body.parameters, body.strict
        )
    return functions


def check_known(name: str, functions: Mapping[str, Function], path: str) -> None:
    """Refuse a choice that is none of the functions."""
    if name not in functions:
        raise wrong(path, "is none of the tools; name one of them")


def offered(
    functions: Mapping[str, Function],
    choice: Choice | None,
    only: str | None,
    parallel: bool | None,
) -> Tools | None:
    """Return the functions that may, or must, be called; None where none may.

    Raises:
        RequestError: a call is required of no functions.
    """
    is_forced = only is not None or choice == "required"
    if is_forced and not functions:
        raise wrong("tool_choice", "requires a call, and there are no tools; send tools")
    if not functions or choice == "none":
        return None
    return Tools(tuple(functions.values()), "required" if is_forced else "auto", only, parallel)
