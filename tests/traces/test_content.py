"""What is not to be kept is in no file."""

import dataclasses
import zlib
from contextlib import closing, suppress
from pathlib import Path

import pytest

from localfusion.config import TraceSettings
from localfusion.engines.sim import SimEngine
from localfusion.events import Event
from localfusion.functions import Function, ToolCall, Tools
from localfusion.traces import Query
from localfusion.traces.content import redact
from localfusion.traces.database import open_reader
from localfusion.traces.form import encode, from_json
from localfusion.types import Message, Origin, Request, SamplingParams
from tests.traces.conftest import bytes_of, events_of_run, fusion, keeping

CANARY = "Xylofon"
"""In every text that comes from a client or a model."""
STOP = "Zimbel"

REQUEST = Request(
    "duo",
    (
        Message("system", f"{CANARY} system"),
        Message("user", f"{CANARY} first"),
        Message("assistant", "", (ToolCall(CANARY, CANARY, f'{{"{CANARY}": 1}}'),)),
        Message("tool", f"{CANARY} result", tool_call_id=CANARY),
        Message("user", f"{CANARY} question"),
    ),
    SamplingParams(stop=(STOP,), logit_bias={5: 1.0}),
    schema={"type": "object", "properties": {CANARY: {"type": "string"}}},
    changes={"extract": {"kind": "regex", "pattern": CANARY}},
    origin=Origin("req_1", "ann", (CANARY,)),
)
TOOLS = Tools((Function(CANARY, CANARY, {"type": "object", "properties": {CANARY: {}}}),))


def engines() -> dict[str, SimEngine]:
    return {
        "a": SimEngine(f"{CANARY} draft", name="a", reasoning=f"{CANARY} thought"),
        "b": SimEngine(f'{{"{CANARY}": 8}}', name="b", calls_tools=True),
        "j": SimEngine(f'{{"{CANARY}": "8"}}', name="j"),
    }


@pytest.mark.threat(8)
@pytest.mark.threat(20)
@pytest.mark.parametrize("content", ["none", "hash"])
async def test_no_word_of_a_client_or_a_model_is_in_any_file(
    folder: Path, file: Path, content: str
) -> None:
    settings = TraceSettings.model_validate({"content": content})
    async with keeping(folder, settings) as kept:
        fused = await kept.run(REQUEST, **engines())
        calling = dataclasses.replace(REQUEST, model="b", schema=None, tools=TOOLS, changes={})
        called = await kept.run(calling, **engines())
        stored = bytes_of(folder), inflated(file)
        page = await kept.traces.list(Query())
        found = await kept.traces.list(Query(words=CANARY))
        told = await kept.traces.get(fused.run_id)

    assert CANARY in fused.text
    assert called.tool_calls
    for everything in (*stored, bytes_of(folder), inflated(file), repr(told).encode()):
        assert CANARY.lower().encode() not in everything.lower()
        assert STOP.lower().encode() not in everything.lower()
    assert [trace["question"] for trace in page.traces] == [None, None]
    assert not found.traces
    assert told is not None
    kept_trace = from_json(told)
    assert kept_trace.answer is not None
    assert kept_trace.summary.model == "j"
    assert [c.usage for c in kept_trace.answer.candidates] == [c.usage for c in fused.candidates]
    assert {prompt.digest is None for prompt in kept_trace.prompts} == {content == "none"}


async def test_all_words_are_there_where_they_may_be(folder: Path, file: Path) -> None:
    """Else the test above could not fail."""
    async with keeping(folder) as kept:
        answer = await kept.run(REQUEST, **engines())
        told = await kept.traces.get(answer.run_id)

    everything = inflated(file)
    assert CANARY in repr(told)
    assert CANARY.lower().encode() in bytes_of(folder)
    for part in ("system", "first", "result", "question", "draft", "thought"):
        assert f"{CANARY} {part}".encode() in everything
    assert STOP.encode() in everything


def inflated(file: Path) -> bytes:
    """Return every value of every table, readable."""
    with closing(open_reader(file)) as reader:
        tables = reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        rows = [row for (table,) in tables for row in reader.execute(f"SELECT * FROM [{table}]")]
    return b"\n".join(_plain(value) for row in rows for value in row)


def _plain(value: object) -> bytes:
    if isinstance(value, bytes):
        with suppress(zlib.error):
            return zlib.decompress(value)
        return value
    return str(value).encode()


async def test_equal_texts_have_equal_digests(folder: Path) -> None:
    async with keeping(folder, TraceSettings(content="hash")) as kept:
        first, second = [await kept.run() for _ in range(2)]
        told = [await kept.traces.get(answer.run_id) for answer in (first, second)]

    assert all(t is not None for t in told)
    texts = [from_json(t).answer for t in told if t is not None]
    assert texts[0] is not None
    assert texts[1] is not None
    assert texts[0].text == texts[1].text
    assert texts[0].text.startswith("sha256:")


async def test_every_text_of_an_event_is_content_unless_it_is_listed() -> None:
    """A new field of an event that holds text must not slip through."""
    events: list[Event] = []
    await fusion(events.append, **engines()).complete(REQUEST)

    for event in await events_of_run():
        if type(event).__name__ in ("RunRequested", "CallStarted"):
            continue
        told = {**encode(event), "something_new": CANARY, "and": [{"deeper": CANARY}]}
        assert CANARY not in repr(redact(told, "none"))
        assert CANARY not in repr(redact(told, "hash"))
