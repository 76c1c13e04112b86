"""The three forms in which a request says how it wants fusion, as one set of options. Pure.

Source: the parameters of the Fusion API (OpenRouter, August 2026); the fields below ``panel`` are
ours. A plugin, a tool's parameters and a ``fusion`` object are equal; two at once are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from localfusion.config import MAX_CANDIDATES, Perturbation
from localfusion.errors import RequestError
from localfusion.server.body import field_path
from localfusion.server.schemas import check_pattern
from localfusion.server.section import Section, read, unsupported, wrong
from localfusion.types import Effort

FUSION_TOOL = "openrouter:fusion"
FUSION_PLUGIN = "fusion"
DEPTH_HEADER = "x-openrouter-fusion-depth"

Name = Annotated[str, Field(min_length=1, max_length=128)]
Form = Literal["object", "plugin", "tool"]
Include = Literal["candidates", "text", "reasoning", "analysis", "timing"]

_WEB_TOOLS = ("openrouter:web_search", "openrouter:web_fetch")
_EFFORTS: Mapping[str, Effort] = {
    "max": "high",
    "xhigh": "high",
    "high": "high",
    "medium": "medium",
    "low": "low",
    "minimal": "minimal",
    "none": "none",
}

EffortName = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]


def to_effort(name: str | None) -> Effort | None:
    """Return the effort that engines know; they have none above ``high``."""
    return None if name is None else _EFFORTS[name]


class _Options(Section):
    model_config = ConfigDict(extra="forbid")


def _refuse_max_tokens(value: object) -> object:
    raise PydanticCustomError(
        "unsupported_parameter", "cannot be set apart from the text; send effort instead"
    )


class Reasoning(_Options):
    effort: EffortName | None = None
    """``max`` and ``xhigh`` are ``high`` here."""
    max_tokens: Annotated[object, AfterValidator(_refuse_max_tokens)] = None


class MemberOptions(_Options):
    model: Name
    """A model's name."""
    n: int = Field(default=1, ge=1, le=MAX_CANDIDATES)
    """Samples; each is a candidate."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1, le=131_072)
    reasoning: Reasoning | None = None
    perturb: Perturbation | None = None
    """As in models.yaml."""

    def fields(self) -> dict[str, object]:
        found = self.model_dump(exclude={"reasoning"}, exclude_none=True)
        effort = to_effort(self.reasoning.effort) if self.reasoning else None
        return found if effort is None else found | {"effort": effort}


def _check_tool(value: object) -> object:
    if isinstance(value, dict) and value.get("type") in _WEB_TOOLS:
        raise PydanticCustomError(
            "tool_unavailable", "needs a network, and this server has none; send tools: []"
        )
    raise PydanticCustomError("tool_unavailable", "is no tool of this server; send tools: []")


def _member(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class ExtractOptions(_Options):
    kind: Literal["number", "choice", "boolean", "json", "code", "text", "regex"]
    pattern: str | None = Field(default=None, max_length=256)
    """A regular expression of RE2, with kind ``regex``."""


class FusionOptions(_Options):
    """How a request wants its answer made; what it leaves out is as in the preset."""

    analysis_models: list[Name] | None = Field(default=None, min_length=1, max_length=8)
    """The panel, by name; a name that stands there twice is two candidates."""
    model: Name | None = None
    """The judge, which also writes the answer."""
    preset: Name | None = None
    """Whose settings hold otherwise: ``general-high``, or any preset of models.yaml."""
    max_tool_calls: int | None = Field(default=None, ge=1, le=16)
    """Steps with tools; members have none here."""
    tools: list[Annotated[object, BeforeValidator(_check_tool)]] | None = Field(
        default=None, max_length=8
    )
    """Only ``[]``: members know what they know."""
    enabled: bool = True
    """False: the judge answers alone, with status ``single`` and reason ``disabled``."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=131_072)
    """Longest candidate and longest analysis, reasoning included."""
    reasoning: Reasoning | None = None
    """Of members that name none of their own."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Of members that name none; the judge's stays 0."""
    cache_control: object = None
    """Accepted; every prompt is cached here."""

    panel: list[Annotated[MemberOptions, BeforeValidator(_member)]] | None = Field(
        default=None, min_length=1, max_length=8
    )
    """As ``analysis_models``, with sampling for each member."""
    deliberate: Literal["always", "auto"] = "always"
    """``auto`` would skip the panel by a fitted gate; refused while there is none."""
    policy: str | None = Field(default=None, max_length=40)
    """How the answer is made; ``auto``: by the kind of the question."""
    options: dict[str, str | int | float | bool] | None = Field(default=None, max_length=20)
    """Of the policy."""
    analysis: Literal["auto", "none", "inline", "separate"] = "auto"
    """How the judge compares the drafts; ``separate`` fills the five-part analysis. ``auto``: as
    the preset says, separate where the analysis is included."""
    extract: ExtractOptions | None = None
    """How the answers are found that votes compare."""
    quorum: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Usable candidates that start the grace clock."""
    grace_ms: Annotated[int, Field(ge=0, le=3_600_000)] | Literal["adaptive"] | None = None
    """Wait for stragglers after the quorum."""
    deadline_ms: int | None = Field(default=None, ge=100, le=3_600_000)
    """For the whole request."""
    partial: Literal["keep", "drop"] | None = None
    """Whether the judge reads the unfinished text of a straggler."""
    order: Literal["arrival", "fixed", "random"] | None = None
    """Of the drafts before the judge."""
    prefill: bool | None = None
    """Whether the judge reads along while the panel works."""
    agreement: bool | None = None
    """Ask the judge for its choice in both orders."""
    include: list[Include] | None = Field(default=None, max_length=5)
    """What the reply tells in its ``fusion`` object; absent: there is none."""
    stream_panel: bool | None = None
    """Send every event of the run as a chunk ``{"choices": [], "fusion_event": {...}}``."""
    progress: Literal["none", "reasoning"] = "none"
    """``reasoning``: tell the phases in the reasoning channel, for clients that show no others."""

    @property
    def changes(self) -> dict[str, object]:
        """What the request has otherwise than its preset, by the preset's own field names."""
        found: dict[str, object] = {
            "judge": self.model,
            "panel": self._panel(),
            "policy": self.policy,
            "extract": self.extract and self.extract.model_dump(),
            "quorum": self.quorum,
            "partial": self.partial,
            "order": self.order,
            "prefill": self.prefill,
            "agreement": self.agreement,
            "panel_max_tokens": self.max_completion_tokens,
            "member_temperature": self.temperature,
            "member_effort": to_effort(self.reasoning.effort) if self.reasoning else None,
            "options": self.options,
            "analysis": self._analysis(),
        }
        if self.max_completion_tokens is not None:
            found["analysis_max_tokens"] = max(64, self.max_completion_tokens)
        if self.deadline_ms is not None:
            found["deadline"] = self.deadline_ms / 1000
        if isinstance(self.grace_ms, int):
            found["grace"] = self.grace_ms / 1000
        elif self.grace_ms is not None:
            found["grace"] = self.grace_ms
        return {name: value for name, value in found.items() if value is not None}

    def _panel(self) -> list[dict[str, object]] | None:
        if self.panel is not None:
            return [member.fields() for member in self.panel]
        if self.analysis_models is not None:
            return [{"model": name} for name in self.analysis_models]
        return None

    def _analysis(self) -> str | None:
        if self.analysis != "auto":
            return self.analysis
        return "separate" if self.include is not None and "analysis" in self.include else None


