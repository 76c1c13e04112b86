"""``/v1/traces``: runs as they were; a key sees its own, whoever may steer the server sees all."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast, get_args

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from localfusion.errors import TraceError
from localfusion.server.access import caller_of, require_admin
from localfusion.server.envelope import NotFoundError
from localfusion.server.gateway import Gateway
from localfusion.server.section import missing, wrong
from localfusion.traces import Query, Trace, TraceStatus
from localfusion.traces.form import Json, decoded, line
from localfusion.traces.store import DEFAULT_LIMIT, MAX_LIMIT

logger = logging.getLogger(__name__)

MAX_NAME = 128
MAX_WORDS = 512
MAX_CURSOR = 2**63 - 1
_ID = re.compile(r"[0-9a-f]{32}")
_FILTERS = ("q", "status", "preset", "policy", "model")


def trace_routes(gateway: Gateway) -> APIRouter:
    """Build the routes that list, show, export and delete traces."""
    router = APIRouter()

    @router.head("/v1/traces", include_in_schema=False)
    @router.get("/v1/traces", openapi_extra=_parameters("limit", "cursor", *_FILTERS))
    async def list_traces(request: Request) -> Response:
        """List the newest traces that are wanted; ``next_cursor`` leads to those before."""
        query = _read_query(request)
        with _hidden():
            page = await gateway.traces.list(query)
        return JSONResponse(
            {
                "object": "list",
                "data": list(page.traces),
                "has_more": page.cursor is not None,
                "next_cursor": None if page.cursor is None else str(page.cursor),
            }
        )

    @router.head("/v1/traces/{id}", include_in_schema=False)
    @router.get("/v1/traces/{id}")
    async def retrieve_trace(request: Request, id: str) -> Response:
        """Return all of a trace: request, events, answer, prompts, versions."""
        body = await asyncio.to_thread(line, await _find(gateway, request, id))
        return Response(body, media_type="application/json")

    @router.get("/v1/traces/{id}/export")
    async def export_trace(request: Request, id: str) -> Response:
        """Return a trace as a line of JSON, for ``localfusion traces import``."""
        body = await asyncio.to_thread(line, await _find(gateway, request, id))
        named = {"content-disposition": f'attachment; filename="trace-{id}.jsonl"'}
        return Response(body + b"\n", media_type="application/x-ndjson", headers=named)

    @router.delete("/v1/traces/{id}")
    async def delete_trace(request: Request, id: str) -> Response:
        """Delete a trace; the last of its bytes leave the file soon after."""
        with _hidden():
            is_gone = _is_id(id) and await gateway.traces.delete(id, _visible_to(request))
        if not is_gone:
            raise _not_found()
        return JSONResponse({"id": id, "object": "trace.deleted", "deleted": True})

    @router.delete(
        "/v1/traces",
        dependencies=[Depends(require_admin)],
        openapi_extra=_parameters("before"),
    )
    async def purge_traces(request: Request) -> Response:
        """Delete all traces from before a time, in seconds since 1970, to their last byte."""
        before = _one(request, "before")
        if before is None:
            raise missing("before", "send the time before which all are deleted")
        seconds = _seconds(before)
        with _hidden():
            count = await gateway.traces.purge(seconds)
        return JSONResponse({"object": "list.deleted", "deleted": count})

    return router


async def _find(gateway: Gateway, request: Request, id: str) -> Json:
    """Return a trace that the caller may see.

    Raises:
        NotFoundError: there is none; whose it may be is not told.
    """
    with _hidden():
        told = await gateway.traces.get(id, _visible_to(request)) if _is_id(id) else None
    if told is None:
        raise _not_found()
    return told


async def find_trace(gateway: Gateway, request: Request, id: str) -> Trace:
    """Return a trace that the caller may see, decoded.

    Raises:
        NotFoundError: there is none; whose it may be is not told.
        TraceError: it cannot be read.
    """
    return await asyncio.to_thread(decoded, await _find(gateway, request, id))


def _not_found() -> NotFoundError:
    return NotFoundError(
        "there is no trace of this id; GET /v1/traces lists those that you may see"
    )


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _visible_to(request: Request) -> str | None:
    """Return whose traces the caller may see; None: all."""
    caller = caller_of(request)
    return None if caller is None or caller.is_admin else caller.name


@contextmanager
def _hidden() -> Iterator[None]:
    """Keep what is wrong with the file, and where it lies, from clients."""
    try:
        yield
    except TraceError as error:
        logger.error("%s", error)  # noqa: TRY400  no traceback wanted
        raise TraceError(
            "the traces cannot be had now; localfusion ps says why on the server's machine",
            code=error.code,
        ) from error


def _read_query(request: Request) -> Query:
    given = {name: _text(request, name) for name in _FILTERS}
    status = given["status"]
    if status is not None and status not in get_args(TraceStatus):
        known = ", ".join(get_args(TraceStatus))
        raise wrong("status", f"must be one of {known}; send one of them")
    return Query(
        limit=_number(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT,
        before=_number(request, "cursor", MAX_CURSOR),
        words=given["q"],
        key=_visible_to(request),
        status=cast("TraceStatus | None", status),
        preset=given["preset"],
        policy=given["policy"],
        model=given["model"],
    )


def _one(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise wrong(name, "stands there twice; remove one", "invalid_type")
    return values[0] if values else None


def _text(request: Request, name: str) -> str | None:
    value = _one(request, name)
    most = MAX_WORDS if name == "q" else MAX_NAME
    if value is not None and not (0 < len(value) <= most and "\0" not in value):
        raise wrong(name, f"must be a text of 1 to {most} characters; send one, or leave it out")
    return value


def _number(request: Request, name: str, most: int) -> int | None:
    value = _one(request, name)
    if value is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,40}", value):
        raise wrong(name, "must be a whole number; send one, or leave it out", "invalid_type")
    if not 1 <= int(value) <= most:
        raise wrong(name, f"must be from 1 to {most}; send one of them, or leave it out")
    return int(value)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
        raise wrong("before", "must be a number of seconds since 1970; send one", "invalid_type")
    return float(value)


_SCHEMAS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        "Traces of a page.",
    ),
    "cursor": ({"type": "integer", "minimum": 1}, "``next_cursor`` of the page before."),
    "q": (
        {"type": "string", "minLength": 1, "maxLength": MAX_WORDS},
        "Words of the question or the answer; all must be there, and nothing is syntax.",
    ),
    "status": ({"type": "string", "enum": list(get_args(TraceStatus))}, "How the run ended."),
    "preset": ({"type": "string", "minLength": 1, "maxLength": MAX_NAME}, "That was asked."),
    "policy": ({"type": "string", "minLength": 1, "maxLength": MAX_NAME}, "That answered."),
    "model": ({"type": "string", "minLength": 1, "maxLength": MAX_NAME}, "That wrote the answer."),
    "before": ({"type": "number", "minimum": 0}, "Seconds since 1970."),
}


def _parameters(*names: str) -> dict[str, object]:
    """Describe the parameters that a route reads itself."""
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name == "before",
                "schema": _SCHEMAS[name][0],
                "description": _SCHEMAS[name][1],
            }
            for name in names
        ]
    }
