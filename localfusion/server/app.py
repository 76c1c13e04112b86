"""The HTTP application: routes, liveness, readiness, and one envelope for every error."""

import logging
import re
import time
import uuid
from collections.abc import Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localfusion import __version__
from localfusion.errors import ConfigError, FusionError, OverloadedError, RequestError
from localfusion.server.access import Access, caller_of
from localfusion.server.admission import Runs
from localfusion.server.chat import chat_routes
from localfusion.server.completions import CompletionsBody, completion_routes
from localfusion.server.engines import engine_routes
from localfusion.server.envelope import (
    ClientGoneError,
    MethodNotAllowedError,
    NotFoundError,
    error_response,
    internal,
    report_bug,
)
from localfusion.server.evaluations import evaluation_routes
from localfusion.server.exchange import Exchange
from localfusion.server.fields import ChatBody
from localfusion.server.gateway import Gateway
from localfusion.server.logs import current_request
from localfusion.server.mcp import mcp_routes
from localfusion.server.messages import MESSAGES, message_routes
from localfusion.server.messages_fields import CountBody, MessagesBody
from localfusion.server.messages_reply import error_answer
from localfusion.server.metrics import metrics_routes
from localfusion.server.models import model_routes
from localfusion.server.openapi import describe
from localfusion.server.pages import page_routes
from localfusion.server.replay import ExplainBody, ReplayBody, replay_routes
from localfusion.server.responses import response_routes
from localfusion.server.responses_fields import ResponsesBody
from localfusion.server.tokenize import TokenizeBody, tokenize_routes
from localfusion.server.traces import trace_routes
from localfusion.telemetry.http import HttpMetrics

__all__ = ["Gateway", "create_app"]

logger = logging.getLogger(__name__)

BODIES = (
    ChatBody,
    ResponsesBody,
    MessagesBody,
    CountBody,
    CompletionsBody,
    TokenizeBody,
    ReplayBody,
    ExplainBody,
)
"""Bodies that routes parse themselves, for the OpenAPI document."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def create_app(gateway: Gateway, runs: Runs | None = None, access: Access | None = None) -> FastAPI:
    """Build the application over a running system.

    Args:
        gateway: What answers.
        runs: Counts and aborts the runs; None: nobody outside needs to.
        access: Decides who may call; None: everyone on this machine, as there are no keys.
    """
    http = gateway.telemetry.http
    runs = runs or Runs(gateway.settings.limits, http.waited, gateway.traces)
    http.watch_queue(lambda: runs.waiting)
    app = FastAPI(
        title="localfusion",
        version=__version__,
        docs_url=None,  # its page loads scripts from a public address
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(chat_routes(gateway, runs))  # routes are tried in this order
    app.include_router(_state_routes(gateway))
    app.include_router(model_routes(gateway, int(time.time())))
    app.include_router(engine_routes(gateway))
    app.include_router(response_routes(gateway, runs))
    app.include_router(message_routes(gateway, runs))
    app.include_router(completion_routes(gateway, runs))
    app.include_router(tokenize_routes(gateway))
    app.include_router(trace_routes(gateway))
    app.include_router(replay_routes(gateway, runs))
    app.include_router(evaluation_routes())
    app.include_router(mcp_routes(gateway, runs))
    app.include_router(metrics_routes(gateway))
    app.include_router(page_routes())
    app.add_exception_handler(FusionError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    access = access or Access(gateway.settings.server.hosts)
    app.add_middleware(Edge, access=access, http=http)
    app.openapi = lambda: describe(app, BODIES)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


class Edge:
    """Around every request: its id, who sent it, what a fault of ours looks like, its account."""

    def __init__(self, app: ASGIApp, access: Access, http: HttpMetrics) -> None:
        self._app = app
        self._access = access
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        exchange, token = Exchange(scope, request_id, self._http), current_request.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answer(message)
                ids = [(b"x-request-id", request_id.encode())]
                if scope["path"].startswith(MESSAGES):
                    ids.append((b"request-id", request_id.encode()))
                message["headers"] = [*message.get("headers", []), *ids]
            await send(message)

        try:
            self._access.check(scope)
            await self._app(scope, receive, send_with_id)
        except ClientGoneError:
            pass  # nobody is there to be told
        except ConfigError as error:  # the file of keys; where it lies is not the client's matter
            logger.error("request %s: %s", request_id, error)  # noqa: TRY400  no traceback wanted
            await _refused(scope, internal(request_id))(scope, receive, send_with_id)
        except FusionError as error:
            await _refused(scope, error)(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001  the edge of the process: nothing may pass
            failure = report_bug(error, request_id)
            if not exchange.status:
                await _refused(scope, failure)(scope, receive, send_with_id)
        finally:
            exchange.end()
            current_request.reset(token)


def _request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the client's own id if it can stand in a log and a header, else a new one."""
    sent = [value.decode("latin-1") for key, value in headers if key == b"x-request-id"]
    if len(sent) == 1 and _REQUEST_ID.fullmatch(sent[0]):
        return sent[0]
    return f"req_{uuid.uuid4().hex}"


def _state_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter()

    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> dict[str, str]:
        """Say that the event loop turns; also while the server drains."""
        return {"status": "ok", "service": "localfusion", "version": __version__}

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready")
    async def ready(request: Request) -> Response:
        """Say whether the default preset can answer now, else why not."""
        reasons = list(gateway.not_ready())
        if gateway.draining and "draining" not in reasons:
            reasons.append("draining")
        status = "not_ready" if reasons else "ready"
        if caller_of(request) is None:  # a probe without a key
            return JSONResponse({"status": status}, status_code=503 if reasons else 200)
        engines = {
            name: {"phase": change.phase, "seconds": change.seconds, "detail": change.detail}
            for name, change in gateway.phases().items()
        }
        body = {"status": status, "reasons": reasons, "engines": engines}
        return JSONResponse(body, status_code=503 if reasons else 200)

    return router


def _refused(scope: Scope, error: FusionError, stage: str | None = None) -> Response:
    """Return an error in the words of the API that was called."""
    if scope["path"].startswith(MESSAGES):
        return error_answer(error, stage=stage)
    return error_response(error, stage=stage)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FusionError)
    stage = None
    if isinstance(error, OverloadedError):
        stage = "admission"
    elif type(error) is RequestError:
        stage = "parse"
    return _refused(request.scope, error, stage)


def _allowed(request: Request) -> str:
    """Return all methods of an address; the framework names only those of one of its routes."""
    methods = {
        method
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is Match.PARTIAL
        for method in route.methods or ()
    }
    return ", ".join(sorted(methods))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused: RequestError = RequestError("the request cannot be read; see /openapi.json")
    headers = {}
    if error.status_code == 405:
        headers = {"allow": _allowed(request)}
        refused = MethodNotAllowedError(f"this address takes other methods; use {headers['allow']}")
    elif error.status_code == 404:
        refused = NotFoundError(
            "there is nothing at this address; /openapi.json lists what there is"
        )
    response = _refused(request.scope, refused)
    response.headers.update(headers)
    return response
