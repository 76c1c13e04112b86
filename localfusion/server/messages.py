"""``/v1/messages``: Anthropic's Messages API over fusion, and its count of tokens."""

from fastapi import APIRouter, Request, Response

from localfusion.server.admission import Runs
from localfusion.server.forms import DEPTH_HEADER, read_depth
from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.messages_fields import (
    CountBody,
    MessagesBody,
    MessagesRequest,
    read_count,
    read_messages,
)
from localfusion.server.messages_reply import MessagesReply
from localfusion.server.openapi import json_body
from localfusion.server.placing import place
from localfusion.server.running import RunResponse

MESSAGES = "/v1/messages"
EXAMPLE: dict[str, object] = {
    "model": "openrouter/fusion",
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "Name the three primary colors."}],
}


def message_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the routes of the Messages API."""
    router = APIRouter()
    limits = gateway.settings.limits

    @router.post(MESSAGES, openapi_extra=json_body(MessagesBody, EXAMPLE))
    async def create_message(request: Request) -> Response:
        asked = read_messages(await read_json(request, limits.body_bytes), limits.messages)
        depth = read_depth(request.headers.getlist(DEPTH_HEADER))
        chat = place(gateway.fusion, asked.chat, depth=depth)
        reply = MessagesReply(MessagesRequest(chat, asked.shows_thinking))
        return RunResponse(gateway, runs, *chat.each(), reply=reply, is_stream=chat.is_stream)

    counted = {name: value for name, value in EXAMPLE.items() if name != "max_tokens"}

    @router.post(f"{MESSAGES}/count_tokens", openapi_extra=json_body(CountBody, counted))
    async def count_tokens(request: Request) -> dict[str, int]:
        """Count a conversation; for a preset the largest count of its models."""
        document = await read_json(request, limits.body_bytes)
        model, messages, tools = read_count(document, limits.messages)
        return {"input_tokens": await gateway.fusion.count(model, messages, tools)}

    return router
