"""``POST /v1/chat/completions``: OpenAI's chat API over fusion."""

import time

from fastapi import APIRouter, Request, Response

from localfusion.server.admission import Runs
from localfusion.server.fields import ChatBody, read_chat
from localfusion.server.forms import DEPTH_HEADER, read_depth
from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.openapi import json_body
from localfusion.server.placing import place
from localfusion.server.replies import ChatChoices, ChatReply
from localfusion.server.running import RunResponse

EXAMPLE: dict[str, object] = {
    "model": "openrouter/fusion",
    "messages": [{"role": "user", "content": "Name the three primary colors."}],
    "max_completion_tokens": 60,
}


def chat_routes(gateway: Gateway, runs: Runs) -> APIRouter:
    """Build the chat route."""
    router = APIRouter()
    limits = gateway.settings.limits

    @router.post("/v1/chat/completions", openapi_extra=json_body(ChatBody, EXAMPLE))
    async def create_chat_completion(request: Request) -> Response:
        chat = read_chat(await read_json(request, limits.body_bytes), limits.messages)
        depth = read_depth(request.headers.getlist(DEPTH_HEADER))
        chat = place(gateway.fusion, chat, depth=depth)
        created = int(time.time())
        reply = ChatReply(chat, created) if chat.choices == 1 else ChatChoices(chat, created)
        return RunResponse(gateway, runs, *chat.each(), reply=reply, is_stream=chat.is_stream)

    return router
