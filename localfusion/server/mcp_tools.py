"""The tools that MCP clients see, ``fuse`` and ``list_presets``, over a gateway."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated

from mcp.server import Server, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as HttpRequest

from localfusion import __version__
from localfusion.config import nearest
from localfusion.errors import FusionError, RequestError
from localfusion.events import Event, RunCompleted, RunStarted
from localfusion.fusion import POLICIES
from localfusion.judging import Analysis
from localfusion.server.access import owner_of
from localfusion.server.admission import Runs
from localfusion.server.body import parse_body
from localfusion.server.envelope import report_bug
from localfusion.server.forms import FusionOptions, Name
from localfusion.server.gateway import Gateway
from localfusion.server.relay import relay
from localfusion.server.section import Section, read
from localfusion.server.view import RunView, status_block, usage
from localfusion.types import Answer, Message, Origin, Request, Status

INSTRUCTIONS = (
    "Ask several local models at once with fuse: a judge reads their answers and writes one. "
    "It takes seconds to minutes, so use it for questions that deserve more than one opinion."
)

_Context = ServerRequestContext[dict[str, object], HttpRequest]
_Policy = Annotated[str, Field(max_length=40, json_schema_extra={"enum": list(POLICIES)})]


class _Arguments(Section):
    model_config = ConfigDict(extra="forbid")


class FuseArguments(_Arguments):
    prompt: str = Field(min_length=1)
    """The question, with all that is needed to answer it: the models see nothing else."""
    preset: Name | None = None
    """Who answers: a name from list_presets. Left out: the default preset."""
    system: str | None = None
    """System message for every model."""
    panel: list[Name] | None = Field(default=None, min_length=1, max_length=8)
    """Models that answer, in place of the preset's; one that stands there twice answers twice."""
    judge: Name | None = None
    """Model that compares the answers and writes the final one, in place of the preset's."""
    policy: _Policy | None = None
    """How the answer is made. Left out: as the preset says."""
    analysis: bool = False
    """Also return the judge's comparison of the answers: consensus, contradictions, partial
    coverage, unique insights, blind spots."""
    deadline_ms: int | None = Field(default=None, ge=100, le=3_600_000)
    """Longest time for the whole answer. Left out: as the preset says."""


class ListPresetsArguments(_Arguments):
    pass


