"""The traces of one process: written where it holds the lock, read in any case."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from localfusion.config import TraceSettings
from localfusion.errors import OverloadedError, TraceError
from localfusion.events import Event, RunStarted
from localfusion.traces import replies, upkeep
from localfusion.traces.database import FILE_NAME, open_writer, sole_writer
from localfusion.traces.form import Json
from localfusion.traces.records import write_trace
from localfusion.traces.replies import Reply
from localfusion.traces.store import Page, Query, TraceStore
from localfusion.traces.trace import Trace, Versions
from localfusion.traces.writer import RETRY_SECONDS, TraceWriter, Writing
from localfusion.types import Answer

LOCK_SECONDS = 2.0
"""For another process to end that writes traces."""


class Traces:
    """What a process does with traces; made by ``open_traces``.

    Args:
        store: Where they are read, None where there are none.
        writer: What writes them.
        settings: Of models.yaml.
        trouble: Why there is no writer.
    """

    def __init__(
        self,
        store: TraceStore | None = None,
        writer: TraceWriter | None = None,
        settings: TraceSettings | None = None,
        trouble: TraceError | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._settings = settings or TraceSettings()
        self._trouble = trouble

    @property
    def trouble(self) -> TraceError | None:
        """Why no trace is kept now, None while they are."""
        return self._trouble if self._writer is None else self._writer.failure

    @property
    def writing(self) -> Writing:
        """What the writer does and has done; all 0 where there is none."""
        if self._writer is None:
            return Writing(is_kept=self._trouble is None)
        return self._writer.writing

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: that traces are not kept, or that some were lost."""
        notes = []
        if self.trouble is not None:
            notes.append(f"traces are not kept, answers go on: {self.trouble}")
        if self._writer is not None and self._writer.lost:
            notes.append(f"traces: {self._writer.lost} events could not be written and are lost")
        return tuple(notes)

    def observer(self, versions: Callable[[RunStarted], Versions]) -> Callable[[Event], None]:
        """Return what is to be called with every event of every run.

        Args:
            versions: Tells at a run's start what it depends on.
        """
        return (lambda _: None) if self._writer is None else self._writer.observer(versions)

    @property
    def is_missed(self) -> bool:
        """Whether models.yaml requires a trace of each run, and none can be kept now."""
        return self._settings.required and self.trouble is not None

    def check(self) -> None:
        """Refuse a run that would leave no trace, where one is required.

        Raises:
            OverloadedError: there is none to be had now.
        """
        if self.is_missed:
            raise OverloadedError(
                "no trace can be kept now, and traces.required asks for one; ask again later",
                code="traces_unavailable",
                retry_after=RETRY_SECONDS,
            )

    async def acknowledge(self, run_id: str) -> bool:
        """Wait a moment until a run that has ended is on disk; False: that is not certain."""
        return self._writer is not None and await self._writer.acknowledge(run_id)

    async def named(self, answer: Answer) -> Answer:
        """Wait as ``acknowledge`` does; return the answer, naming its trace where that is kept."""
        if await self.acknowledge(answer.run_id):
            return replace(answer, trace_id=answer.run_id)
        return answer

    async def list(self, query: Query) -> Page:
        """Return the newest traces that are wanted.

        Raises:
            TraceError: the file cannot be read.
        """
        return Page(()) if self._store is None else await asyncio.to_thread(self._store.list, query)

    async def get(self, id: str, key: str | None = None) -> Json | None:
        """Return a trace in its JSON form; None: there is none, or it is not this key's.

        Raises:
            TraceError: the file cannot be read.
        """
        if self._store is None:
            return None
        return await asyncio.to_thread(self._store.get, id, key)

    async def delete(self, id: str, key: str | None = None) -> bool:
        """Delete a trace, the last of it soon after; False: there is none, or not of this key.

        Raises:
            RequestError: its run still goes.
            TraceError: this process may not write.
        """
        return await self._owned().call(lambda c: upkeep.delete_one(c, id, key))

    async def purge(self, before: float = math.inf) -> int:
        """Delete all traces from before a time, so that nothing of them is left; return how many.

        Args:
            before: In seconds since 1970.

        Raises:
            TraceError: this process may not write, there is no room, or somebody keeps reading.
        """
        writer = self._owned()
        return await writer.call(lambda c: upkeep.purge(c, writer.file, before))

    async def add(self, trace: Trace) -> bool:
        """Keep a trace that comes from elsewhere; False: it is here already.

        Raises:
            TraceError: this process may not write.
        """
        content = self._settings.content
        return await self._owned().call(lambda c: write_trace(c, trace, content))

    async def keep_reply(self, reply: Reply, oldest: float) -> None:
        """Keep an HTTP answer with its trace, where texts are; nothing of a run that failed.

        Args:
            reply: The answer.
            oldest: Answers from before this time, in seconds since 1970, are deleted.

        Raises:
            TraceError: this process may not write.
        """
        if self._settings.content == "full" and self._writer is not None:
            await self._writer.call(lambda c: replies.keep(c, reply, oldest))

    async def replies(self, oldest: float) -> Sequence[Reply]:
        """Return the HTTP answers since a time, in seconds since 1970; the oldest first.

        Raises:
            TraceError: the file cannot be read.
        """
        if self._writer is None:
            return []
        return await self._writer.call(lambda c: replies.read(c, oldest))

    def _owned(self) -> TraceWriter:
        if self._writer is None:
            raise self._trouble or TraceError("no traces are kept here")
        return self._writer


@asynccontextmanager
async def open_traces(
    settings: TraceSettings, folder: Path, *, wait: float = LOCK_SECONDS
) -> AsyncGenerator[Traces, None]:
    """Write traces for the length of a block, or say why not.

    Args:
        settings: Of models.yaml.
        folder: Of the files.
        wait: Seconds for another process to let go.

    Raises:
        TraceError: they cannot be written, and are required.
    """
    with ExitStack() as stack:
        store = TraceStore(folder / FILE_NAME)
        try:
            writer = await asyncio.to_thread(_start, stack, settings, folder, wait)
        except TraceError as error:
            if settings.required:
                raise
            yield Traces(store, None, settings, error)
            return
        try:
            yield Traces(store, writer, settings)
        finally:
            await asyncio.to_thread(writer.close)


def _start(stack: ExitStack, settings: TraceSettings, folder: Path, wait: float) -> TraceWriter:
    file = stack.enter_context(sole_writer(folder, wait))
    writer = TraceWriter(open_writer(file, settings.durability), file, settings)
    writer.start()
    return writer