@dataclass(frozen=True, slots=True)
class Forms:
    """What a body said of fusion.

    Attributes:
        options: As the fusion object has them.
        form: By which it came; None: by none.
        is_called: The tool choice names or requires fusion.
        place: Of the fusion tool among the client's tools, None where there is none.
    """

    options: FusionOptions = field(default_factory=FusionOptions)
    form: Form | None = None
    is_called: bool = False
    is_forbidden: bool = False
    place: int | None = None

    @contextmanager
    def in_its_places(self) -> Iterator[None]:
        """Have errors of the block, which sees the tools without fusion's, count that one too."""
        try:
            yield
        except RequestError as error:
            if self.place is None:
                raise
            param = error.param and self._counted(error.param)
            raise type(error)(self._counted(str(error)), code=error.code, param=param) from None

    def _counted(self, text: str) -> str:
        assert self.place is not None
        first = self.place

        def count(match: re.Match[str]) -> str:
            at = int(match[1])
            return f"tools[{at + (at >= first)}]"

        return _TOOL_PLACE.sub(count, text)


def take_forms(document: Mapping[str, object]) -> tuple[Forms, dict[str, object]]:
    """Take the fusion forms out of a body; return them, and the body without them.

    Raises:
        RequestError: two forms at once, an unknown plugin, or an option that is wrong.
    """
    rest = dict(document)
    found: list[_Found] = []
    if rest.pop("fusion", None) is not None:
        found.append(_Found("object", ("fusion",), document["fusion"]))
    found += _plugins(rest)
    tools, taken = _split_tools(rest)
    found += taken
    if len(found) > 1:
        first, second = (field_path(one.path) for one in found[:2])
        raise wrong(second, f"and {first} both say how to fuse; send one of them")
    if not found:
        return Forms(), rest
    form, path, value = found[0]
    options = read(FusionOptions, value, path)
    _check_options(options, path)
    choice = rest.get("tool_choice")
    is_named = isinstance(choice, dict) and choice.get("type") == FUSION_TOOL
    if form == "tool":
        is_sole = choice == "required" and not tools
        if is_named or is_sole or (choice == "none" and not tools):
            del rest["tool_choice"]
        is_called, is_forbidden = is_named or is_sole, choice == "none"
        return Forms(options, form, is_called, is_forbidden, place=int(path[1])), rest
    return Forms(options, form), rest


