"""Another client of the same server, who must not notice what the first one sends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.server.system import CHAT, Served, body

MODEL = "c"


@dataclass
class Neighbor:
    """Streams one answer after the other.

    Attributes:
        served: Answers that came whole.
        spoiled: What came instead of one.
    """

    server: Served
    served: int = 0
    spoiled: list[str] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream_on(self) -> None:
        while True:
            got = await self.server.http.post(CHAT, json=body(model=MODEL, stream=True))
            if got.status_code == 200 and got.text.endswith("data: [DONE]\n\n"):
                self.served += 1
            else:
                self.spoiled.append(got.text)
            self._more.set()

    async def is_served_again(self) -> None:
        """Return when an answer has come that was not there before."""
        self._more.clear()
        await self._more.wait()


@asynccontextmanager
async def neighbor(server: Served) -> AsyncGenerator[Neighbor, None]:
    """Let a client stream beside a block; every answer of his must be whole."""
    found = Neighbor(server)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(found.stream_on())
        yield found
        await found.is_served_again()
        task.cancel()
    assert found.spoiled == []
