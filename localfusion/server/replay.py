"""``/v1/traces/{id}/replay`` and ``…/explain``: a recorded panel judged once more, and why."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field
from starlette.types import Receive, Scope, Send

from localfusion.errors import FusionError
from localfusion.events import Event, RunCompleted
from localfusion.explain import explain, to_json
from localfusion.explain.explain import MOST_EXPECTED
from localfusion.replay import Changes, ReplayOrder, request_of, told_replay
from localfusion.server.access import owner_of
from localfusion.server.admission import Runs
from localfusion.server.envelope import error_response
from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.openapi import json_body
from localfusion.server.relay import relay, while_connected
from localfusion.server.running import RunResponse, acknowledged
from localfusion.server.section import Section, read
from localfusion.server.traces import find_trace
from localfusion.server.view import RunView
from localfusion.traces import Json, Trace, Traces
from localfusion.types import Answer, Origin
from localfusion.types import Request as Asked

EXAMPLE: dict[str, object] = {"judge": "qwen2.5-coder-0.5b", "drop": [1]}
EXPLAIN_EXAMPLE: dict[str, object] = {"expect": "8"}
Name = Annotated[str, Field(min_length=1, max_length=128)]


class ReplayBody(Section):
    """The body of ``POST /v1/traces/{id}/replay``; null means: as it was."""

    model_config = ConfigDict(extra="forbid")

    judge: Name | None = None
    """Model that judges."""
    policy: Name | None = None
    """How the answer is made; not one that asks the panel anew."""
    order: ReplayOrder | None = None
    """In which the judge reads the drafts; ``reversed``: the recorded order the other way round."""
    drop: list[int | Name] = Field(default=[], max_length=64)
    """Candidates that are left out: by index, by name (``a#2``), or all of a model's by its."""

    @property
    def changes(self) -> Changes:
        return Changes(
            judge=self.judge, policy=self.policy, order=self.order, drop=tuple(self.drop)
        )


class ExplainBody(Section):
    """The body of ``POST /v1/traces/{id}/explain``; null means absent."""

    model_config = ConfigDict(extra="forbid")

    expect: str | None = Field(default=None, min_length=1, max_length=MOST_EXPECTED)
    """The right answer, where it is known."""
    replays: bool = True
    """Whether the judge is asked again, with and without each draft."""


def replay_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the routes that replay and explain."""
    router = APIRouter()

    @router.post("/v1/traces/{id}/replay", openapi_extra=json_body(ReplayBody, EXAMPLE))
    async def replay_trace(request: Request, id: str) -> Response:
        """Judge a trace's panel once more; nobody of the panel is asked."""
        document = await read_json(request, gateway.settings.limits.body_bytes)
        body = read(ReplayBody, document)
        trace = await find_trace(gateway, request, id)
        asked = await asyncio.to_thread(request_of, trace, _named(gateway, body.changes))
        reply = ReplayReply(trace, asked)
        return RunResponse(gateway, runs, asked, reply=reply, is_stream=False)

    @router.get("/v1/traces/{id}/explain")
    async def read_explanation(request: Request, id: str) -> Response:
        """Explain a trace by what is in it; nothing is replayed."""
        trace = await find_trace(gateway, request, id)
        return JSONResponse(to_json(await explain(trace)))

    @router.post("/v1/traces/{id}/explain", openapi_extra=json_body(ExplainBody, EXPLAIN_EXAMPLE))
    async def explain_trace(request: Request, id: str) -> Response:
        """Explain a trace; the judge is asked again, without each draft and in reversed order."""
        document = await read_json(request, gateway.settings.limits.body_bytes)
        body = read(ExplainBody, document)
        trace = await find_trace(gateway, request, id)
        if not body.replays:
            return JSONResponse(to_json(await explain(trace, expect=body.expect)))
        return ExplainResponse(gateway, runs, trace, body.expect)

    return router


class ExplainResponse(Response):
    """A response that is several replays, one after another; they take one place among the runs."""

    def __init__(self, gateway: Gateway, runs: Runs, trace: Trace, expect: str | None) -> None:
        super().__init__()
        self._gateway = gateway
        self._runs = runs
        self._trace = trace
        self._expect = expect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._runs.admit(owner_of(scope), is_draining=self._gateway.draining):
                response: Response = JSONResponse(await self._explain(scope))
        except FusionError as error:  # here, for out of a TaskGroup it comes as a group of one
            response = error_response(error)
        await response(scope, receive, send)

    async def _explain(self, scope: Scope) -> Json:
        origin = Origin(scope["state"]["request_id"], owner_of(scope))

        async def ask(request: Asked) -> Answer:
            last = _Last(self._gateway.traces)
            asked = replace(request, origin=origin)
            await relay(self._gateway.fusion, [asked], last, aborted=self._runs.aborted)
            assert last.answer is not None  # relay returns at RunCompleted
            return last.answer

        return to_json(await explain(self._trace, expect=self._expect, ask=ask))


@dataclass(slots=True)
class _Last:
    """Takes a run's events for its answer, which names its trace where that is kept."""

    traces: Traces
    answer: Answer | None = None
    silent_until: None = None

    async def take(self, event: Event) -> None:
        event = await acknowledged(self.traces, event)
        if isinstance(event, RunCompleted):
            self.answer = event.answer

    async def keep_alive(self) -> None:
        """Nothing can be said before the last answer."""


def _named(gateway: Gateway, changes: Changes) -> Changes:
    """Refuse a judge that is not here before anything runs.

    Raises:
        ModelNotFoundError: with the names that exist.
    """
    if changes.judge is not None:
        gateway.fusion.model(changes.judge, param="judge")
    return changes


class ReplayReply:
    """What a replay answers: both answers, and how they differ.

    Args:
        trace: That is replayed.
        asked: The replay.
    """

    def __init__(self, trace: Trace, asked: Asked) -> None:
        self._trace = trace
        self._asked = asked
        self._view = RunView()

    def feed(self, event: Event) -> bytes:
        self._view.see(event)
        return b""

    def keep_alive(self) -> bytes:
        raise AssertionError("a replay is not streamed")

    def fail(self, error: FusionError) -> bytes:
        raise AssertionError("a replay is not streamed") from error

    def body(self, answer: Answer) -> Mapping[str, object]:
        return told_replay(self._trace, self._asked, answer)

    def headers(self) -> Mapping[str, str]:
        return self._view.headers(())

    def refusal(self, error: FusionError) -> Response:
        return self._view.refusal(error)
