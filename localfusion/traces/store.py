"""Reads traces, beside whoever writes them: lists, searches, whole ones. Holds nothing open."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from localfusion.traces.database import damaged, explain, open_reader
from localfusion.traces.form import Json, join, summarize, unpack
from localfusion.traces.messages import read_message
from localfusion.traces.rows import COLUMNS, FILTERS, facet
from localfusion.traces.trace import TraceStatus

MAX_LIMIT = 200
DEFAULT_LIMIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which traces are wanted; None: no matter.

    Attributes:
        words: All of them in the question or the answer.
        key: Whose.
        model: Who wrote the answer.
        before: Only those behind this cursor, in the order of a list.
    """

    limit: int = DEFAULT_LIMIT
    before: int | None = None
    words: str | None = None
    key: str | None = None
    status: TraceStatus | None = None
    preset: str | None = None
    policy: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some traces, the newest first.

    Attributes:
        traces: As a list shows them.
        cursor: Where the next page begins, None where there is none.
    """

    traces: Sequence[Json]
    cursor: int | None = None


class TraceStore:
    """The traces in a database file.

    Args:
        file: It; where it is missing there are no traces.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def list(self, query: Query) -> Page:
        """Return the newest traces that are wanted.

        Raises:
            TraceError: the file cannot be read.
        """
        if not self.file.exists():
            return Page(())
        sql, values = _select(query)
        with closing(open_reader(self.file)) as connection:
            try:
                found = connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise explain(self.file, error) from error
        shown = found[: query.limit]
        cursor = shown[-1][0] if len(found) > query.limit else None
        return Page([summarize(_summary(row)) for row in shown], cursor)

    def get(self, id: str, key: str | None = None) -> Json | None:
        """Return a trace in its JSON form; None: there is none, or it is not this key's.

        Raises:
            TraceError: the file cannot be read, or this trace is damaged.
        """
        if not self.file.exists():
            return None
        with closing(open_reader(self.file)) as connection:
            try:
                connection.execute("BEGIN")  # all of it as it was at one moment
                return read_trace(connection, id, key)
            except sqlite3.Error as error:
                raise explain(self.file, error) from error
            except ValueError as error:
                raise damaged(self.file, f"trace {id}: {error}") from error

    def ids(self) -> Iterator[str]:
        """Yield the ids of all traces, the oldest first.

        Raises:
            TraceError: the file cannot be read.
        """
        if not self.file.exists():
            return
        with closing(open_reader(self.file)) as connection:
            try:
                found = connection.execute("SELECT id FROM trace ORDER BY place").fetchall()
            except sqlite3.Error as error:
                raise explain(self.file, error) from error
        yield from (id for (id,) in found)


def _select(query: Query) -> tuple[str, Sequence[object]]:
    """Return the statement of a list, one row longer than asked, so that it shows whether more is.

    Words are bound as phrases in quotation marks: no text is syntax.
    """
    source, order = "trace", "trace.place"
    conditions: list[str] = []
    values: list[object] = []
    wanted = {name: getattr(query, name) for name in FILTERS}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if query.words is not None:
        source, order = "words JOIN trace ON trace.place = words.rowid", "words.rowid"
        conditions.append("words MATCH ?")
        values.append(_match(query.words, [facet(n, v) for n, v in wanted.items() if v]))
    for name, value in wanted.items():
        conditions.append(f"trace.{name} = ?")
        values.append(value)
    if query.before is not None:
        conditions.append(f"{order} < ?")
        values.append(query.before)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = ", ".join(f"trace.{name}" for name in COLUMNS)
    sql = (
        f"SELECT trace.place, {columns}, content FROM {source} {where} "
        f"ORDER BY {order} DESC LIMIT ?"
    )
    return sql, [*values, query.limit + 1]


def _match(text: str, facets: Sequence[str]) -> str:
    """Return a search for all words of a text, in whatever order, and for all facets."""
    words = text.replace("\0", " ").split() or [""]
    phrases = " ".join('"' + word.replace('"', '""') + '"' for word in words)
    narrowed = f" AND facets : ({' '.join(facets)})" if facets else ""
    return f"{{question answer}} : ({phrases}){narrowed}"


def _summary(row: Sequence[object]) -> Json:
    _, *values, content = row
    told = dict(zip(COLUMNS, values, strict=True))
    return {**told, "members": json.loads(str(told["members"])), "content": content}


def read_trace(connection: sqlite3.Connection, id: str, key: str | None = None) -> Json | None:
    """Return a trace in its JSON form, in a transaction; None: as ``TraceStore.get``.

    Raises:
        ValueError: it is damaged.
    """
    row = connection.execute(
        f"SELECT place, {', '.join(COLUMNS)}, content FROM trace "
        "WHERE id = ? AND (? IS NULL OR key = ?)",
        [id, key, key],
    ).fetchone()
    if row is None:
        return None
    place = row[0]
    head = connection.execute("SELECT body FROM head WHERE trace = ?", [place]).fetchone()
    pieces = connection.execute("SELECT body FROM event WHERE trace = ? ORDER BY place", [place])
    events = [event for (body,) in pieces for event in cast("list[Json]", unpack(body))]
    prompts = []
    known: dict[int, Json] = {}
    calls = connection.execute(
        "SELECT messages, body FROM call WHERE trace = ? ORDER BY place", [place]
    )
    for ids, body in calls:
        messages = [read_message(connection, number, known) for number in json.loads(ids)]
        prompts.append({**cast("Json", unpack(body)), "messages": messages})
    told = None if head is None else cast("Json", unpack(head[0]))
    return join(_summary(row), told, events, prompts)
