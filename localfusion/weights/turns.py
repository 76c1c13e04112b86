"""A few may work at once, and who waits goes in order of importance."""

import heapq
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count


class Turns:
    """A semaphore with a queue: of those who wait, the lowest rank goes first.

    Args:
        places: How many may be inside at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._arrivals = count()

    @contextmanager
    def turn(self, rank: int) -> Iterator[None]:
        """Hold a place while the block runs."""
        with self._changed:
            ticket = (rank, next(self._arrivals))
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
