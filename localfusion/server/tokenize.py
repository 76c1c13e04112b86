"""``POST /tokenize``: how many tokens a conversation has, by the engine's own count."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import Field

from localfusion.server.gateway import Gateway
from localfusion.server.limits import read_json
from localfusion.server.openapi import json_body
from localfusion.server.section import Section, ignored_names, read, refuse, wrong
from localfusion.server.tools import ToolBody, to_tools
from localfusion.server.turns import ChatMessage, to_messages

EXAMPLE: dict[str, object] = {
    "model": "localfusion/demo",
    "messages": [{"role": "user", "content": "Name the three primary colors."}],
}


class TokenizeBody(Section):
    """The body of ``POST /tokenize``; null means absent."""

    model: str
    """A preset or a model; of a preset's models the largest count is told."""
    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[ToolBody] | None = Field(default=None, max_length=128)


_REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "prompt": ((), "send messages, for it is conversations that are counted"),
    "return_token_strs": ((False,), "leave it out, for only the count is told"),
}


def tokenize_routes(gateway: Gateway) -> APIRouter:
    """Build the route that counts."""
    router = APIRouter()
    limits = gateway.settings.limits

    @router.post("/tokenize", openapi_extra=json_body(TokenizeBody, EXAMPLE))
    async def tokenize(request: Request) -> dict[str, int]:
        """Count a conversation with the chat template around it, and tell the smallest window."""
        document = await read_json(request, limits.body_bytes)
        refuse(document, _REFUSED)
        ignored_names(document, {*TokenizeBody.model_fields, *_REFUSED})
        body = read(TokenizeBody, document)
        if len(body.messages) > limits.messages:
            most = f"has more than {limits.messages} entries; shorten the conversation"
            raise wrong("messages", most)
        fusion = gateway.fusion
        _, preset = fusion.resolve(body.model)
        tools = to_tools(body.tools or (), None, None)
        count = await fusion.count(body.model, to_messages(body.messages), tools)
        window = min(fusion.engines[model].facts.max_model_len for model in preset.models)
        return {"count": count, "max_model_len": window}

    return router
