"""``POST /v1/chat/completions``: one run, streamed as it goes or sent when it is whole."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from localfusion.errors import FusionError
from localfusion.events import Event
from localfusion.server import sse
from localfusion.server.body import parse_body
from localfusion.server.envelope import ClientGoneError, error_response, report_bug
from localfusion.server.fields import ChatRequest, read_chat
from localfusion.server.gateway import Gateway
from localfusion.server.limits import Runs, read_body
from localfusion.server.relay import Outlet, relay, while_connected
from localfusion.server.replies import Chunks, RunView, completion

OFF_LOOP_BYTES = 256 << 10
"""Larger bodies are parsed in a thread, so that other streams go on."""

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}
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
        raw = await read_body(request, limits.body_bytes)
        if len(raw) > OFF_LOOP_BYTES:
            document = await asyncio.to_thread(parse_body, raw)
        else:
            document = parse_body(raw)
        chat = read_chat(document, limits.messages)
        gateway.fusion.resolve(chat.request.model)  # an unknown name is told before a full house
        return RunResponse(gateway, runs, chat)

    return router


class RunResponse(Response):
    """A response that is a run: it goes while the client is there, and no longer."""

    def __init__(self, gateway: Gateway, runs: Runs, chat: ChatRequest) -> None:
        super().__init__()
        self._gateway = gateway
        self._runs = runs
        self._chat = chat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._runs.admit(is_draining=self._gateway.draining):
            await while_connected(receive, self._answer(scope, receive, send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._stream if self._chat.is_stream else self._send_whole
        with suppress(ClientGoneError):
            await way(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = Outlet(scope, send)
        chunks = Chunks(self._chat, int(time.time()))
        reply = _Streamed(chunks, outlet, self._gateway.settings.server.keepalive)
        error = await self._run(reply, scope)
        if error is not None and not outlet.is_open:
            await self._refuse(error, chunks.view)(scope, receive, send)
        elif error is not None:
            await outlet.write(chunks.fail(error))
            await outlet.close()
        else:
            await outlet.close()

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Whole(RunView())
        error = await self._run(reply, scope)
        if error is not None:
            response = self._refuse(error, reply.view)
        else:
            answer = reply.view.answer
            assert answer is not None  # relay returns at RunCompleted
            headers = reply.view.headers(self._chat.ignored)
            response = JSONResponse(completion(answer, int(time.time())), headers=headers)
        await response(scope, receive, send)

    async def _run(self, reply: "_Streamed | _Whole", scope: Scope) -> FusionError | None:
        events = self._gateway.fusion.stream(self._chat.request)
        try:
            await relay(events, reply, aborted=self._runs.aborted)
        except FusionError as error:
            return error
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001  a bug ends its own run, with a typed end
            return report_bug(error, scope["state"]["request_id"])
        return None

    def _refuse(self, error: FusionError, view: RunView) -> JSONResponse:
        headers = {"x-localfusion-trace": view.run_id} if view.run_id else {}
        return error_response(
            error, trace_id=view.run_id, stage=view.stage, model=view.model, headers=headers
        )


@dataclass(slots=True)
class _Streamed:
    """Chunks as they come; headers wait for the panel to settle or for the first keep-alive."""

    chunks: Chunks
    outlet: Outlet
    keepalive: float

    @property
    def silent_until(self) -> float:
        return self.outlet.last_write + self.keepalive

    async def take(self, event: Event) -> None:
        frames = self.chunks.feed(event)
        if frames:
            await self._write(frames)

    async def keep_alive(self) -> None:
        await self._write(sse.comment(self.chunks.view.progress))

    async def _write(self, frames: bytes) -> None:
        headers = self.chunks.view.headers(self.chunks.chat.ignored)
        await self.outlet.open(_STREAM_HEADERS | headers)
        await self.outlet.write(frames)


@dataclass(slots=True)
class _Whole:
    """Events only counted, until the answer is there."""

    view: RunView
    silent_until: None = None

    async def take(self, event: Event) -> None:
        self.view.see(event)

    async def keep_alive(self) -> None:
        """Nothing can be said before the answer."""
