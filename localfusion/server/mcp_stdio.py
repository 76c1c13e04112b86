"""MCP over standard input and output: tools of this process, or those of a running server."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from localfusion import __version__
from localfusion.server.mcp_tools import INSTRUCTIONS

_PIECE = 1 << 16

Connect = Callable[[], AbstractAsyncContextManager[Client]]
_Told = tuple[float, float | None, str | None]
_Context = ServerRequestContext[dict[str, object], object]


async def serve_stdio(server: "Server[dict[str, object]]", limit: int) -> None:
    """Serve one client until it closes our input; calls that still go are ended.

    While it serves, descriptor 1 leads to standard error, so that nothing but the protocol reaches
    the client.

    Args:
        server: Has the tools.
        limit: Bytes of the longest message.
    """
    lines = _Lines(sys.stdin.fileno(), limit)
    # The SDK only iterates; its own reader is a thread, for which a Ctrl-C would have to wait.
    try:
        async with stdio_server(stdin=lines) as (reads, writes):  # type: ignore[arg-type]
            await server.run(reads, writes, server.create_initialization_options())
    except* anyio.BrokenResourceError:
        pass  # the SDK's reader held a message when the session was over: nobody is left to take it
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # else the cancellation would be lost with it
        raise asyncio.CancelledError


def forward(connect: Connect, preset: str | None) -> "Server[dict[str, object]]":
    """Build a server with the tools of another one.

    Args:
        connect: Connects to it for one message: it may go away, and be there again.
        preset: Answers calls of ``fuse`` that name none; None: as that server says.
    """

    async def list_tools(
        context: _Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        failure = ""
        try:
            async with connect() as client:
                return await client.list_tools()
        except* (MCPError, httpx2.HTTPError) as group:
            failure = _first(group)
        raise MCPError(INTERNAL_ERROR, _broken(failure))

    async def call_tool(context: _Context, params: CallToolRequestParams) -> CallToolResult:
        defaults = {"preset": preset} if preset is not None and params.name == "fuse" else {}
        arguments: Mapping[str, object] = {**defaults, **(params.arguments or {})}
        failure = ""
        try:
            async with connect() as client:
                return await _call(client, params.name, arguments, context.session)
        except* (MCPError, httpx2.HTTPError) as group:
            failure = _first(group)
        return CallToolResult(content=[TextContent(text=_broken(failure))], is_error=True)

    return Server(
        "localfusion",
        version=__version__,
        title="localfusion",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _call(
    client: Client, name: str, arguments: Mapping[str, object], session: ServerSession
) -> CallToolResult:
    """Call a tool; progress that came before its result is told before it, too."""
    told: asyncio.Queue[_Told | None] = asyncio.Queue()

    async def keep(progress: float, total: float | None, message: str | None) -> None:
        told.put_nowait((progress, total, message))

    async def pass_on() -> None:
        while (item := await told.get()) is not None:
            await session.report_progress(*item)

    async with asyncio.TaskGroup() as group:
        group.create_task(pass_on())
        result = await client.call_tool(name, dict(arguments), progress_callback=keep)
        told.put_nowait(None)
    return result


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def _broken(message: str) -> str:
    return f"the server broke off: {message}; start it again with localfusion serve"


class _Lines:
    """The lines of a descriptor, without its flags being changed and without a thread."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._buffer = bytearray()
        self._is_skipping = False

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> bytes:
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                if not self._is_skipping:
                    return bytes(line)
                self._is_skipping = False
                continue
            if len(line) > self._limit:
                self._skip()
            piece = await self._read()
            if not piece:
                raise StopAsyncIteration
            self._buffer += piece

    def _skip(self) -> None:
        if not self._is_skipping:
            sys.stderr.write(
                f"a message of more than {self._limit} bytes was dropped; raise limits.body_bytes\n"
            )
        self._is_skipping = True
        self._buffer.clear()

    async def _read(self) -> bytes:
        with suppress(PermissionError):  # a file, which can always be read
            await anyio.wait_readable(self._descriptor)
        return os.read(self._descriptor, _PIECE)
