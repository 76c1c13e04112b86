"""From a run's events to one client: departure, silence, stalled readers, a server that stops."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import aclosing
from typing import Protocol

from starlette.types import Receive, Scope, Send

from localfusion.errors import FusionError
from localfusion.events import Event, RunCompleted, RunFailed
from localfusion.server.envelope import ClientGoneError, draining

WRITE_SECONDS = 30.0
"""A client that reads nothing for so long is cut; without it one would hold a run for ever."""
BUFFER = 64
"""Events between run and client."""

_Queue = asyncio.Queue[Event | FusionError]


class Outlet:
    """The way to the client; every write has a time limit."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._abort: Callable[[], None] | None = scope.get("state", {}).get("abort")
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self.is_open = False
        self.last_write = self._clock()

    async def open(self, headers: Mapping[str, str]) -> None:
        """Send status 200 and the headers, once."""
        if not self.is_open:
            self.is_open = True
            raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
            await self.pass_on({"type": "http.response.start", "status": 200, "headers": raw})

    async def write(self, body: bytes) -> None:
        await self.pass_on({"type": "http.response.body", "body": body, "more_body": True})

    async def close(self) -> None:
        await self.pass_on({"type": "http.response.body", "body": b"", "more_body": False})

    async def pass_on(self, message: MutableMapping[str, object]) -> None:
        """Send a message of the server's protocol.

        Raises:
            ClientGoneError: the client has read nothing for too long, and is cut.
        """
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._send(message)
        except TimeoutError as error:
            if self._abort is not None:
                self._abort()  # closing would wait until the client reads
            raise ClientGoneError from error
        self.last_write = self._clock()


class Taker(Protocol):
    """What becomes of a run's events."""

    async def take(self, event: Event) -> None: ...

    async def keep_alive(self) -> None:
        """Say that the run still goes; called when nothing has been sent until ``silent_until``."""
        ...

    @property
    def silent_until(self) -> float | None: ...


async def relay(
    runs: Sequence[AsyncGenerator[Event, None]], reply: Taker, *, aborted: asyncio.Event
) -> None:
    """Hand the events of runs to one reply, as they come; all are closed on every way out.

    Raises:
        FusionError: what the run was refused for or failed at, or that the server stops.
        ClientGoneError: the client does not read.
    """
    queue: _Queue = asyncio.Queue(BUFFER)
    async with asyncio.TaskGroup() as group:
        sources = (
            *(group.create_task(_fill(queue, events)) for events in runs),
            group.create_task(_fail_when(aborted, queue)),
        )
        failure = await _hand_on(queue, reply, len(runs))
        for source in sources:
            source.cancel()
    if failure is not None:
        raise failure


async def _fill(queue: _Queue, events: AsyncGenerator[Event, None]) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                await queue.put(event)
                if isinstance(event, RunCompleted | RunFailed):
                    return
    except FusionError as error:
        await queue.put(error)
    else:
        raise AssertionError("a run ends with RunCompleted or RunFailed")


async def _fail_when(aborted: asyncio.Event, queue: _Queue) -> None:
    await aborted.wait()
    await queue.put(draining())


async def _hand_on(
    queue: _Queue, reply: Taker, running: int
) -> FusionError | ClientGoneError | None:
    # The failure is returned, for raised inside a TaskGroup it would arrive as a group of one.
    try:
        while True:
            try:
                async with asyncio.timeout_at(reply.silent_until):
                    event = await queue.get()
            except TimeoutError:
                await reply.keep_alive()
                continue
            match event:
                case FusionError():
                    return event
                case RunFailed():
                    return event.error
            await reply.take(event)
            running -= isinstance(event, RunCompleted)
            if not running:
                return None
    except ClientGoneError as error:
        return error


async def while_connected(receive: Receive, work: Coroutine[None, None, object]) -> None:
    """Do the work of a request whose body has been read; cancel it when the client leaves."""
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(work)
        watcher = group.create_task(_wait_for_departure(receive))
        watcher.add_done_callback(lambda _: worker.cancel())
        worker.add_done_callback(lambda _: watcher.cancel())


async def _wait_for_departure(receive: Callable[[], Awaitable[Mapping[str, object]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
