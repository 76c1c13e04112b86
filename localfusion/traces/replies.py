"""HTTP answers kept with their traces, so that an idempotency key holds across a restart."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from localfusion.traces.rows import transaction

MOST_REPLIES = 1000


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it was sent.

    Attributes:
        id: Digest of caller, route and idempotency key.
        trace: Id of the run that is the answer.
        request: Digest of the request's body.
        ended: Seconds since 1970.
        body: All of it; of a stream, every frame.
    """

    id: str
    trace: str
    request: str
    ended: float
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def keep(connection: sqlite3.Connection, reply: Reply, oldest: float) -> None:
    """Write an answer whose run is on disk and did not fail; delete those from before a time."""
    headers = json.dumps([(k.decode("latin-1"), v.decode("latin-1")) for k, v in reply.headers])
    values = (reply.request, reply.ended, reply.status, headers, reply.body)
    with transaction(connection):
        connection.execute(
            "INSERT OR REPLACE INTO reply (id, trace, request, ended, status, headers, body) "
            "SELECT ?, place, ?, ?, ?, ?, ? FROM trace WHERE id = ? "
            "AND status NOT IN ('running', 'failed', 'interrupted')",
            (reply.id, *values, reply.trace),
        )
        connection.execute(
            "DELETE FROM reply WHERE ended < ? OR id IN "
            "(SELECT id FROM reply ORDER BY ended DESC LIMIT -1 OFFSET ?)",
            (oldest, MOST_REPLIES),
        )


def read(connection: sqlite3.Connection, oldest: float) -> list[Reply]:
    """Return the answers since a time, the oldest first."""
    found = connection.execute(
        "SELECT reply.id, trace.id, request, ended, reply.status, headers, body "
        "FROM reply JOIN trace ON trace.place = reply.trace WHERE ended >= ? ORDER BY ended",
        [oldest],
    )
    return [
        Reply(id, trace, request, ended, status, _headers(headers), body)
        for id, trace, request, ended, status, headers, body in found
    ]


def _headers(told: str) -> list[tuple[bytes, bytes]]:
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in json.loads(told)]
