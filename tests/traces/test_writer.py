"""Acknowledged is on disk; what cannot be written costs no answer and is told."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import OverloadedError, QuorumError
from localfusion.events import AnswerDelta, Event, PanelDelta, PolicyChosen, RunAborted, RunStarted
from localfusion.traces import Query, Traces, TraceStore
from localfusion.traces import inbox as inboxes
from localfusion.traces.database import open_writer, sole_writer
from localfusion.traces.deltas import joined
from localfusion.traces.inbox import Inbox
from localfusion.traces.writer import TraceWriter
from tests.traces.conftest import Kept, asked, events_of_run, fusion, keeping

pytestmark = pytest.mark.promise(10)


async def test_acknowledged_trace_is_seen_by_others_at_once(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        answer = await kept.run()

        found = TraceStore(file).get(answer.run_id)

    assert found is not None
    assert found["status"] == "full"


async def test_run_is_listed_while_it_goes(folder: Path) -> None:
    async with keeping(folder) as kept:
        stream = fusion(kept.observe, a=SimEngine(delay=3600)).stream(asked())
        started = await anext(stream)
        await kept.settle()
        (running,) = (await kept.traces.list(Query(status="running"))).traces
        await stream.aclose()

    assert running["id"] == started.run_id
    assert running["question"] == "What do pens cost?"


async def test_run_of_a_process_that_ended_is_marked_at_the_next_start(
    folder: Path, file: Path
) -> None:
    events = await events_of_run()
    half = events[: len(events) // 2]
    async with keeping(folder) as kept:
        for event in half:
            kept.observe(event)

    async with keeping(folder) as kept:
        await kept.settle()
        (trace,) = (await kept.traces.list(Query())).traces
        found = (await kept.traces.list(Query(words="pens"))).traces

    assert (trace["status"], trace["reason"]) == ("interrupted", "process_ended")
    assert len(found) == 1


async def test_words_of_a_run_without_an_end_are_kept(folder: Path) -> None:
    events = [e for e in await events_of_run() if type(e).__name__ != "RunCompleted"]
    async with keeping(folder) as kept:
        for event in events:
            kept.observe(event)
        await kept.settle()
        told = await kept.traces.get(events[0].run_id)

    assert told is not None
    assert isinstance(told["events"], list)
    deltas = [e["text"] for e in told["events"] if e["type"].endswith("answer.delta")]
    assert "".join(deltas) == "They cost 8 euros."


async def test_failed_run_is_acknowledged_too(folder: Path) -> None:
    events: list[Event] = []
    broken = SimEngine(failure=SimFailure("refuse"))
    async with keeping(folder) as kept:
        with pytest.raises(QuorumError):
            await fusion(kept.observe, events.append, a=broken, b=broken).complete(asked())

        assert await kept.traces.acknowledge(events[0].run_id)
        told = await kept.traces.get(events[0].run_id)

    assert told is not None
    assert (told["status"], told["reason"]) == ("failed", "all_panels_failed")
    assert isinstance(told["error"], dict)
    assert told["error"]["error_type"] == "QuorumError"


async def test_nothing_is_acknowledged_that_nobody_knows(folder: Path) -> None:
    async with keeping(folder) as kept:
        assert not await kept.traces.acknowledge("0" * 32)
    assert not await Traces().acknowledge("0" * 32)


@asynccontextmanager
async def small_inbox(folder: Path, inbox: Inbox) -> AsyncGenerator[Kept, None]:
    """Write through an inbox of a test's size."""
    with sole_writer(folder, 0) as file:
        settings = TraceSettings()
        writer = TraceWriter(open_writer(file, "process"), file, settings, inbox=inbox)
        writer.start()
        try:
            yield Kept(Traces(TraceStore(file), writer, settings), writer)
        finally:
            writer.close()


