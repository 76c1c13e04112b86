"""What keeping traces costs a request, and how fast many are listed and searched."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benches.table import Row
from localfusion.config import Preset, TraceSettings
from localfusion.engines.sim import SimEngine
from localfusion.engines.sim_latency import SimProfile
from localfusion.events import Event
from localfusion.fusion import Fusion
from localfusion.traces import Query, Trace, TraceStore, Versions, form, open_traces, rows
from localfusion.traces.database import FILE_NAME, open_writer, sole_writer
from localfusion.traces.trace import Summary
from localfusion.types import Message, Request, SamplingParams

TRACES = 100_000
RUNS = 40
TOKENS = 40
"""Of each draft and of the answer, one every ``GAP`` seconds: a fast engine's."""
GAP = 0.01
BUSY = 8
LOOKS = 15
"""At each list."""
MEMBERS = "abcd"
VOCABULARY = 20_000
KEYS = 20


async def measure(traces: int = TRACES, runs: int = RUNS) -> list[Row]:
    """Return every figure."""
    with tempfile.TemporaryDirectory() as folder:
        observed, waited, _ = await on_the_path(Path(folder) / "alone", runs, at_once=1)
        added = await added_to_requests(Path(folder) / "added", runs)
        _, busy, longest = await on_the_path(Path(folder) / "busy", runs * 2, at_once=BUSY)
        print(f"  {BUSY} runs at once: {busy * 1e3:.1f} ms waited for the commit, median")
        many = await asyncio.to_thread(fill, Path(folder) / "many", traces, await _one_run())
        slowest_list, slowest_search = look(TraceStore(many), traces)
    return [
        Row("a request of four members: with traces - without, median", added * 1e3, "ms", 1.0),
        Row("a run of four members: time in the observer", observed * 1e3, "ms", 1.0),
        Row("wait for the commit at its end, median", waited * 1e3, "ms", 1.0),
        Row(f"longest wait of {BUSY} runs at once", longest * 1e3, "ms", 250.0),
        Row(f"slowest list of {traces} traces, median", slowest_list * 1e3, "ms", 50.0),
        Row(f"slowest search in {traces} traces, median", slowest_search * 1e3, "ms", 50.0),
    ]


async def on_the_path(folder: Path, runs: int, *, at_once: int) -> tuple[float, float, float]:
    """Return seconds in the observer for each run, and those that its end waits: median, most."""
    spent, waits = 0.0, list[float]()
    async with open_traces(TraceSettings(), folder) as traces:
        observe = traces.observer(lambda _: Versions())

        def timed(event: Event) -> None:
            nonlocal spent
            began = time.perf_counter()
            observe(event)
            spent += time.perf_counter() - began

        fusion = _fusion(timed)
        left = iter(range(runs))

        async def ask() -> None:
            for number in left:
                answer = await fusion.complete(_request(number))
                began = time.perf_counter()
                assert await traces.acknowledge(answer.run_id)
                waits.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(ask())
    return spent / runs, statistics.median(waits), max(waits)


async def added_to_requests(folder: Path, runs: int) -> float:
    """Return the seconds by which a request ends later, the wait for its trace included.

    The same requests with traces and without, in turns: the median of what each pair differs by.
    """
    differences = []
    async with open_traces(TraceSettings(), folder) as traces:
        kept = _fusion(traces.observer(lambda _: Versions()))
        plain = _fusion()

        async def with_traces(number: int) -> float:
            began = time.perf_counter()
            answer = await kept.complete(_request(number))
            assert await traces.acknowledge(answer.run_id)
            return time.perf_counter() - began

        async def without(number: int) -> float:
            began = time.perf_counter()
            await plain.complete(_request(number))
            return time.perf_counter() - began

        for number in range(runs):
            if number % 2:
                differences.append(await with_traces(number) - await without(number))
            else:
                differences.append(-await without(number) + await with_traces(number))
    return statistics.median(differences)


