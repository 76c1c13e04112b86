"""Old and many traces go; of what is deleted nothing is left in any file."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.engines.sim import SimEngine
from localfusion.errors import RequestError
from localfusion.traces import Query
from localfusion.traces.database import open_reader
from localfusion.traces.upkeep import DAY, delete
from localfusion.types import Message, Request
from tests.traces.conftest import Kept, asked, bytes_of, fusion, keeping

SECRET = "Quarzuhr"


def scramble(length: int, seed: int) -> str:
    """Return text that nothing can be left out of."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=length))


async def fill(kept: Kept, secrets: int = 20, others: int = 20) -> list[str]:
    """Keep traces with the secret between others; return the ids of those with it."""
    found: list[str] = []
    for number in range(secrets + others):
        is_secret = number % 2 == 0 and len(found) < secrets
        word = SECRET if is_secret else "Wanduhr"
        draft = SimEngine(f"{word} {scramble(900, number)}", name="a")
        answer = await kept.run(asked(f"{word} {scramble(400, -number)}"), a=draft)
        if is_secret:
            found.append(answer.run_id)
    return found


def stored_bodies(file: Path, ids: list[str]) -> list[bytes]:
    """Return the packed bytes that belong to some traces alone."""
    marks = ", ".join("?" for _ in ids)
    with closing(open_reader(file)) as reader:
        rows = reader.execute(
            "SELECT event.body FROM event JOIN trace ON trace.place = event.trace "
            f"WHERE id IN ({marks}) UNION ALL SELECT head.body FROM head "
            f"JOIN trace ON trace.place = head.trace WHERE id IN ({marks})",
            [*ids, *ids],
        ).fetchall()
    return [body for (body,) in rows]


def assert_gone(folder: Path, bodies: list[bytes]) -> None:
    left = bytes_of(folder)
    assert SECRET.lower().encode() not in left.lower()
    # The end has the checksum of the whole; beginnings of different runs can be alike.
    assert not [body for body in bodies if body[-40:] in left]
    assert b"wanduhr" in left.lower()


@pytest.mark.threat(20)
async def test_purge_leaves_no_byte(folder: Path, file: Path) -> None:
    now = [1e9]
    async with keeping(folder, clock=lambda: now[0]) as kept:
        ids = await fill(kept, secrets=10, others=0)
        now[0] += DAY
        await fill(kept, secrets=0, others=10)
        bodies = stored_bodies(file, ids)
        assert SECRET.lower().encode() in bytes_of(folder).lower()
        assert all(body[20:60] in bytes_of(folder) for body in bodies)

        assert await kept.traces.purge(1e9 + 1) == 10

        assert_gone(folder, bodies)
        assert len((await kept.traces.list(Query())).traces) == 10
        assert not (await kept.traces.list(Query(words=SECRET))).traces
    assert_gone(folder, bodies)


@pytest.mark.threat(20)
async def test_deleted_trace_leaves_no_byte_soon_after(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        ids = await fill(kept)
        bodies = stored_bodies(file, ids)

        for id in ids:
            assert await kept.traces.delete(id)
        assert await kept.traces.get(ids[0]) is None

    assert_gone(folder, bodies)


async def test_what_a_deletion_left_to_do_is_done_at_the_next_start(
    folder: Path, file: Path
) -> None:
    async with keeping(folder) as kept:
        ids = await fill(kept)
        bodies = stored_bodies(file, ids)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        places = connection.execute(
            f"SELECT place FROM trace WHERE id IN ({', '.join('?' * len(ids))})", ids
        ).fetchall()
        delete(connection, [place for (place,) in places])

    async with keeping(folder) as kept:
        await kept.settle()

    assert_gone(folder, bodies)


async def test_copies_of_earlier_versions_go_with_what_is_deleted(folder: Path, file: Path) -> None:
    copy = file.with_name("traces.db.before-1")
    async with keeping(folder) as kept:
        answer = await kept.run()
        copy.write_bytes(file.read_bytes())
        await kept.traces.delete(answer.run_id)

    assert not copy.exists()


async def test_turns_that_others_have_too_stay(folder: Path) -> None:
    async with keeping(folder) as kept:
        first, second = [await kept.run() for _ in range(2)]
        whole = await kept.traces.get(second.run_id)

        await kept.traces.delete(first.run_id)
        between = await kept.traces.get(second.run_id)
        await kept.traces.delete(second.run_id)
        (messages,) = await kept.writer.call(
            lambda c: c.execute("SELECT count(*) FROM message").fetchone()
        )

    assert between == whole
    assert messages == 0


async def test_old_traces_are_deleted(folder: Path) -> None:
    now = [1e9]
    async with keeping(folder, TraceSettings(max_days=30), lambda: now[0]) as kept:
        await kept.run(asked("old"))
        now[0] += 20 * DAY
        await kept.run(asked("young"))
    now[0] += 20 * DAY
    async with keeping(folder, TraceSettings(max_days=30), lambda: now[0]) as kept:
        while len((page := await kept.traces.list(Query())).traces) > 1:
            await kept.settle()

    assert [trace["question"] for trace in page.traces] == ["young"]


async def test_oldest_traces_go_when_all_take_too_much(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        for number in range(250):
            await kept.run(asked(f"{number} {scramble(5000, number)}"))
    assert file.stat().st_size > 2 << 20

    async with keeping(folder, TraceSettings(max_bytes=3 << 19)) as kept:
        while file.stat().st_size >= 2 << 20:
            await kept.settle()
        page = await kept.traces.list(Query(limit=200))

    assert 0 < len(page.traces) <= 150
    assert str(page.traces[0]["question"]).startswith("249 ")
    assert file.stat().st_size < 2 << 20


async def test_trace_of_a_run_that_goes_is_not_deleted(folder: Path) -> None:
    async with keeping(folder) as kept:
        slow = SimEngine(delay=3600)
        stream = fusion(kept.observe, a=slow, b=slow).stream(
            Request("duo", (Message("user", "?"),))
        )
        started = await anext(stream)
        await kept.settle()

        with pytest.raises(RequestError, match="still goes"):
            await kept.traces.delete(started.run_id)
        assert await kept.traces.purge() == 0
        await stream.aclose()
        await kept.settle()
        told = await kept.traces.get(started.run_id)
        assert await kept.traces.delete(started.run_id)

    assert told is not None
    assert (told["status"], told["reason"]) == ("interrupted", "cancelled")