class _Result(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Lost(_Result):
    index: int
    model: str
    failure_reason: str
    detail: str | None


class FuseResult(_Result):
    # Some clients show their model the structured content alone, so the answer stands here too.
    answer: str
    status: Status
    """full: all members answered; degraded: some were lost; single: one is left; panel_only: the
    judge was lost."""
    reason: str | None
    """Why status is not full."""
    lost: list[Lost]
    """Members that did not answer."""
    model: str
    """The model that wrote the answer."""
    trace_id: str | None
    """Of the run's trace, null where none is kept."""
    analysis: Analysis | None = None
    usage: dict[str, object]
    """Tokens of all calls, by stage."""


class PresetEntry(_Result):
    name: str
    description: str
    policy: str
    members: list[str]
    judge: str | None
    is_default: bool


class ListPresetsResult(_Result):
    presets: list[PresetEntry]


def create_mcp_server(
    gateway: Gateway,
    runs: Runs,
    *,
    preset: str | None = None,
    started: asyncio.Event | None = None,
) -> "Server[dict[str, object]]":
    """Build the MCP server.

    Args:
        gateway: What answers.
        runs: Counts and aborts the runs.
        preset: Answers calls that name none; None: the gateway's default.
        started: Set once the engines can be asked; calls wait for it. None: they can.
    """
    tools = _Tools(gateway, runs, preset, started)
    return Server(
        "localfusion",
        version=__version__,
        title="localfusion",
        instructions=INSTRUCTIONS,
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
    )


class _Tools:
    def __init__(
        self, gateway: Gateway, runs: Runs, preset: str | None, started: asyncio.Event | None
    ) -> None:
        self._gateway = gateway
        self._runs = runs
        self._preset = preset
        self._started = started

    async def list_tools(
        self, context: _Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=list(TOOLS.values()))

    async def call_tool(self, context: _Context, params: CallToolRequestParams) -> CallToolResult:
        """Run a tool; whatever it is refused for or fails at is told to the model that called.

        Raises:
            MCPError: there is no such tool.
        """
        ways: Mapping[str, _Way] = {"fuse": self._fuse, "list_presets": self._list_presets}
        if params.name not in ways:
            raise MCPError(INVALID_PARAMS, f"there is no such tool; use {' or '.join(ways)}")
        try:
            return await ways[params.name](context, _checked(params.arguments or {}))
        except FusionError as error:
            return _failure(error)
        except Exception as error:  # noqa: BLE001  a bug ends its own call, with a typed end
            return _failure(report_bug(error, f"req_{uuid.uuid4().hex}"))

    async def _fuse(self, context: _Context, arguments: Mapping[str, object]) -> CallToolResult:
        wanted = read(FuseArguments, arguments)
        owner = "" if context.request is None else owner_of(context.request.scope)
        request = replace(self._request(wanted), origin=Origin(key=owner))
        progress = _Progress(context.session, self._gateway.settings.server.keepalive)
        async with self._runs.admit(owner, is_draining=self._gateway.draining):
            if self._started is not None:
                await progress.wait_for(self._started)
            fusion = self._gateway.fusion
            await relay(fusion, (request,), progress, aborted=self._runs.aborted)
        assert progress.answer is not None  # relay returns at RunCompleted
        answer = await self._gateway.traces.named(progress.answer)
        return _result(answer, wants_analysis=wanted.analysis)

    def _request(self, wanted: FuseArguments) -> Request:
        fusion = self._gateway.fusion
        preset = wanted.preset or self._preset or fusion.default_preset
        if preset not in fusion.presets:
            raise RequestError(
                f"preset names no preset of this server; {nearest(preset, fusion.presets)}",
                code="out_of_range",
                param="preset",
            )
        if wanted.policy is not None and wanted.policy not in POLICIES:
            raise RequestError(
                f"policy names no policy; {nearest(wanted.policy, POLICIES)}",
                code="out_of_range",
                param="policy",
            )
        if not wanted.prompt.strip():
            raise RequestError("prompt is empty; write a question", param="prompt")
        messages: tuple[Message, ...] = (Message("user", wanted.prompt),)
        if wanted.system:
            messages = (Message("system", wanted.system), *messages)
        options = FusionOptions(
            analysis_models=wanted.panel
            and [fusion.model(n, param=f"panel[{i}]") for i, n in enumerate(wanted.panel)],
            model=wanted.judge and fusion.model(wanted.judge, param="judge"),
            policy=wanted.policy,
            deadline_ms=wanted.deadline_ms,
            analysis="separate" if wanted.analysis else "auto",
        )
        return Request(preset, messages, changes=options.changes, watches="nothing")

    async def _list_presets(
        self, context: _Context, arguments: Mapping[str, object]
    ) -> CallToolResult:
        read(ListPresetsArguments, arguments)
        fusion = self._gateway.fusion
        default = self._preset or fusion.default_preset
        entries = [
            PresetEntry(
                name=name,
                description=preset.description,
                policy=preset.policy,
                members=[member.model for member in preset.panel for _ in range(member.n)],
                judge=preset.judge,
                is_default=name == default,
            )
            for name, preset in fusion.presets.items()
        ]
        found = ListPresetsResult(presets=entries).model_dump()
        text = json.dumps(found, ensure_ascii=False)
        return CallToolResult(content=[TextContent(text=text)], structured_content=found)


_Way = Callable[[_Context, Mapping[str, object]], Awaitable[CallToolResult]]


class _Progress:
    """Tells a client how far its run is, if it asked for that; takes the run's events.

    Every number is larger than the one before, as the protocol wants; one for each change of what
    goes on, and in silence fractions that never reach the next.
    """

    def __init__(self, session: ServerSession, keepalive: float) -> None:
        self.answer: Answer | None = None
        self._session = session
        self._keepalive = keepalive
        self._clock = asyncio.get_running_loop().time
        self._told = self._clock()
        self._view = RunView()
        self._step = 0
        self._value = 0.0
        self._total: int | None = None

    @property
    def silent_until(self) -> float:
        return self._told + self._keepalive

    async def take(self, event: Event) -> None:
        before = self._view.progress
        self._view.see(event)
        match event:
            case RunStarted():
                # Each member, its start, analysis, synthesis and the end.
                self._total = 2 if event.judge is None else len(event.members) + 4
            case RunCompleted():
                self.answer = event.answer
        if self._view.progress != before:
            self._step += 1
            self._value = float(self._step)
            await self._tell()

    async def keep_alive(self) -> None:
        self._value += (self._step + 1 - self._value) / 10
        await self._tell()

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event before the run, and keep the client waiting too."""
        while not event.is_set():
            try:
                async with asyncio.timeout_at(self.silent_until):
                    await event.wait()
            except TimeoutError:
                await self.keep_alive()

    async def _tell(self) -> None:
        self._told = self._clock()
        total = None if self._total is None else max(self._total, self._step + 1)
        message = self._view.progress.removeprefix("localfusion ")
        await self._session.report_progress(self._value, total, message)


def _checked(arguments: Mapping[str, object]) -> Mapping[str, object]:
    """Hold arguments to the rules of a body: what came by stdio has met none of them yet."""
    return parse_body(json.dumps(arguments).encode())


def _result(answer: Answer, *, wants_analysis: bool) -> CallToolResult:
    found = {
        "answer": answer.text,
        **status_block(answer.trace_id, answer.status, answer.reason, answer.lost),
        "model": answer.model,
        "usage": usage(answer),
    }
    if wants_analysis:
        found["analysis"] = None if answer.analysis is None else answer.analysis.model_dump()
    return CallToolResult(content=[TextContent(text=answer.text)], structured_content=found)


def _failure(error: FusionError) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=str(error))], is_error=True)


def _tool(name: str, description: str, arguments: type[_Arguments], result: type[_Result]) -> Tool:
    return Tool(
        name=name,
        description=description,
        input_schema=arguments.model_json_schema(),
        output_schema=result.model_json_schema(),
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


TOOLS: Mapping[str, Tool] = {
    "fuse": _tool(
        "fuse",
        "Ask a panel of local models; a judge compares their answers and writes the final one.",
        FuseArguments,
        FuseResult,
    ),
    "list_presets": _tool(
        "list_presets",
        "List the presets that fuse can use: who answers, who judges, by which policy.",
        ListPresetsArguments,
        ListPresetsResult,
    ),
}