def look(store: TraceStore, count: int) -> tuple[float, float]:
    """Return the medians of the slowest list and the slowest search among many traces."""
    common, frequent, rare = _word(0), _word(1), _word(VOCABULARY - 7)
    old = count // 20
    lists = {
        "newest": Query(),
        "a page in the middle": Query(before=count // 2),
        "of a key": Query(key="key7"),
        "failed ones of a key": Query(key="key7", status="failed"),
        "of a preset and a policy": Query(preset="p1", policy="vote"),
        "by a model, before": Query(model="m3", before=old),
        "nothing": Query(preset="none", key="key7"),
    }
    searches = {
        "a common word": Query(words=common),
        "two common words": Query(words=f"{common} {frequent}"),
        "a rare word": Query(words=rare),
        "a common word of a key": Query(words=common, key="key7"),
        "a common word, failed ones": Query(words=common, status="failed"),
        "two common words, nothing": Query(words=f"{common} {frequent}", preset="none"),
        "two common words that never meet": Query(words="even odd"),
    }
    return _slowest(store, lists), _slowest(store, searches)


def _slowest(store: TraceStore, queries: dict[str, Query]) -> float:
    found = {}
    for name, query in queries.items():
        times = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            page = store.list(query)
            times.append(time.perf_counter() - began)
        found[name] = statistics.median(times)
        print(f"  {name}: {found[name] * 1e3:.1f} ms, {len(page.traces)} found", flush=True)
    return max(found.values())


def fill(folder: Path, count: int, events: Sequence[Event]) -> Path:
    """Write many traces of one run, each with words of its own; return the file."""
    rng = random.Random(1)
    trace = Trace.from_events(events, created=1e9)
    assert trace.head is not None
    head = form.pack(form.encode_head(trace.head))
    told = form.pack([form.encode(event) for event in trace.events])
    began = time.perf_counter()
    with sole_writer(folder, 0) as file, closing(open_writer(file, "process")) as connection:
        for start in range(0, count, 1000):
            with rows.transaction(connection):
                for number in range(start, min(count, start + 1000)):
                    summary = _summary(rng, trace.summary, number)
                    place = rows.insert_summary(connection, summary, "full")
                    connection.execute("INSERT INTO head VALUES (?, ?)", [place, head])
                    connection.execute("INSERT INTO event VALUES (?, 0, 0, ?)", [place, told])
                    half = ("even", "odd")[number % 2]
                    answer = f"{half} {_text(rng, 80)}"
                    rows.index(connection, place, summary, str(summary.question), answer)
                    rows.finish(connection, place)
    size = (folder / FILE_NAME).stat().st_size
    print(f"  {count} traces in {time.perf_counter() - began:.0f} s, {size >> 20} MiB", flush=True)
    return folder / FILE_NAME


def _summary(rng: random.Random, like: Summary, number: int) -> Summary:
    return replace(
        like,
        id=f"{number:032x}",
        created=1e9 + number,
        key=f"key{rng.randrange(KEYS)}",
        preset=f"p{rng.randrange(4)}",
        policy=rng.choice(("fuse", "fuse", "vote", "single")),
        model=f"m{rng.randrange(6)}",
        status="failed" if rng.random() < 0.01 else "full",
        question=_text(rng, 20),
    )


def _text(rng: random.Random, words: int) -> str:
    """Return words of which some are in nearly every text and most in few, as in any language."""
    return " ".join(_word(int(VOCABULARY ** rng.random()) - 1) for _ in range(words))


def _word(rank: int) -> str:
    return f"w{rank:05x}"


def _fusion(*observers: Callable[[Event], None]) -> Fusion:
    profile = SimProfile(inter_token=GAP, jitter=0.2)
    text = "word " * TOKENS
    engines = {n: SimEngine(text, name=n, profile=profile) for n in (*MEMBERS, "judge")}
    fields = {"panel": list(MEMBERS), "judge": "judge"}
    presets = {"bench": Preset.model_validate(fields)}
    return Fusion(engines, presets, default_preset="bench", observers=observers)


def _request(number: int) -> Request:
    question = f"What do {number} pens cost, and what would {number + 1} of them?"
    return Request("bench", (Message("user", question),), SamplingParams(seed=number))


async def _one_run() -> list[Event]:
    events: list[Event] = []
    await _fusion(events.append).complete(_request(0))
    return events
