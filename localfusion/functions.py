"""The client's functions, whether the model must call one, and its calls of them. Data alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the client's; never run here.

    Attributes:
        parameters: JSON schema of its arguments; None: it takes none.
        strict: The arguments must obey the schema.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """The client's functions, and whether the model must call one.

    Attributes:
        choice: ``required``: it must; with ``only``, that one.
        parallel: Whether it may call several at once; None: the engine's default.
    """

    functions: tuple[Function, ...]
    choice: Literal["auto", "required"] = "auto"
    only: str | None = None
    parallel: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish that the client call one of its functions; ``arguments`` are JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call; the first one of its ``index`` has id and name."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
