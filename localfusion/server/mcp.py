"""``POST /mcp``: the tools ``fuse`` and ``list_presets`` for MCP clients, by streamable HTTP."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from localfusion.server.admission import Runs
from localfusion.server.gateway import Gateway

if TYPE_CHECKING:
    from localfusion.server.mcp_http import McpEndpoint


def mcp_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the MCP route; other methods get 405, for there is nothing to listen to or to end."""
    router = APIRouter()
    endpoint: McpEndpoint | None = None

    @router.post("/mcp", include_in_schema=False)  # its schema is the protocol's, not OpenAPI's
    async def answer_mcp(request: Request) -> Response:
        nonlocal endpoint
        if endpoint is None:
            # The SDK takes a second to import, and most gateways never need it.
            kind = await asyncio.to_thread(_endpoint_class)
            endpoint = endpoint or kind(gateway, runs)
        return await endpoint.answer(request)

    return router


def _endpoint_class() -> "type[McpEndpoint]":
    from localfusion.server.mcp_http import McpEndpoint

    return McpEndpoint
