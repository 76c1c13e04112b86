"""An event loop whose clock jumps to the next timer: a 1,000 s straggler costs nothing.

Mark a module (``pytestmark = pytest.mark.virtual_time``) or one test
(``@pytest.mark.virtual_time``); the test is then an ordinary ``async def`` on a ``VirtualLoop`` of
its own, whose ``asyncio.get_running_loop().time()`` starts at 0 and can be asserted exactly.
Properties under hypothesis stay synchronous and call ``run(coroutine)`` for each example.

In process only: sockets, child processes and threads answer in real time, which a jumping clock
does not wait for. Such tests use the ordinary loop.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import TypeVar

T = TypeVar("T")

DEADLOCK = 10.0
"""Real seconds without a timer, a ready callback or a wake-up from a thread."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Never waits for a timer: when nothing else is ready, it is already that late."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing is done, as code that blocks the loop would."""
        self._now += seconds

    def jump(self) -> None:
        """Set the clock to the next timer's own time, which is free of rounding."""
        timers = self._scheduled  # type: ignore[attr-defined]  # no public way to the next timer
        self._now = max(self._now, timers[0].when())


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            events = super().select(DEADLOCK)
            if not events:
                raise RuntimeError("deadlock: every task waits and no timer is set")
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self._loop.jump()
        return events


BACKEND: tuple[str, Mapping[str, object]] = ("asyncio", {"loop_factory": VirtualLoop})
"""What the ``anyio_backend`` fixture gives to marked tests."""


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on a fresh VirtualLoop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
