"""Traces are found again: lists, filters, words, cursors; each owner's alone."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.engines.sim import SimEngine
from localfusion.events import Event
from localfusion.traces import Page, Query, TraceStore
from localfusion.traces.database import open_reader
from localfusion.traces.form import from_json, to_json
from localfusion.traces.messages import common_beginning
from localfusion.traces.trace import Trace
from localfusion.types import Message, Request
from tests.traces.conftest import VERSIONS, Kept, asked, fusion, keeping


def questions(page: Page) -> list[object]:
    return [trace["question"] for trace in page.traces]


async def test_trace_is_found_as_the_run_was(folder: Path) -> None:
    async with keeping(folder) as kept:
        events: list[Event] = []
        own = fusion(events.append, kept.observe)
        answer = await own.complete(asked())
        assert await kept.traces.acknowledge(answer.run_id)

        told = await kept.traces.get(answer.run_id)

    trace = Trace.from_events(events, created=1e9, versions=VERSIONS)
    wanted = to_json(trace)
    wanted["events"] = [e for e in _events(wanted) if not e["type"].endswith(".delta")]
    assert told == wanted
    assert from_json(told).answer == answer


def _events(told: dict[str, object]) -> list[dict[str, str]]:
    events = told["events"]
    assert isinstance(events, list)
    return events


async def test_newest_comes_first_and_cursors_lead_on(folder: Path) -> None:
    async with keeping(folder) as kept:
        for number in range(5):
            await kept.run(asked(f"number {number}"))
        first = await kept.traces.list(Query(limit=2))
        second = await kept.traces.list(Query(limit=2, before=first.cursor))
        last = await kept.traces.list(Query(limit=2, before=second.cursor))

    assert questions(first) == ["number 4", "number 3"]
    assert questions(second) == ["number 2", "number 1"]
    assert questions(last) == ["number 0"]
    assert last.cursor is None


async def test_clock_that_is_set_back_changes_no_order(folder: Path) -> None:
    times = iter([2e9, 1e9, 1.5e9])
    now = [0.0]

    def clock() -> float:
        return now[0]

    async with keeping(folder, TraceSettings(max_days=36_500), clock) as kept:
        for number in range(3):
            now[0] = next(times)
            await kept.run(asked(f"number {number}"))
        page = await kept.traces.list(Query())

    assert questions(page) == ["number 2", "number 1", "number 0"]
    assert [trace["created"] for trace in page.traces] == [1.5e9, 1e9, 2e9]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(status="full"), ["fused"]),
        (Query(status="single"), ["plain"]),
        (Query(status="failed"), []),
        (Query(preset="duo"), ["fused"]),
        (Query(policy="single"), ["plain"]),
        (Query(model="b"), ["plain"]),
        (Query(key="ann"), ["plain"]),
        (Query(key=""), ["fused"]),
        (Query(words="euros fused"), ["fused"]),
        (Query(words="EUROS"), ["plain", "fused"]),
        (Query(words="euros", preset="duo"), ["fused"]),
        (Query(words="dollars"), []),
    ],
)
async def test_list_has_what_is_wanted(folder: Path, query: Query, found: list[str]) -> None:
    async with keeping(folder) as kept:
        await kept.run(asked("fused"))
        single = await kept.run(asked("plain", model="b", key="ann"))
        assert single.status == "single"
        page = await kept.traces.list(query)

    assert questions(page) == found


@pytest.mark.malformed("M42")
@pytest.mark.parametrize(
    "words",
    ['"', '""', '") OR (', "NEAR(a b)", "question:euros", "euros*", "-euros", "^a", "a AND", "\0"],
)
async def test_no_text_is_syntax_of_the_search(folder: Path, words: str) -> None:
    async with keeping(folder) as kept:
        await kept.run(asked("nothing of it"))

        page = await kept.traces.list(Query(words=words))

    assert len(page.traces) in (0, 1)  # the word euros alone is there


async def test_key_sees_its_own_alone(folder: Path) -> None:
    async with keeping(folder) as kept:
        mine = await kept.run(asked("mine", key="ann"))
        other = await kept.run(asked("other", key="bob"))

        assert questions(await kept.traces.list(Query(key="ann"))) == ["mine"]
        assert await kept.traces.get(mine.run_id, "ann") is not None
        assert await kept.traces.get(other.run_id, "ann") is None
        assert not await kept.traces.delete(other.run_id, "ann")
        assert await kept.traces.get(other.run_id) is not None


async def test_turns_are_kept_once_for_all_prompts_that_have_them(folder: Path) -> None:
    long = "The pens are red. " * 500
    turns: tuple[Message, ...] = (
        Message("user", long),
        Message("assistant", "And?"),
        Message("user", "What?"),
    )
    async with keeping(folder) as kept:
        for _ in range(5):
            answer = await kept.run(Request("duo", turns))
            turns = (*turns, Message("assistant", answer.text), Message("user", "Sure?"))
        rows = await kept.writer.call(
            lambda c: c.execute("SELECT sum(kept), count(*) FROM message").fetchone()
        )
        last = await kept.traces.get(answer.run_id)
        found = await kept.traces.list(Query())

    assert last is not None
    asked_last = [p.prompt.messages for p in from_json(last).prompts if p.stage == "panel"]
    assert asked_last[0] == turns[:-2]
    assert len(found.traces) == 5
    assert rows[1] < 60  # 45 calls of 3 to 11 turns


async def test_judges_prompt_is_stored_as_it_grew(folder: Path) -> None:
    long = SimEngine("The price of a pen is 8 euros, as the list says. " * 20, name="a")
    async with keeping(folder) as kept:
        answer = await kept.run(a=long)
        (stored, whole) = await kept.writer.call(
            lambda c: c.execute("SELECT sum(length(body)), sum(kept) FROM message").fetchone()
        )
        told = await kept.traces.get(answer.run_id)

    assert told is not None
    assert whole > 500
    assert stored < 2000
    judged = [p for p in from_json(told).prompts if p.model == "j"]
    assert "The price of a pen" in judged[-1].prompt.messages[-1].content


async def test_reader_that_stays_holds_nobody_up(folder: Path, file: Path) -> None:
    async with keeping(folder) as kept:
        first = await kept.run()
        reader = open_reader(file)
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM trace").fetchone()
        more = [await kept.run() for _ in range(3)]
        after = reader.execute("SELECT count(*) FROM trace").fetchone()
        reader.close()

        assert before == after == (1,)
        for answer in (first, *more):
            assert await kept.traces.get(answer.run_id) is not None


async def test_reader_that_stays_delays_what_a_deletion_leaves_to_do(
    folder: Path, file: Path
) -> None:
    async with keeping(folder) as kept:
        answer = await kept.run()
        with closing(open_reader(file)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM trace").fetchone()
            await kept.traces.delete(answer.run_id)
            for _ in range(3):
                await kept.run()  # acknowledged, though the log cannot be emptied

    with closing(open_reader(file)) as reader:
        assert reader.execute("SELECT count(*) FROM due").fetchone() == (0,)


async def test_many_runs_at_once_keep_apart(folder: Path) -> None:
    async with keeping(folder) as kept:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(kept, f"mark{n}")) for n in range(30)]
        for number, task in enumerate(tasks):
            told = await kept.traces.get(task.result())
            assert told is not None
            text = repr(told)
            assert [n for n in range(30) if f"mark{n} " in text] == [number]


async def _one(kept: Kept, mark: str) -> str:
    answer = await fusion(kept.observe).complete(asked(f"{mark} "))
    assert await kept.traces.acknowledge(answer.run_id)
    return answer.run_id


def test_no_file_is_no_trace(file: Path) -> None:
    store = TraceStore(file)

    assert store.list(Query()) == Page(())
    assert store.get("x") is None
    assert list(store.ids()) == []


def test_common_beginning_is_found() -> None:
    assert common_beginning("abcd", "abce") == 3
    assert common_beginning("", "abc") == 0
    assert common_beginning("abc", "abcd") == 3
    assert common_beginning("xbc", "abc") == 0


async def test_half_a_surrogate_pair_costs_a_character_and_no_trace(folder: Path) -> None:
    broken = SimEngine("8 euros \ud83d and more", name="a")
    async with keeping(folder) as kept:
        answer = await kept.run(asked("a question"), a=broken, j=broken)
        told = await kept.traces.get(answer.run_id)

    assert told is not None
    assert "8 euros ? and more" in repr(told["answer"])
