"""From runs' events to one client: departure, silence, a server that stops."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Protocol

from starlette.types import Receive, Send

from localfusion.errors import FusionError
from localfusion.events import Event, RunFailed
from localfusion.fusion.fusion import Fusion
from localfusion.server.envelope import draining
from localfusion.types import Request

_Outcome = asyncio.Task[FusionError | None]


class Outlet:
    """The way to the client. One that does not read is cut by its connection."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._clock = asyncio.get_running_loop().time
        # Runs write side by side, and a silence may end in the middle of a write.
        self._turn = asyncio.Lock()
        self.is_open = False
        self.last_write = self._clock()

    async def write(self, body: bytes, headers: Callable[[], Mapping[str, str]]) -> None:
        """Send a part of the body.

        Args:
            body: The part.
            headers: Called before the first part, which status 200 and these precede.
        """
        async with self._turn:
            if not self.is_open:
                self.is_open = True
                raw = [(key.encode(), value.encode("latin-1")) for key, value in headers().items()]
                await self._send({"type": "http.response.start", "status": 200, "headers": raw})
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.last_write = self._clock()

    async def close(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class Taker(Protocol):
    """What becomes of a run's events."""

    async def take(self, event: Event) -> None: ...

    async def keep_alive(self) -> None:
        """Say that the run still goes; called when nothing has been sent until ``silent_until``."""
        ...

    @property
    def silent_until(self) -> float | None: ...


async def relay(
    fusion: Fusion, requests: Sequence[Request], reply: Taker, *, aborted: asyncio.Event
) -> None:
    """Run requests and hand their events to one reply; all runs end on every way out.

    Raises:
        FusionError: what a run was refused for or failed at, or that the server stops.
    """
    # A failure is handed over, for raised inside a TaskGroup it would come as a group of one.
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(_run(fusion, request, reply)) for request in requests]
        stop = group.create_task(_stop(aborted))
        failure = await _first_failure(runs, stop, reply)
        for task in (*runs, stop):
            task.cancel()
    if failure is not None:
        raise failure


async def _run(fusion: Fusion, request: Request, reply: Taker) -> FusionError | None:
    async def take(event: Event) -> None:
        if not isinstance(event, RunFailed):  # it comes as an error too
            await reply.take(event)

    try:
        await fusion.run(request, take)
    except FusionError as error:
        return error
    return None


async def _stop(aborted: asyncio.Event) -> FusionError | None:
    await aborted.wait()
    return draining()


async def _first_failure(
    runs: Collection[_Outcome], stop: _Outcome, reply: Taker
) -> FusionError | None:
    """Wait until all runs have ended well or anything has not; break silences meanwhile."""
    clock = asyncio.get_running_loop().time
    left = {*runs, stop}
    while left != {stop}:
        until = reply.silent_until
        if until is not None and until <= clock():
            await reply.keep_alive()
            continue
        timeout = None if until is None else until - clock()
        done, left = await asyncio.wait(left, timeout=timeout, return_when=FIRST_COMPLETED)
        for task in done:
            if failure := task.result():
                return failure
    return None


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
