"""Runs of simulated engines, and traces of them in a folder of their own."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from localfusion.config import Preset, TraceSettings
from localfusion.engines.sim import SimEngine
from localfusion.events import Event, RunStarted
from localfusion.fusion import Fusion
from localfusion.traces import EngineVersion, Traces, TraceStore, Versions
from localfusion.traces.database import FILE_NAME, open_writer, sole_writer
from localfusion.traces.writer import TraceWriter
from localfusion.types import Answer, Message, Origin, Request

VERSIONS = Versions("0.1", {"a": EngineVersion("sim", "ab12")}, "p", "c")

Observer = Callable[[Event], None]
Opening = Callable[..., AbstractAsyncContextManager["Kept"]]


def versions_of(_: RunStarted) -> Versions:
    return VERSIONS


def fusion(*observers: Observer, **engines: SimEngine) -> Fusion:
    """Build a preset ``duo`` of members a and b, judged by j; some engines may be others."""
    texts = {"a": "Eighteen euros.", "b": "8 euros.", "j": "They cost 8 euros."}
    sims = {n: engines.get(n) or SimEngine(text, name=n) for n, text in texts.items()}
    fields = {"panel": ["a", "b"], "judge": "j", "options": {"analysis": "inline"}}
    presets = {"duo": Preset.model_validate(fields)}
    return Fusion(sims, presets, default_preset="duo", observers=observers)


def asked(text: str = "What do pens cost?", *, model: str = "duo", key: str = "") -> Request:
    messages = (Message("system", "Be brief."), Message("user", text))
    return Request(model, messages, origin=Origin("req_1", key, ("colour",)))


async def events_of_run(**engines: SimEngine) -> list[Event]:
    """Return all events and records of one run."""
    events: list[Event] = []
    await fusion(events.append, **engines).complete(asked())
    return events


class Kept:
    """Traces that are being written, and a fusion that is observed."""

    def __init__(self, traces: Traces, writer: TraceWriter) -> None:
        self.traces = traces
        self.writer = writer
        self.observe = traces.observer(versions_of)

    async def run(self, request: Request | None = None, **engines: SimEngine) -> Answer:
        """Run a request; its trace is on disk then, and its words can be searched."""
        answer = await fusion(self.observe, **engines).complete(request or asked())
        assert await self.traces.acknowledge(answer.run_id)
        await self.settle()
        return answer

    async def settle(self) -> None:
        """Wait until the thread has done what there was to do."""
        await self.writer.call(lambda _: None)


@asynccontextmanager
async def keeping(
    folder: Path,
    settings: TraceSettings | None = None,
    clock: Callable[[], float] = lambda: 1e9,
) -> AsyncGenerator[Kept, None]:
    """Write traces to a folder for the length of a block, by a clock of the test's."""
    settings = settings or TraceSettings()
    with sole_writer(folder, 0) as file:
        writer = TraceWriter(
            open_writer(file, settings.durability), file, settings, clock=clock, retry=0.01
        )
        writer.start()
        try:
            yield Kept(Traces(TraceStore(file), writer, settings), writer)
        finally:
            writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "traces"


@pytest.fixture
def file(folder: Path) -> Path:
    return folder / FILE_NAME


def bytes_of(folder: Path) -> bytes:
    """Return all bytes of all files."""
    return b"".join(path.read_bytes() for path in folder.iterdir())