@pytest.mark.parametrize("inbox", [lambda: Inbox(most_items=5), lambda: Inbox(most_bytes=2000)])
async def test_full_queue_costs_the_trace_and_not_the_answer(
    folder: Path, inbox: Callable[[], Inbox]
) -> None:
    async with small_inbox(folder, inbox()) as kept:
        answer = await fusion(kept.observe).complete(asked())

        assert answer.status == "full"
        assert not await kept.traces.acknowledge(answer.run_id)
        assert kept.writer.lost > 0
        assert "are lost" in kept.traces.notes[0]


def test_inbox_gives_room_free_once_it_is_written() -> None:
    inbox = Inbox(most_items=2)
    event = RunAborted(reason="cancelled")

    assert [inbox.put(event) for _ in range(3)] == [True, True, False]
    taken = inbox.take()
    assert not inbox.put(event)
    inbox.wrote(taken)
    assert inbox.put(event)
    assert inboxes.weigh(event) > 0


async def test_batch_of_deltas_is_one() -> None:
    deltas: list[Event] = [
        PanelDelta(run_id="r", at=1.0, index=0, text="a"),
        PanelDelta(run_id="r", at=2.0, index=1, text="x"),
        PanelDelta(run_id="r", at=3.0, index=0, text="b", reasoning="t"),
        AnswerDelta(run_id="r", at=4.0, text="1"),
        RunStarted(run_id="r", at=5.0, preset="p", policy="fuse", members=(), judge=None),
        PanelDelta(run_id="r", at=6.0, index=0, text="c"),
    ]

    found = joined(deltas)

    assert [(type(e).__name__, e.at) for e in found] == [
        ("PanelDelta", 1.0),
        ("PanelDelta", 2.0),
        ("AnswerDelta", 4.0),
        ("RunStarted", 5.0),
        ("PanelDelta", 6.0),
    ]
    assert found[0] == PanelDelta(run_id="r", at=1.0, index=0, text="ab", reasoning="t")


async def test_required_traces_refuse_runs_while_there_are_none(folder: Path) -> None:
    traces = Traces(settings=TraceSettings(required=True))
    traces.check()  # nothing is amiss

    async with keeping(folder, TraceSettings(required=True)) as kept:
        kept.traces.check()
        await _damage(kept)
        with pytest.raises(OverloadedError) as caught:
            kept.traces.check()

    assert caught.value.code == "traces_unavailable"


async def test_damage_that_shows_while_writing_ends_it_for_good(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        await kept.run()
        await _damage(kept)
        answer = await fusion(kept.observe).complete(asked())

        assert not await kept.traces.acknowledge(answer.run_id)
        assert "localfusion traces recover" in kept.traces.notes[0]
        with pytest.raises(Exception, match="traces recover"):
            await kept.traces.purge()


async def _damage(kept: Kept) -> None:
    """Let the file be overwritten under the writer; return when it has noticed."""
    await kept.writer.call(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    size = kept.writer.file.stat().st_size
    with kept.writer.file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (size - 4096))
    await kept.writer.call(lambda c: c.execute("PRAGMA shrink_memory"))
    while kept.traces.trouble is None:
        await fusion(kept.observe).complete(asked())
        await asyncio.sleep(0)


async def test_trace_that_was_acknowledged_just_before_a_kill_is_found_by_its_words(
    folder: Path, file: Path
) -> None:
    async with keeping(folder) as kept:
        answer = await kept.run()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DELETE FROM words")
        connection.execute("UPDATE trace SET finished = 0")

    async with keeping(folder) as kept:
        await kept.settle()
        page = await kept.traces.list(Query(words="pens euros", status="full"))

    assert [trace["id"] for trace in page.traces] == [answer.run_id]


async def test_fault_of_ours_costs_one_batch(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        odd = PolicyChosen(run_id="r", policy=object(), task="", reason="")  # type: ignore[arg-type]
        kept.observe(RunStarted(run_id="r", preset="p", policy="p", members=(), judge=None))
        kept.observe(odd)
        await kept.settle()
        answer = await kept.run()

        assert kept.writer.lost > 0
        assert TraceStore(file).get(answer.run_id) is not None
