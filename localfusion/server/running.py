"""A response that is a run: streamed as it goes or sent when it is whole, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from localfusion.errors import FusionError, OverloadedError, RequestError
from localfusion.events import Event, RunCompleted
from localfusion.server.access import owner_of
from localfusion.server.admission import Runs
from localfusion.server.envelope import report_bug
from localfusion.server.gateway import Gateway
from localfusion.server.idempotency import HEADER, read_key
from localfusion.server.relay import Outlet, relay, while_connected
from localfusion.traces import Traces
from localfusion.types import Answer, Request

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}


class Reply(Protocol):
    """What one API makes of a run's events; it is shown every event, also when nothing streams."""

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to a stream; nothing for most."""
        ...

    def keep_alive(self) -> bytes:
        """Return what a stream says after a silence."""
        ...

    def fail(self, error: FusionError) -> bytes:
        """Return what ends a stream whose status has been sent."""
        ...

    def body(self, answer: Answer) -> Mapping[str, object]:
        """Return the JSON body of an answer that is not streamed."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Return headers as far as they are known by now."""
        ...

    def refusal(self, error: FusionError) -> Response:
        """Return the answer to a request that failed before its first byte."""
        ...


class RunResponse(Response):
    """A response that is a run, or several: they go while the client is there, and no longer."""

    def __init__(
        self, gateway: Gateway, runs: Runs, *requests: Request, reply: Reply, is_stream: bool
    ) -> None:
        super().__init__()
        self._gateway = gateway
        self._runs = runs
        self._requests = requests
        self._reply = reply
        self._is_stream = is_stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work(write: Send) -> bool:
            return await self._answer(scope, receive, write)

        try:
            key = read_key(Headers(scope=scope).getlist(HEADER))
            if key is None:
                await while_connected(receive, work(send))
            else:
                await self._runs.kept_replies.share(key, scope, receive, send, work)
        except RequestError as error:  # an odd key, or one of another body
            await self._reply.refusal(error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Wait for a place and answer; return whether it is a whole answer."""
        way = self._stream if self._is_stream else self._send_whole
        try:
            async with self._runs.admit(owner_of(scope), is_draining=self._gateway.draining):
                return await way(scope, receive, send)
        except OverloadedError as error:
            await self._reply.refusal(error)(scope, receive, send)
        return False

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> bool:
        outlet = Outlet(send)
        keepalive = self._gateway.settings.server.keepalive
        streamed = _Streamed(self._reply, outlet, keepalive, self._gateway.traces)
        error = await self._run(streamed, scope)
        if error is not None and not outlet.is_open:
            await self._reply.refusal(error)(scope, receive, send)
            return False
        if error is not None:
            await streamed.write(self._reply.fail(error))
        await outlet.close()
        return error is None

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> bool:
        whole = _Whole(self._reply, self._gateway.traces)
        error = await self._run(whole, scope)
        if error is not None:
            response = self._reply.refusal(error)
        else:
            assert whole.answer is not None  # relay returns at RunCompleted
            body, headers = self._reply.body(whole.answer), dict(self._reply.headers())
            response = JSONResponse(body, headers=headers)
        await response(scope, receive, send)
        return error is None

    async def _run(self, reply: "_Streamed | _Whole", scope: Scope) -> FusionError | None:
        fusion, aborted = self._gateway.fusion, self._runs.aborted
        known = {"request_id": scope["state"]["request_id"], "key": owner_of(scope)}
        requests = [replace(r, origin=replace(r.origin, **known)) for r in self._requests]
        try:
            await relay(fusion, requests, reply, aborted=aborted)
        except FusionError as error:
            return error
        except Exception as error:  # noqa: BLE001  a bug ends its own run, with a typed end
            return report_bug(error, scope["state"]["request_id"])
        return None


@dataclass(slots=True)
class _Streamed:
    """Frames as they come; headers wait for the panel to settle or for the first keep-alive."""

    reply: Reply
    outlet: Outlet
    keepalive: float
    traces: Traces

    @property
    def silent_until(self) -> float:
        return self.outlet.last_write + self.keepalive

    async def take(self, event: Event) -> None:
        frames = self.reply.feed(await acknowledged(self.traces, event))
        if frames:
            await self.write(frames)

    async def keep_alive(self) -> None:
        await self.write(self.reply.keep_alive())

    async def write(self, frames: bytes) -> None:
        await self.outlet.write(frames, self._headers)

    def _headers(self) -> Mapping[str, str]:
        return {**_STREAM_HEADERS, **self.reply.headers()}


@dataclass(slots=True)
class _Whole:
    """Events only seen, until the answer is there."""

    reply: Reply
    traces: Traces
    answer: Answer | None = None
    silent_until: None = None

    async def take(self, event: Event) -> None:
        event = await acknowledged(self.traces, event)
        self.reply.feed(event)
        if isinstance(event, RunCompleted):
            self.answer = event.answer

    async def keep_alive(self) -> None:
        """Nothing can be said before the answer."""


async def acknowledged(traces: Traces, event: Event) -> Event:
    """Wait at a run's end until its trace is on disk, a moment at most; name it where it is."""
    if isinstance(event, RunCompleted):
        return replace(event, answer=await traces.named(event.answer))
    return event
