"""Who may write the file, and which file is refused; what is refused stays as it was."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.errors import TraceError
from localfusion.traces import Query, TraceStore, open_traces
from localfusion.traces.database import (
    open_reader,
    open_writer,
    sole_writer,
    version_of,
    wal_of,
)
from localfusion.traces.migrate import LATEST, copies_of, migrate, shipped
from tests.traces.conftest import asked, fusion, keeping, versions_of

OTHER = 'CREATE TABLE other (word TEXT); INSERT INTO other VALUES ("kept")'


def flip(file: Path, place: int) -> None:
    """Change all bits of a byte."""
    with file.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 0xFF]))


async def fill(folder: Path, runs: int = 3) -> None:
    async with keeping(folder) as kept:
        for _ in range(runs):
            await kept.run(asked("word " * 400))


def leave_uncleanly(file: Path) -> None:
    """Give the file a log that nobody has brought in, as a killed process leaves it."""
    source = sqlite3.connect(file, isolation_level=None)
    source.execute("PRAGMA wal_autocheckpoint=0")
    source.execute("CREATE TABLE scratch (x)")
    log = wal_of(file).read_bytes()
    main = file.read_bytes()
    source.close()
    file.write_bytes(main)
    wal_of(file).write_bytes(log)


def test_newest_migration_is_the_known_one() -> None:
    folder = Path(__file__).parent.parent.parent / "localfusion" / "traces" / "migrations"

    assert list(shipped()) == list(range(1, LATEST + 1))
    assert [path.name for path in sorted(folder.iterdir())] == [f"{n:04}.sql" for n in shipped()]


@pytest.mark.threat(20)
async def test_files_are_this_users_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        async with keeping(folder) as kept:
            await kept.run()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert {"traces.db", "traces.db-wal", "traces.lock"} <= set(modes)


async def test_connection_is_set_as_designed(folder: Path) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 1,
        "wal_autocheckpoint": 0,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "secure_delete": 1,
        "busy_timeout": 5000,
        "auto_vacuum": 2,
        "mmap_size": 0,
        "user_version": LATEST,
    }
    with sole_writer(folder, 0) as file:
        with closing(open_writer(file, "process")) as connection:
            found = {n: connection.execute(f"PRAGMA {n}").fetchone()[0] for n in wanted}
        with closing(open_writer(file, "power")) as connection:
            synchronous = connection.execute("PRAGMA synchronous").fetchone()
        with closing(open_reader(file)) as reader, pytest.raises(sqlite3.OperationalError):
            reader.execute("DELETE FROM trace")

    assert found == wanted
    assert synchronous == (2,)


async def test_second_process_writes_nothing_and_answers(folder: Path) -> None:
    async with keeping(folder) as kept:
        first = await kept.run()
        async with open_traces(TraceSettings(), folder, wait=0.1) as second:
            answer = await fusion(second.observer(versions_of)).complete(asked())

            assert not await second.acknowledge(answer.run_id)
            assert "another localfusion process" in second.notes[0]
            assert await second.get(first.run_id) is not None
            with pytest.raises(TraceError, match="another localfusion process"):
                await second.delete(first.run_id)


async def test_lock_is_waited_for(folder: Path) -> None:
    with sole_writer(folder, 0), pytest.raises(TraceError) as caught, sole_writer(folder, 0.1):
        pass

    assert caught.value.code == "traces_in_use"
    with sole_writer(folder, 0):
        pass  # it was let go


async def test_required_traces_that_cannot_be_had_are_refused(folder: Path) -> None:
    with sole_writer(folder, 0), pytest.raises(TraceError):
        async with open_traces(TraceSettings(required=True), folder, wait=0):
            pass


async def test_newer_file_is_refused_and_left(folder: Path, file: Path) -> None:
    await fill(folder)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version={LATEST + 1}")
    before = file.read_bytes()

    with sole_writer(folder, 0), pytest.raises(TraceError, match="newer localfusion"):
        open_writer(file, "process")
    with pytest.raises(TraceError, match="newer localfusion"):
        TraceStore(file).list(Query())

    assert file.read_bytes() == before


async def test_file_without_version_is_copied_before_it_is_changed(
    folder: Path, file: Path
) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OTHER.replace('"', "'"))

    async with keeping(folder) as kept:
        answer = await kept.run()
        found = await kept.traces.get(answer.run_id)

    (copy,) = copies_of(file)
    with closing(sqlite3.connect(copy)) as connection:
        assert version_of(connection) == 0
        assert connection.execute("SELECT word FROM other").fetchall() == [("kept",)]
    assert found is not None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


async def test_migration_that_fails_changes_nothing(folder: Path, file: Path) -> None:
    await fill(folder)
    later = {**shipped(), LATEST + 1: "CREATE TABLE half (x); CREATE TABLE half (x);"}
    with sole_writer(folder, 0), closing(open_writer(file, "process")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection, file, later)

        assert version_of(connection) == LATEST
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchall()
        migrate(connection, file, {**shipped(), LATEST + 1: "CREATE TABLE whole (x);"})
        assert version_of(connection) == LATEST + 1

    assert len(copies_of(file)) == 1


@pytest.mark.promise(10)
async def test_damaged_file_is_refused_with_its_remedy_and_left(folder: Path, file: Path) -> None:
    await fill(folder)
    leave_uncleanly(file)
    for place in range(100, 4096, 100):
        flip(file, 8192 + place)
    before = file.read_bytes(), wal_of(file).read_bytes()

    async with open_traces(TraceSettings(), folder) as traces:
        answer = await fusion(traces.observer(versions_of)).complete(asked())

        assert answer.status == "full"
        assert not await traces.acknowledge(answer.run_id)
        assert "localfusion traces recover" in traces.notes[0]

    assert (file.read_bytes(), wal_of(file).read_bytes()) == before


async def test_text_that_is_no_database_is_refused_and_left(folder: Path, file: Path) -> None:
    folder.mkdir()
    file.write_text("my diary, " * 100)

    with sole_writer(folder, 0), pytest.raises(TraceError, match="is damaged"):
        open_writer(file, "process")

    assert file.read_text() == "my diary, " * 100


async def test_flipped_byte_is_never_taken_for_a_trace(folder: Path, file: Path) -> None:
    """Every place in turn: the trace is as it was, or the damage is told."""
    async with keeping(folder) as kept:
        answer = await kept.run()
    store = TraceStore(file)
    whole = store.get(answer.run_id)
    size = file.stat().st_size
    told = 0
    for place in range(0, size, max(1, size // 200)):
        flip(file, place)
        try:
            found = store.get(answer.run_id)
        except TraceError:
            told += 1
        else:
            # The small columns of lists have no check sum: a letter may be another one.
            assert found is None or {**found, **_listed(whole)} == whole
        flip(file, place)

    assert told > 0
    assert store.get(answer.run_id) == whole


def _listed(trace: dict[str, object] | None) -> dict[str, object]:
    assert trace is not None
    parts = ("events", "prompts", "request", "answer", "settings", "versions", "error", "ignored")
    return {key: value for key, value in trace.items() if key not in parts}


async def test_older_file_is_not_read_half(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("CREATE TABLE other (word TEXT)")

    with pytest.raises(TraceError, match="older localfusion"):
        TraceStore(file).get("x")


async def test_link_is_not_followed(folder: Path, file: Path, tmp_path: Path) -> None:
    folder.mkdir()
    target = tmp_path / "elsewhere"
    target.write_text("mine")
    file.symlink_to(target)

    with pytest.raises(TraceError), sole_writer(folder, 0):
        pass

    assert target.read_text() == "mine"


async def test_folder_that_cannot_be_written_stops_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async with open_traces(TraceSettings(), tmp_path / "file" / "traces") as traces:
        answer = await fusion(traces.observer(versions_of)).complete(asked())

    assert answer.status == "full"
    assert "LOCALFUSION_STATE" in traces.notes[0]
