"""Requests that are sent again with the same ``Idempotency-Key``: one run, one answer for all.

While the run goes, whoever sends the request again gets the same bytes as they come; afterwards the
kept answer. The run ends early only when nobody listens any more. Kept in memory, and with the
trace where texts are kept: before the last byte is sent, so that a restart forgets nothing.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from localfusion.errors import RequestError, TraceError
from localfusion.server.access import owner_of
from localfusion.server.envelope import IdempotencyError
from localfusion.server.relay import while_connected
from localfusion.server.view import TRACE_HEADER
from localfusion.traces import Reply, Traces
from localfusion.traces.writer import ACKNOWLEDGE_SECONDS

logger = logging.getLogger(__name__)

KEPT_SECONDS = 600.0
MOST_ENTRIES = 1000
MOST_BYTES = 64 << 20
MAX_KEY = 255
RECALL_SECONDS = 5.0
"""For a file that does not answer."""
HEADER = "idempotency-key"

Work = Callable[[Send], Awaitable[bool]]
"""Answers through ``send``; says whether what it sent may be kept for others."""
_Place = str
"""Digest of caller, route and key."""


@dataclass(slots=True, eq=False)
class Shared:
    """One answer and those who get it.

    Attributes:
        digest: Of the body that asked for it.
        ended: When it was whole; None: it still goes.
        abandon: Ends the run that nobody listens to any more.
    """

    digest: str
    messages: list[MutableMapping[str, object]] = field(default_factory=list)
    size: int = 0
    ended: float | None = None
    listeners: int = 0
    abandon: Callable[[], None] | None = None
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, message: Message) -> None:
        """Take a part of the answer."""
        self.messages.append(dict(message))
        body = message.get("body", b"")
        self.size += len(body)
        self._wake()

    def end(self, now: float) -> None:
        self.ended = now
        self._wake()

    async def feed(self, receive: Receive, send: Send) -> None:
        """Send the answer to one client, as it comes; the last one that leaves ends the run."""
        self.listeners += 1
        try:
            await while_connected(receive, self._copy(send))
        finally:
            self.listeners -= 1
            if not self.listeners and self.ended is None and self.abandon is not None:
                self.abandon()

    async def _copy(self, send: Send) -> None:
        place = 0
        while True:
            while place < len(self.messages):
                await send(dict(self.messages[place]))
                place += 1
            if self.ended is not None:
                return
            await self._grown.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


class KeptReplies:
    """Answers by caller, route and key; the oldest leave when there are too many or too much.

    Args:
        traces: Keep them across a restart; None: nothing does.
        clock: Seconds.
    """

    def __init__(
        self, traces: Traces | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._traces = traces
        self._clock = clock
        self._kept: OrderedDict[_Place, Shared] = OrderedDict()
        self._has_recalled = traces is None
        self._recalling = asyncio.Lock()

    async def share(self, key: str, scope: Scope, receive: Receive, send: Send, work: Work) -> None:
        """Answer a request that has a key: by doing the work, or with what came of it before.

        Args:
            key: The client's.
            scope: Of the request, its body read.
            receive: Tells when the client leaves.
            send: To the client.
            work: Done once for all requests of this key.

        Raises:
            IdempotencyError: the key came with another body before.
        """
        place, digest = _place(key, scope), scope["state"].get("digest", "")
        await self._recall()
        self._purge()
        shared = self._kept.get(place)
        if shared is None:
            await self._begin(place, Shared(digest), (receive, send), work)
            return
        if shared.digest != digest:
            raise IdempotencyError(
                "this idempotency-key came with another body before; use a new one"
            )
        if shared.ended is not None:
            send = _marked(send)
        await shared.feed(receive, send)

    async def _begin(
        self, place: _Place, shared: Shared, first: tuple[Receive, Send], work: Work
    ) -> None:
        self._kept[place] = shared
        try:
            async with asyncio.TaskGroup() as group:
                worker = group.create_task(self._work(place, shared, work))

                def abandon() -> None:
                    # At once: who asks again while the run still cleans up begins another.
                    self._forget(place, shared)
                    worker.cancel()

                shared.abandon = abandon
                group.create_task(shared.feed(*first))
        finally:
            if shared.ended is None:  # cancelled before the work began
                self._forget(place, shared)

    async def _work(self, place: _Place, shared: Shared, work: Work) -> None:
        is_good = False

        async def write(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await self._keep(place, shared, message)
            await shared.write(message)

        try:
            is_good = await work(write)
        finally:
            shared.end(self._clock())
            if not is_good:
                self._forget(place, shared)  # asking again may go better
            self._purge()

    async def _keep(self, place: _Place, shared: Shared, last: Message) -> None:
        """Keep an answer before its last part is sent; a sick file leaves it to the memory."""
        start = shared.messages[0]
        headers = cast("Sequence[tuple[bytes, bytes]]", start.get("headers", ()))
        trace = Headers(raw=list(headers)).get(TRACE_HEADER)
        if self._traces is None or start["status"] != 200 or trace is None:
            return
        parts = [cast("bytes", message.get("body", b"")) for message in (*shared.messages, last)]
        now = time.time()
        reply = Reply(place, trace, shared.digest, now, 200, headers, b"".join(parts))
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                await self._traces.keep_reply(reply, now - KEPT_SECONDS)
        except (TraceError, TimeoutError) as error:
            logger.warning("an idempotency key will not hold across a restart: %r", error)

    async def _recall(self) -> None:
        """Take up, once, what an earlier process has kept."""
        async with self._recalling:
            if self._has_recalled or self._traces is None:
                return
            self._has_recalled = True
            try:
                async with asyncio.timeout(RECALL_SECONDS):
                    kept = await self._traces.replies(time.time() - KEPT_SECONDS)
            except (TraceError, TimeoutError) as error:
                logger.warning("idempotency keys of an earlier process are not known: %r", error)
                return
            for reply in kept:
                shared = Shared(reply.request, ended=self._clock() - (time.time() - reply.ended))
                start = {"status": reply.status, "headers": [*reply.headers]}
                await shared.write({"type": "http.response.start", **start})
                await shared.write({"type": "http.response.body", "body": reply.body})
                self._kept.setdefault(reply.id, shared)

    def _forget(self, place: _Place, shared: Shared) -> None:
        if self._kept.get(place) is shared:
            del self._kept[place]

    def _purge(self) -> None:
        now, ended = self._clock(), []
        for place, shared in self._kept.items():
            if shared.ended is not None:
                ended.append((shared.ended, place))
        size = sum(shared.size for shared in self._kept.values())
        for when, place in sorted(ended):
            is_crowded = len(self._kept) > MOST_ENTRIES or size > MOST_BYTES
            if now - when <= KEPT_SECONDS and not is_crowded:
                return
            size -= self._kept.pop(place).size


def read_key(values: Sequence[str]) -> str | None:
    """Return the idempotency key of a request, None where it has none.

    Raises:
        RequestError: it is too long, not ASCII, or there are two.
    """
    if not values:
        return None
    (first, *others) = values
    is_plain = first.isascii() and first.isprintable() and 0 < len(first) <= MAX_KEY
    if others or not is_plain:
        raise RequestError(
            f"the header idempotency-key must be one text of 1 to {MAX_KEY} ASCII characters; "
            "send a shorter one",
            code="out_of_range",
            param=HEADER,
        )
    return first


def _place(key: str, scope: Scope) -> _Place:
    named = json.dumps([owner_of(scope), scope["path"], key])
    return hashlib.sha256(named.encode()).hexdigest()


def _marked(send: Send) -> Send:
    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"idempotent-replayed", b"true")]
            message = {**message, "headers": headers}
        await send(message)

    return send_marked
