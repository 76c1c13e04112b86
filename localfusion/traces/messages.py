"""Turns of conversations in the database, each kept once whatever has it.

A turn is found by its digest. One that begins like a turn before it, as the judge's does with every
further draft, is stored as what comes behind the common beginning.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import TypeAdapter

from localfusion.traces.content import redact
from localfusion.traces.form import Json, line, pack, unpack
from localfusion.traces.trace import Content
from localfusion.types import Message

LEAST_COMMON = 64
"""Characters for which it is worth it to refer to another message."""

_MESSAGE = TypeAdapter(Message)


@dataclass(slots=True)
class Conversation:
    """The turns of one run's prompts that the database has already.

    Args:
        trace: The run's place.
        content: What may be kept.
    """

    trace: int
    content: Content
    _known: dict[Message, int] = field(default_factory=dict)
    _before: dict[int, tuple[str, int]] = field(default_factory=dict)

    def put(self, connection: sqlite3.Connection, place: int, message: Message) -> int:
        """Keep a turn and return its id.

        Args:
            connection: In a transaction.
            place: Which turn of the prompt it is; the one that was there before may begin alike.
            message: The turn.
        """
        if message not in self._known:
            told: Json = _MESSAGE.dump_python(message, mode="json")
            self._known[message] = self.put_form(connection, place, told)
        return self._known[message]

    def put_form(self, connection: sqlite3.Connection, place: int, told: Json) -> int:
        """Keep a turn that is JSON values already."""
        told = cast("Json", redact(told, self.content))
        digest = hashlib.sha256(line(told)).digest()
        found = connection.execute("SELECT id FROM message WHERE digest = ?", [digest]).fetchone()
        text = str(told["content"])
        id = found[0] if found else self._insert(connection, place, digest, told)
        connection.execute(
            "INSERT OR IGNORE INTO message_use WITH RECURSIVE needed (id) AS (VALUES (?) UNION "
            "SELECT base FROM message JOIN needed USING (id) WHERE base IS NOT NULL) "
            "SELECT ?, id FROM needed",
            [id, self.trace],
        )
        self._before[place] = (text, id)
        return int(id)

    def _insert(self, connection: sqlite3.Connection, place: int, digest: bytes, told: Json) -> int:
        text = str(told["content"])
        before, base = self._before.get(place, ("", None))
        kept = common_beginning(before, text)
        if kept < LEAST_COMMON:
            base, kept = None, 0
        cursor = connection.execute(
            "INSERT INTO message (digest, base, kept, body) VALUES (?, ?, ?, ?)",
            [digest, base, kept, pack(told | {"content": text[kept:]})],
        )
        assert cursor.lastrowid is not None  # it was an INSERT
        return cursor.lastrowid


def read_message(
    connection: sqlite3.Connection, id: int, known: dict[int, Json] | None = None
) -> Mapping[str, object]:
    """Return a turn as JSON values.

    Args:
        connection: May read.
        id: Of the message.
        known: Turns that have been read, which others may begin with.

    Raises:
        ValueError: it is not there, or damaged.
    """
    known = {} if known is None else known
    chain, rows = id, []
    while chain not in known:
        row = connection.execute(
            "SELECT base, kept, body FROM message WHERE id = ?", [chain]
        ).fetchone()
        if row is None:
            raise ValueError("a message is missing")
        rows.append((chain, *row))
        if row[0] is None:
            break
        chain = row[0]
    for own, base, kept, body in reversed(rows):
        told = cast("Json", unpack(body))
        if base is not None:
            told["content"] = str(known[base]["content"])[:kept] + str(told["content"])
        known[own] = told
    return known[id]


def common_beginning(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first.startswith(second[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
