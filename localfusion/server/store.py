"""Stored responses: what ``previous_response_id`` and ``GET /v1/responses/{id}`` find again.

They live in memory and end with the process. Whoever keeps them elsewhere implements
``ResponseStore``.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from localfusion.server.envelope import NotFoundError

MAX_COUNT = 1000
MAX_BYTES = 64 << 20
MAX_AGE = 30 * 86_400.0
"""Seconds; the hosted service keeps responses as long."""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and what it answered.

    Attributes:
        body: The response object.
        items: Its whole input as items, earlier turns included.
    """

    body: Mapping[str, object]
    items: Sequence[Mapping[str, object]]

    @property
    def id(self) -> str:
        return str(self.body["id"])


class ResponseStore(Protocol):
    """Keeps responses, each for its owner alone."""

    def put(self, owner: str, response: StoredResponse) -> None:
        """Keep a response under its id; what is too much or too old leaves."""
        ...

    def get(self, owner: str, id: str) -> StoredResponse:
        """Find a response.

        Raises:
            NotFoundError: there is none, or it is another owner's.
        """
        ...

    def delete(self, owner: str, id: str) -> None:
        """Forget a response.

        Raises:
            NotFoundError: there is none, or it is another owner's.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: str
    content: bytes
    born: float


class MemoryStore:
    """Keeps the newest responses, as JSON: its size is known, and nobody shares its parts.

    Args:
        max_count: Responses.
        max_bytes: Of all together.
        max_age: Seconds.
        clock: In seconds.
    """

    def __init__(
        self,
        *,
        max_count: int = MAX_COUNT,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def put(self, owner: str, response: StoredResponse) -> None:
        # ASCII: a lone surrogate of a model has no UTF-8.
        content = json.dumps([response.body, response.items], separators=(",", ":")).encode()
        if response.id in self._entries:
            self._drop(response.id)
        self._entries[response.id] = _Entry(owner, content, self._clock())
        self._bytes += len(content)
        self._purge()

    def get(self, owner: str, id: str) -> StoredResponse:
        body, items = json.loads(self._find(owner, id).content)
        return StoredResponse(body, items)

    def delete(self, owner: str, id: str) -> None:
        self._find(owner, id)
        self._drop(id)

    def _find(self, owner: str, id: str) -> _Entry:
        self._purge()
        entry = self._entries.get(id)
        if entry is None or entry.owner != owner:
            raise NotFoundError(
                "there is no stored response of this id; it may have been created with "
                "store: false, or the server was started again since"
            )
        return entry

    def _purge(self) -> None:
        oldest_allowed = self._clock() - self._max_age
        while self._entries:
            id, entry = next(iter(self._entries.items()))
            is_full = len(self._entries) > self._max_count or self._bytes > self._max_bytes
            if not is_full and entry.born > oldest_allowed:
                return
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._bytes -= len(self._entries.pop(id).content)
