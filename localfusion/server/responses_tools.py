"""Functions and text formats as the Responses API writes them: flatter than in chat. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from localfusion.functions import Tools
from localfusion.server.schemas import check_schema
from localfusion.server.section import Section, missing
from localfusion.server.tools import (
    ANY_OBJECT,
    Choice,
    FunctionBody,
    FunctionName,
    check_known,
    functions_of,
    offered,
)


class TextFormat(Section):
    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = Field(default=None, max_length=16_384)
    schema_: dict[str, object] | None = Field(default=None, alias="schema")
    """With type ``json_schema``: what the answer must obey, ``strict`` or not."""
    strict: bool | None = None


def _check_tool(value: object) -> object:
    if isinstance(value, dict) and value.get("type", "function") != "function":
        raise PydanticCustomError(
            "unsupported_parameter", "is no function; send tools of type function only"
        )
    return value


class FunctionTool(FunctionBody):
    type: Literal["function"]


class ChosenFunction(Section):
    type: Literal["function"]
    name: FunctionName


class AllowedTools(Section):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[ChosenFunction] = Field(min_length=1, max_length=128)


def _choice_kind(value: object) -> str | None:
    match value:
        case str():
            return "<word>"
        case {"type": "function"}:
            return "<function>"
        case {"type": "allowed_tools"}:
            return "<allowed>"
    return None


Tool = Annotated[FunctionTool, BeforeValidator(_check_tool)]
ToolChoice = Annotated[
    Annotated[Choice, Tag("<word>")]
    | Annotated[ChosenFunction, Tag("<function>")]
    | Annotated[AllowedTools, Tag("<allowed>")],
    Discriminator(
        _choice_kind,
        custom_error_type="unsupported_parameter",
        custom_error_message="must be none, auto or required, or name functions; send one of these",
    ),
]


def to_schema(form: TextFormat | None) -> Mapping[str, object] | None:
    """Return the JSON schema that the answer must obey, None for any text.

    Raises:
        RequestError: there is none where one belongs, or a decoder could not hold to it.
    """
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.name is None:
        raise missing("text.format.name")
    if form.schema_ is None:
        raise missing("text.format.schema")
    check_schema(form.schema_, "text.format.schema")
    return form.schema_


def to_tools(
    tools: Sequence[FunctionTool],
    choice: Choice | ChosenFunction | AllowedTools | None,
    parallel: bool | None,
) -> Tools | None:
    """Return the functions that may be called, None where none may.

    Raises:
        RequestError: two of one name, a choice of none of them, or a schema without bounds.
    """
    functions = functions_of(tools, "tools[{}]")
    match choice:
        case ChosenFunction(name=name):
            check_known(name, functions, "tool_choice.name")
            return offered(functions, None, name, parallel)
        case AllowedTools(mode=mode, tools=allowed):
            for place, one in enumerate(allowed):
                check_known(one.name, functions, f"tool_choice.tools[{place}].name")
            names = {one.name for one in allowed}
            functions = {name: f for name, f in functions.items() if name in names}
            return offered(functions, mode, None, parallel)
    return offered(functions, choice, None, parallel)
