"""What has happened and is not written yet: filled on the event loop, emptied by the writer."""

from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue

from localfusion.events import CallStarted, PanelCompleted, RunCompleted, RunRequested
from localfusion.traces.deltas import DELTAS
from localfusion.traces.records import ENDS, Item

MOST_ITEMS = 10_000
MOST_BYTES = 64 << 20
GATHER_SECONDS = 0.02
"""For more to come, so that one transaction takes it all."""


class Inbox:
    """A bounded queue between one thread that puts and one that takes; neither waits for room.

    Attributes:
        items: What waits, for ``put`` and for whoever adds deltas where there is room.
        most_items: That may wait.
    """

    def __init__(self, most_items: int = MOST_ITEMS, most_bytes: int = MOST_BYTES) -> None:
        self.items: deque[Item] = deque()
        self.most_items = most_items
        self._most_bytes = most_bytes
        # In C, so that a thread is woken in half the time that an Event takes.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._sleeps = False
        # Each is changed by one thread alone: what was put, and what of it is taken or written.
        self._put_news = self._put_bytes = 0
        self._taken_news = self._written_bytes = self._held = 0

    def put(self, item: Item) -> bool:
        """Take an item; False: there is no room for it.

        Only an end, or what comes to a writer that sleeps, wakes it: that costs as much as all the
        rest of an event's way.
        """
        kind, size = type(item), self._put_bytes + weigh(item)
        is_full = len(self.items) + self._held >= self.most_items
        if is_full or size - self._written_bytes > self._most_bytes:
            return False
        self._put_bytes = size
        self._put_news += kind not in DELTAS
        self.items.append(item)
        if self._sleeps or kind in ENDS:
            self._wake.put(None)
        return True

    def hurry(self) -> None:
        """Wake the writer at once: somebody waits for it."""
        self._wake.put(None)

    def wait(self, timeout: float) -> None:
        """Return when the writer is woken, at the latest after a time.

        Args:
            timeout: Seconds.
        """
        self._sleeps = timeout > GATHER_SECONDS
        with suppress(Empty):
            if not (self._sleeps and self.items):  # one that came before it slept wakes nobody
                self._wake.get(timeout=max(0.0, timeout))
            self._sleeps = False
            while True:
                self._wake.get_nowait()
        self._sleeps = False

    def take(self) -> list[Item]:
        """Return all that has come; it needs its room until it is written."""
        self._taken_news = self._put_news
        taken = [self.items.popleft() for _ in range(len(self.items))]
        self._held += len(taken)
        return taken

    def wrote(self, taken: list[Item]) -> None:
        """Give the room of what was taken free."""
        self._held -= len(taken)
        self._written_bytes += sum(map(weigh, taken))

    @property
    def has_news(self) -> bool:
        """Whether anything but deltas has come."""
        return self._put_news != self._taken_news

    @property
    def is_empty(self) -> bool:
        return not self.items


def weigh(item: Item) -> int:
    """Return about how many bytes an item keeps alive; deltas are bounded by their number."""
    match item:
        case PanelCompleted(candidate=candidate):
            return 1000 + len(candidate.text) + len(candidate.reasoning)
        case CallStarted(prompt=prompt):
            return 1000 + sum(len(message.content) for message in prompt.messages)
        case RunRequested(request=request):
            return 1000 + sum(len(message.content) for message in request.messages)
        case RunCompleted(answer=answer):
            drafts = sum(len(c.text) + len(c.reasoning) for c in answer.candidates)
            return 2000 + len(answer.text) + len(answer.reasoning) + drafts
        case _:
            return 0 if type(item) in DELTAS else 500