def read_depth(values: Sequence[str]) -> int:
    """Return how deep in other fusions a request is, from its headers.

    Raises:
        RequestError: the header is no small number.
    """
    if not values:
        return 0
    if (
        len(values) > 1
        or not values[0].isascii()
        or not values[0].isdecimal()
        or len(values[0]) > 3
    ):
        raise RequestError(
            f"the header {DEPTH_HEADER} must be one number from 0 to 999; leave it out",
            code="invalid_type",
            param=DEPTH_HEADER,
        )
    return int(values[0])


_TOOL_PLACE = re.compile(r"(?<![\w.])tools\[(\d+)\]")


class _Found(NamedTuple):
    form: Form
    path: tuple[str | int, ...]
    options: object


def _plugins(rest: dict[str, object]) -> list[_Found]:
    plugins = rest.pop("plugins", None)
    if plugins is None:
        return []
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        raise wrong("plugins", "must be a list of objects; send [{id: fusion}]", "invalid_type")
    found: list[_Found] = []
    for place, plugin in enumerate(plugins):
        if plugin.get("id") != FUSION_PLUGIN:
            raise unsupported(f"plugins[{place}].id", "is no plugin of this server; send fusion")
        options = {key: value for key, value in plugin.items() if key != "id"}
        found.append(_Found("plugin", ("plugins", place), options))
    return found


def _split_tools(rest: dict[str, object]) -> tuple[list[object], list[_Found]]:
    """Return the client's own tools, and the fusion tools; ``rest`` keeps the former."""
    tools = rest.get("tools")
    if not isinstance(tools, list):
        return [], []
    own: list[object] = []
    found: list[_Found] = []
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != FUSION_TOOL:
            own.append(tool)
            continue
        if tool.keys() - {"type", "parameters"}:
            what = "has more than type and parameters; put options into parameters"
            raise wrong(f"tools[{place}]", what, "unknown_option")
        options = {} if tool.get("parameters") is None else tool["parameters"]
        found.append(_Found("tool", ("tools", place, "parameters"), options))
    if found:
        rest["tools"] = own
    return own, found


def _check_options(options: FusionOptions, path: tuple[str | int, ...]) -> None:
    where = field_path(path)
    if options.panel is not None and options.analysis_models is not None:
        what = f"and {where}.analysis_models both name the panel; send one of them"
        raise wrong(f"{where}.panel", what)
    if options.deliberate == "auto":
        raise RequestError(
            f"{where}.deliberate: no gate has been fitted on this machine; leave it out",
            code="out_of_range",
            param=f"{where}.deliberate",
        )
    if options.extract is not None and options.extract.pattern is not None:
        check_pattern(options.extract.pattern, f"{where}.extract.pattern")
