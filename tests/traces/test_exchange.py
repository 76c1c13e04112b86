"""Traces go out as lines and come in again; a damaged file gives what can be read of it."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.errors import TraceError
from localfusion.traces import Query, TraceStore
from localfusion.traces.database import open_reader
from localfusion.traces.exchange import read_lines, recover
from localfusion.traces.form import line
from tests.traces.conftest import asked, keeping
from tests.traces.test_database import flip


async def export(folder: Path, *questions: str) -> list[bytes]:
    async with keeping(folder) as kept:
        answers = [await kept.run(asked(question, key="ann")) for question in questions]
        return [line(await kept.traces.get(answer.run_id)) + b"\n" for answer in answers]


async def test_imported_traces_are_what_was_exported(tmp_path: Path) -> None:
    lines = await export(tmp_path / "here", "first", "second")

    async with keeping(tmp_path / "there") as kept:
        added = [await kept.traces.add(trace) for trace in read_lines(lines)]
        again = [await kept.traces.add(trace) for trace in read_lines(lines)]
        told = [await kept.traces.get(json.loads(text)["id"]) for text in lines]
        found = await kept.traces.list(Query(words="second euros", key="ann"))

    assert (added, again) == ([True, True], [False, False])
    assert [line(trace) + b"\n" for trace in told] == lines
    assert [trace["question"] for trace in found.traces] == ["second"]


async def test_import_keeps_no_more_than_this_place_keeps(tmp_path: Path) -> None:
    lines = await export(tmp_path / "here", "Violine")

    async with keeping(tmp_path / "there", TraceSettings(content="none")) as kept:
        for trace in read_lines(lines):
            await kept.traces.add(trace)
        told = await kept.traces.get(json.loads(lines[0])["id"])

    assert b"Violine" not in line(told)
    assert b"euros" not in line(told)


async def test_run_that_went_on_elsewhere_is_interrupted_here(tmp_path: Path) -> None:
    (text,) = await export(tmp_path / "here", "first")
    running = line({**json.loads(text), "status": "running"})

    async with keeping(tmp_path / "there") as kept:
        for trace in read_lines([running]):
            await kept.traces.add(trace)
        (found,) = (await kept.traces.list(Query())).traces

    assert found["status"] == "interrupted"


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"object": "trace", "content": "full", "events": [], "prompts": [], "id": 7}',
        b'{"object": "trace", "content": "full", "events": [{}], "prompts": [], "id": "x"}',
        b"[" * 5000,
        b'{"a": NaN}',
        b"\xff",
        b"SQLite format 3\x00",
    ],
)
def test_line_that_is_no_trace_is_named(text: bytes) -> None:
    with pytest.raises(TraceError, match="line 2 is no trace"):
        list(read_lines([b"\n", text]))


async def test_recovery_takes_over_what_can_be_read(folder: Path, file: Path) -> None:
    lines = await export(folder, *(f"number {n} " * 300 for n in range(20)))
    ids = [json.loads(text)["id"] for text in lines]
    with closing(open_reader(file)) as reader:
        (page,) = reader.execute(
            "SELECT pageno FROM dbstat WHERE name = 'event' AND pagetype = 'leaf' LIMIT 1 OFFSET 2"
        ).fetchone()
    for place in range(0, 4096, 7):
        flip(file, (page - 1) * 4096 + place)
    before = file.read_bytes()

    found = recover(folder, clock=lambda: 0.0)

    assert found.damaged == file.with_name("traces.db.damaged-19700101T000000")
    assert found.damaged.read_bytes() == before
    assert found.kept + found.lost == 20
    assert 0 < found.lost < 10
    store = TraceStore(file)
    read = {id: told for id in ids if (told := store.get(id)) is not None}
    assert len(read) == found.kept
    assert all(line(told) + b"\n" in lines for told in read.values())
    async with keeping(folder) as kept:
        await kept.run()


async def test_sound_file_stays_where_it_is(folder: Path, file: Path) -> None:
    await export(folder, "first")
    before = file.read_bytes()

    found = recover(folder)

    assert (found.kept, found.lost, found.damaged) == (1, 0, None)
    assert file.read_bytes() == before
    assert not [path for path in folder.iterdir() if "recovered" in path.name]


async def test_what_is_no_database_at_all_makes_room(folder: Path, file: Path) -> None:
    folder.mkdir()
    file.write_text("my diary, " * 1000)

    found = recover(folder)

    assert found.kept == 0
    assert found.damaged is not None
    assert found.damaged.read_text() == "my diary, " * 1000
    async with keeping(folder) as kept:
        await kept.run()
