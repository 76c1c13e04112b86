"""``POST /v1/chat/completions``: OpenAI's chat API over fusion."""

import time

from fastapi import APIRouter, Request, Response

from localfusion.server.fields import read_chat
from localfusion.server.gateway import Gateway
from localfusion.server.limits import Runs, read_json
from localfusion.server.replies import ChatReply
from localfusion.server.running import RunResponse

_BODY_SCHEMA = {"schema": {"$ref": "#/components/schemas/ChatBody"}}


def chat_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the chat route."""
    router = APIRouter()
    limits = gateway.settings.limits

    @router.post(
        "/v1/chat/completions",
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": _BODY_SCHEMA}}
        },
    )
    async def create_chat_completion(request: Request) -> Response:
        chat = read_chat(await read_json(request, limits.body_bytes), limits.messages)
        gateway.fusion.resolve(chat.request.model)  # an unknown name is told before a full house
        reply = ChatReply(chat, int(time.time()))
        return RunResponse(gateway, runs, chat.request, reply, is_stream=chat.is_stream)

    return router
