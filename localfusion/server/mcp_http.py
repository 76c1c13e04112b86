"""MCP over HTTP: every request is served on its own, so a gateway keeps nothing of its clients.

A session is a name that ties a client's notice of cancellation to its call. Nothing else is
remembered: there is no session to lose when the gateway restarts, to run out of, or to end.
"""

import asyncio
import uuid
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from fastapi import Request, Response
from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from localfusion.errors import FusionError, RequestError
from localfusion.server.access import owner_of
from localfusion.server.admission import Runs
from localfusion.server.body import parse_body
from localfusion.server.envelope import Refusal, error_headers
from localfusion.server.gateway import Gateway
from localfusion.server.limits import OFF_LOOP_BYTES, read_body
from localfusion.server.mcp_tools import create_mcp_server
from localfusion.server.relay import while_connected

SESSION_HEADER = "mcp-session-id"

# The gateway has checked Host and Origin already, and knows the names that are set.
_UNCHECKED = TransportSecuritySettings(enable_dns_rebinding_protection=False)


@dataclass(frozen=True, slots=True)
class _Call:
    """What a notice of cancellation names; calls without a session cannot be named."""

    owner: str
    session: str | None
    number: str | int | None


_Calls = MutableMapping[_Call, "asyncio.Task[None]"]


class McpEndpoint:
    """Answers MCP's HTTP requests over a gateway."""

    def __init__(self, gateway: Gateway, runs: Runs) -> None:
        self._limit = gateway.settings.limits.body_bytes
        self._server = create_mcp_server(gateway, runs)
        self._calls: _Calls = {}

    async def answer(self, request: Request) -> Response:
        """Read a message and return the response that serves it."""
        try:
            raw = await read_body(request, self._limit)
            large = len(raw) > OFF_LOOP_BYTES
            message = await asyncio.to_thread(_read, raw) if large else _read(raw)
        except FusionError as error:
            return _refusal(error)
        session = request.headers.get(SESSION_HEADER)
        if message["method"] == "notifications/cancelled":
            self._cancel(owner_of(request.scope), session, message)
        opened = uuid.uuid4().hex if message["method"] == "initialize" else None
        call = _Call(owner_of(request.scope), session, _number(message.get("id")))
        return _McpResponse(self._server, raw, opened, call, self._calls)

    def _cancel(self, owner: str, session: str | None, notice: Mapping[str, object]) -> None:
        params = notice.get("params")
        number = _number(params.get("requestId")) if isinstance(params, dict) else None
        task = self._calls.get(_Call(owner, session, number))
        if session is not None and task is not None:
            task.cancel()


class _McpResponse(Response):
    """One message served by the SDK, while the client is there and has not cancelled it."""

    def __init__(
        self,
        server: "Server[dict[str, object]]",
        raw: bytes,
        opened: str | None,
        call: _Call,
        calls: _Calls,
    ) -> None:
        super().__init__()
        self._server = server
        self._raw = raw
        self._opened = opened
        self._call = call
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = _Outlet(send, self._opened)
        await while_connected(receive, self._serve(scope, outlet))
        await outlet.close()

    async def _serve(self, scope: Scope, outlet: "_Outlet") -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls[self._call] = task
        sessions = StreamableHTTPSessionManager(
            self._server,
            stateless=True,
            security_settings=_UNCHECKED,
            max_request_body_size=len(self._raw) + 1,  # it is read and measured already
        )
        try:
            async with sessions.run():
                await sessions.handle_request(scope, self._replay(), outlet.send)
        finally:
            if self._calls.get(self._call) is task:
                del self._calls[self._call]

    def _replay(self) -> Receive:
        has_read = False

        async def receive() -> Message:
            nonlocal has_read
            if has_read:
                await asyncio.Event().wait()  # departures are watched outside
            has_read = True
            return {"type": "http.request", "body": self._raw, "more_body": False}

        return receive


class _Outlet:
    """The way to the client: names the session, and gives every response an end."""

    def __init__(self, send: Send, opened: str | None) -> None:
        self._send = send
        self._opened = opened
        self._has_started = False
        self._has_ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_started = True
            if self._opened is not None:
                name = (SESSION_HEADER.encode(), self._opened.encode())
                message["headers"] = [*message.get("headers", []), name]
        elif message["type"] == "http.response.body":
            self._has_ended = not message.get("more_body", False)
        await self._send(message)

    async def close(self) -> None:
        """End what a cancelled call has left open."""
        if not self._has_started:
            await self.send({"type": "http.response.start", "status": 202, "headers": []})
        if not self._has_ended:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _read(raw: bytes) -> dict[str, object]:
    """Return a message that the SDK will take; its own refusals would echo values.

    Raises:
        RequestError: it is no JSON object that may be a body here, or no message.
    """
    message = parse_body(raw)
    try:
        jsonrpc_message_adapter.validate_python(message, by_name=False)
    except ValidationError:
        raise RequestError(
            'the body is no JSON-RPC message; send {"jsonrpc": "2.0", "id": 1, "method": ..., '
            '"params": {...}}'
        ) from None
    if message.get("id") is not None and _number(message["id"]) is None:
        raise RequestError("id must be a string or an integer; number your messages", param="id")
    return {"method": "", **message}


def _number(value: object) -> str | int | None:
    return value if isinstance(value, str | int) else None


def _refusal(error: FusionError) -> Response:
    code = PARSE_ERROR if error.code == "invalid_json" else INVALID_REQUEST
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": str(error)}}
    return Refusal(body, error, error_headers(error))
