"""The rows of a trace as they are written; each function is one statement in a transaction."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from localfusion.traces.form import Json, pack
from localfusion.traces.trace import Content, Summary

Place = tuple[int, int]
"""Of a trace, and the number of a row of its own."""

FILTERS = ("key", "status", "preset", "policy", "model")
"""Columns by which lists and searches can be narrowed."""
COLUMNS = tuple(column.name for column in fields(Summary))
_VALUES = ", ".join(f":{name}" for name in COLUMNS)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done in the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends some by itself, such as on a full disk
            connection.execute("ROLLBACK")
        raise


def insert_summary(connection: sqlite3.Connection, summary: Summary, content: Content) -> int:
    """Begin a trace and return its place."""
    cursor = connection.execute(
        f"INSERT INTO trace ({', '.join(COLUMNS)}, content) VALUES ({_VALUES}, :content)",
        {name: _column(getattr(summary, name)) for name in COLUMNS} | {"content": content},
    )
    assert cursor.lastrowid is not None  # it was an INSERT
    return cursor.lastrowid


def update_summary(
    connection: sqlite3.Connection, place: int, before: Summary, after: Summary
) -> None:
    """Replace what lists show of a trace.

    What is as before is left out, for its index would be written too.
    """
    changed = {
        name: _column(value)
        for name in COLUMNS
        if (value := getattr(after, name)) != getattr(before, name)
    }
    if changed:
        changes = ", ".join(f"{name} = ?" for name in changed)
        values = [*changed.values(), place]
        connection.execute(f"UPDATE trace SET {changes} WHERE place = ?", values)


def insert_head(connection: sqlite3.Connection, place: int, head: object) -> None:
    """Write what was known when the run began."""
    connection.execute("INSERT INTO head (trace, body) VALUES (?, ?)", [place, pack(head)])


def insert_events(
    connection: sqlite3.Connection, place: Place, packed: bytes, *, are_deltas: bool = False
) -> None:
    """Write some events, as ``pack_events`` has packed them."""
    connection.execute(
        "INSERT INTO event (trace, place, is_delta, body) VALUES (?, ?, ?, ?)",
        [*place, are_deltas, packed],
    )


def delete_deltas(connection: sqlite3.Connection, place: int) -> None:
    """Drop the pieces of streams that a later event has whole."""
    connection.execute("DELETE FROM event WHERE trace = ? AND is_delta", [place])


def insert_call(
    connection: sqlite3.Connection, place: Place, messages: Sequence[int], body: Json
) -> None:
    """Write a call of an engine.

    Args:
        connection: In a transaction.
        place: Of the call.
        messages: Ids of its turns.
        body: Its other fields.
    """
    connection.execute(
        "INSERT INTO call (trace, place, messages, body) VALUES (?, ?, ?, ?)",
        [*place, json.dumps(list(messages)), pack(body)],
    )


def finish(connection: sqlite3.Connection, place: int) -> None:
    """Note that nothing is left to do for a trace."""
    connection.execute("UPDATE trace SET finished = 1 WHERE place = ?", [place])


def index(
    connection: sqlite3.Connection, place: int, summary: Summary, question: str, answer: str
) -> None:
    """Let a trace that has ended be found by its words."""
    facets = [facet(name, value) for name in FILTERS if (value := getattr(summary, name))]
    connection.execute(
        "INSERT OR REPLACE INTO words (rowid, question, answer, facets) VALUES (?, ?, ?, ?)",
        [place, _storable(question), _storable(answer), " ".join(facets)],
    )


def facet(name: str, value: str) -> str:
    """Return one word for a column's value, whatever is in it."""
    return name + value.encode("utf-8", "replace").hex()


def _column(value: object) -> object:
    if isinstance(value, str):
        return _storable(value)
    return json.dumps(value) if isinstance(value, tuple) else value


def _storable(text: str) -> str:
    """Return text that has UTF-8: half a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode()
