"""Requests in this process and over HTTP, and what became of each."""

import asyncio
import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

from localfusion.client import RemoteFusion
from localfusion.errors import FusionError
from localfusion.events import RunCompleted, RunFailed
from localfusion.fusion import Fusion
from localfusion.types import Message, Request
from soaks.system import DEADLINE, PRESET

CLIENTS = 12
THINK = 0.4
"""Mean seconds between a client's requests."""
OVER_HTTP = 0.6
LEAVING = 0.05
BURST = 40
SLACK = 5.0
"""Seconds past its deadline after which a request counts as lost; the machine may be busy."""
BUG = "internal_error"
"""Code of an error that nobody planned, and of a connection that broke."""


@dataclass
class Tally:
    """What became of requests.

    Attributes:
        answers: By the answer's status.
        errors: By the error's code.
        lost: What happened to those with neither.
        slowest: Seconds from request to end.
    """

    requests: int = 0
    over_http: int = 0
    left: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Load:
    """Clients that ask again and again."""

    def __init__(self, fusion: Fusion, remote: RemoteFusion, seed: float) -> None:
        self.tally = Tally()
        self._local = fusion
        self._remote = remote
        self._rng = random.Random(seed)
        self._is_over = False

    async def run(self, seconds: float) -> None:
        """Ask for so long; returns when every request has ended."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._ask_again_and_again())
            await asyncio.sleep(seconds)
            self._is_over = True

    async def burst(self) -> None:
        """Ask many things at once."""
        async with asyncio.TaskGroup() as group:
            for _ in range(BURST):
                group.create_task(self.ask())

    async def _ask_again_and_again(self) -> None:
        while not self._is_over:
            await asyncio.sleep(self._rng.expovariate(1 / THINK))
            await self.ask()

    async def ask(self) -> None:
        """Ask one thing and note how it ended; some clients leave before."""
        tally, clock = self.tally, asyncio.get_running_loop().time
        tally.requests += 1
        is_remote = self._rng.random() < OVER_HTTP
        tally.over_http += is_remote
        patience = self._rng.expovariate(1.0) if self._rng.random() < LEAVING else None
        began = clock()
        try:
            async with asyncio.timeout(patience or DEADLINE + SLACK):
                await self._ask(self._remote if is_remote else self._local)
        except TimeoutError:
            if patience is None:
                tally.lost.append(f"no end after {clock() - began:.1f} s")
            else:
                tally.left += 1
        except FusionError as error:
            if error.code == BUG:
                tally.lost.append(f"{type(error).__name__}: {error}")
            else:
                tally.errors[error.code] += 1
        tally.slowest = max(tally.slowest, clock() - began)

    async def _ask(self, fusion: Fusion | RemoteFusion) -> None:
        words = " ".join(self._rng.choices(["pens", "cost", "how", "many", "euros"], k=20))
        request = Request(PRESET, (Message("user", words),))
        async with aclosing(fusion.stream(request)) as events:
            async for event in events:
                match event:
                    case RunCompleted(answer=answer):
                        self.tally.answers[answer.status] += 1
                        return
                    case RunFailed(error=error):
                        raise error
        self.tally.lost.append("the stream ended without an end")
