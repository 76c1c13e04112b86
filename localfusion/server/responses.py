"""``/v1/responses``: OpenAI's Responses API over fusion; create, read, delete, and its input."""

import time
from collections.abc import Mapping
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from localfusion.errors import RequestError
from localfusion.server.access import owner_of
from localfusion.server.admission import Runs
from localfusion.server.envelope import NotFoundError
from localfusion.server.forms import DEPTH_HEADER, read_depth
from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.openapi import json_body
from localfusion.server.placing import place
from localfusion.server.responses_fields import ResponsesBody, ResponsesRequest, read_responses
from localfusion.server.responses_reply import ResponsesReply
from localfusion.server.running import RunResponse
from localfusion.server.section import unsupported, wrong
from localfusion.server.store import MemoryStore, ResponseStore, StoredResponse

EXAMPLE: dict[str, object] = {
    "model": "openrouter/fusion",
    "input": "Name the three primary colors.",
    "max_output_tokens": 60,
}
MAX_LISTED = 100
LISTED = 20
"""Input items of a page, unless ``limit`` says otherwise."""


def response_routes(gateway: Gateway, runs: Runs, store: ResponseStore | None = None) -> APIRouter:
    """Build the routes.

    Args:
        gateway: What answers.
        runs: Counts the runs.
        store: Keeps responses; None: in memory, so that they end with the process.
    """
    router = APIRouter()
    limits = gateway.settings.limits
    kept = store or MemoryStore()

    @router.post("/v1/responses", openapi_extra=json_body(ResponsesBody, EXAMPLE))
    async def create_response(request: Request) -> Response:
        owner = owner_of(request.scope)

        def find(id: str) -> StoredResponse:
            try:
                return kept.get(owner, id)
            except NotFoundError as error:
                message = f"previous_response_id: {error}"
                raise NotFoundError(message, param="previous_response_id") from error

        document = await read_json(request, limits.body_bytes)
        asked = read_responses(document, limits.messages, find)
        asked = _placed(gateway, asked, read_depth(request.headers.getlist(DEPTH_HEADER)))

        def keep(body: Mapping[str, object]) -> None:
            kept.put(owner, StoredResponse(body, asked.items))

        reply = ResponsesReply(asked, int(time.time()), keep)
        run, is_stream = asked.chat.request, asked.chat.is_stream
        return RunResponse(gateway, runs, run, reply=reply, is_stream=is_stream)

    @router.post("/v1/responses/compact")
    async def compact_response() -> Response:
        raise NotFoundError(
            "conversations are not compacted here; send the turns that matter as input"
        )

    _add_stored_routes(router, kept)
    return router


def _add_stored_routes(router: APIRouter, kept: ResponseStore) -> None:
    @router.get("/v1/responses/{id}")
    async def retrieve_response(request: Request, id: str) -> Response:
        if request.query_params.get("stream") == "true":
            raise unsupported("stream", "is not supported; read the stored response whole")
        return JSONResponse(kept.get(owner_of(request.scope), id).body)

    @router.delete("/v1/responses/{id}")
    async def delete_response(request: Request, id: str) -> Response:
        kept.delete(owner_of(request.scope), id)
        return JSONResponse({"id": id, "object": "response", "deleted": True})

    @router.post("/v1/responses/{id}/cancel")
    async def cancel_response(request: Request, id: str) -> Response:
        kept.get(owner_of(request.scope), id)
        raise RequestError(
            "only background responses can be cancelled, and there are none here; close the "
            "connection to end a response that is being written",
            code="unsupported_parameter",
        )

    @router.get("/v1/responses/{id}/input_items")
    async def list_input_items(request: Request, id: str) -> Response:
        stored = kept.get(owner_of(request.scope), id)
        return JSONResponse(_page(request, stored))


def _placed(gateway: Gateway, asked: ResponsesRequest, depth: int) -> ResponsesRequest:
    """Decide who answers; this API tells the analysis, so the judge makes one of its own.

    A preset or a request that says how the judge compares is obeyed.
    """
    try:
        chat = place(gateway.fusion, asked.chat, depth=depth)
    except RequestError as error:
        if error.param != "logprobs":
            raise
        what = "asks for logprobs, which belong to one model; leave them out or name a model"
        raise unsupported("include", what) from error
    preset = gateway.fusion.presets.get(chat.request.model)
    if preset is not None and "analysis" not in preset.options:
        changes = {"analysis": "separate", **chat.request.changes}
        chat = replace(chat, request=replace(chat.request, changes=changes))
    return replace(asked, chat=chat)


def _page(request: Request, stored: StoredResponse) -> dict[str, object]:
    order = _query(request, "order") or "desc"
    if order not in ("asc", "desc"):
        raise wrong("order", "must be asc or desc; send one of them")
    limit = _query(request, "limit") or str(LISTED)
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 4):
        raise wrong("limit", f"must be a number from 1 to {MAX_LISTED}; send one")
    size = int(limit)
    if not 1 <= size <= MAX_LISTED:
        raise wrong("limit", f"must be a number from 1 to {MAX_LISTED}; send one")
    items = list(stored.items) if order == "asc" else list(reversed(stored.items))
    after = _query(request, "after")
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise wrong("after", "is the id of no input item; send one of a page before")
        items = items[places[0] + 1 :]
    page = items[:size]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(items) > size,
    }


def _query(request: Request, name: str) -> str | None:
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise wrong(name, "stands there twice; remove one")
    return values[0] if values else None
