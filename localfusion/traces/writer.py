"""The one thread that writes traces, beside the event loop and never in its way."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from localfusion.config import TraceSettings
from localfusion.errors import TraceError
from localfusion.events import Event, RunAborted, RunStarted
from localfusion.traces import upkeep
from localfusion.traces.database import explain, is_damage
from localfusion.traces.deltas import DELTAS
from localfusion.traces.inbox import GATHER_SECONDS, Inbox
from localfusion.traces.records import ENDS, Begun, Item, Recorder, finish_left
from localfusion.traces.trace import Versions

logger = logging.getLogger(__name__)

T = TypeVar("T")

ACKNOWLEDGE_SECONDS = 0.25
"""The longest that an answer's last byte waits for its trace."""
RETRY_SECONDS = 10.0
RETENTION_SECONDS = 3600.0
IDLE_SECONDS = 1.0
DELTA_SECONDS = 0.5
"""Until a piece of a stream is written where nothing else happens: each batch costs processor time
that engines could use, and what a killed process loses is at most so much of an unfinished text."""
CLOSE_SECONDS = 5.0
"""For what deletions left to do, when the process ends; the rest is done at the next start."""
MOST_UNASKED = 4096
"""Runs whose end nobody asks about, before they are forgotten."""


@dataclass(frozen=True, slots=True)
class Writing:
    """The writer of traces at one moment.

    Attributes:
        waiting: Events that are not written yet.
        commits, commit_seconds: Times that events were written, and what they took.
        lost: Events that were not and will not be written.
        is_kept: Whether traces are written now.
    """

    waiting: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    lost: int = 0
    is_kept: bool = True


@dataclass(slots=True)
class _Word:
    """Whether a run's trace is on disk, to be told once; made on the event loop."""

    is_whole: bool = True
    future: asyncio.Future[bool] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def give(self, is_kept: bool) -> None:
        """Tell it, from whichever thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it who could ask
            loop = self.future.get_loop()
            loop.call_soon_threadsafe(self._set, is_kept and self.is_whole)

    def _set(self, is_kept: bool) -> None:
        if not self.future.done():
            self.future.set_result(is_kept)


@dataclass(slots=True)
class _Command(Generic[T]):
    """Work for the writer's thread."""

    work: Callable[[sqlite3.Connection], T]
    future: "Future[T]" = field(default_factory=Future)

    def do(self, connection: sqlite3.Connection, file: Path) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work(connection))
        except sqlite3.Error as error:
            self.future.set_exception(explain(file, error))
        except Exception as error:  # noqa: BLE001  whoever gave the work is told
            self.future.set_exception(error)


class TraceWriter:
    """Writes what it observes, and says of each run whether it is on disk.

    Args:
        connection: From ``open_writer``; the writer's from now on.
        file: Of the connection.
        settings: What is kept, and for how long.
        clock: Seconds since 1970.
        retry: Seconds between attempts while the disk takes nothing.
        inbox: Holds what is to be written; None: of the usual size.

    Attributes:
        file: The database.
        failure: Why nothing is written now, None while it is.
        is_dead: The file is damaged: nothing will be written any more.
        lost: Events that were not and will not be written.
        commits, commit_seconds: Times that it wrote, and what they took.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: Path,
        settings: TraceSettings,
        *,
        clock: Callable[[], float] = time.time,
        retry: float = RETRY_SECONDS,
        inbox: Inbox | None = None,
    ) -> None:
        self._connection = connection
        self.file = file
        self._settings = settings
        self._clock = clock
        self._retry = retry
        self._inbox = inbox or Inbox()
        self._recorder = Recorder(settings.content)
        self._scrub = upkeep.Scrub(connection, file)
        self._words: dict[str, _Word] = {}
        self._commands: deque[_Command[object]] = deque()
        self._batch: list[Item] = []
        self._next_retention = self._next_checkpoint = self._next_scrub = 0.0
        self._wrote_at = 0.0
        self._has_begun = self._has_ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._main, name="traces", daemon=True)
        self.failure: TraceError | None = None
        self.is_dead = False
        self.lost = 0
        self.commits = 0
        self.commit_seconds = 0.0

    @property
    def writing(self) -> Writing:
        """What it does and has done."""
        waiting, is_kept = len(self._inbox.items), self.failure is None
        return Writing(waiting, self.commits, self.commit_seconds, self.lost, is_kept)

    def start(self) -> None:
        """Begin; runs that an earlier process left are finished first."""
        self._thread.start()

    def close(self) -> None:
        """Write what there is, and end."""
        self._closing.set()
        self._inbox.hurry()
        self._thread.join()

    # On the event loop.

    def observer(self, versions: Callable[[RunStarted], Versions]) -> Callable[[Event], None]:
        """Return what takes note of events; it never waits.

        Args:
            versions: Tells at a run's start what it depends on.
        """
        waiting, most = self._inbox.items, self._inbox.most_items

        def observe(event: Event) -> None:
            # Of hundreds of tokens each comes this way: one step, and nothing is called.
            if type(event) in DELTAS and self.failure is None and len(waiting) < most:
                waiting.append(event)
            else:
                self._take(event, versions)

        return observe

    def _take(self, event: Event, versions: Callable[[RunStarted], Versions]) -> None:
        item: Item = event
        if isinstance(event, RunStarted):
            item = Begun(event, self._clock(), versions(event))
            self._expect(event.run_id)
        if self.is_dead or not self._inbox.put(item):
            self.lost += 1
            self._spoil(event.run_id)
        if type(event) in ENDS:
            self._ended(event)

    async def acknowledge(self, run_id: str) -> bool:
        """Wait until a run that has ended is on disk; False: it is not, and may never be."""
        word = self._words.get(run_id)
        if word is None:
            return False
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                return await word.future
        except TimeoutError:
            return False
        finally:
            self._words.pop(run_id, None)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Let the thread do something once all that has happened by now is written.

        Raises:
            TraceError: the file does not take it.
        """
        command = _Command(work)
        self._commands.append(command)  # type: ignore[arg-type]  # of whatever type
        if self._has_ended:  # looked at last, for the thread may end in between
            raise self.failure or TraceError("traces are closed")
        self._inbox.hurry()
        return await asyncio.wrap_future(command.future)

    def _expect(self, run_id: str) -> None:
        if len(self._words) >= MOST_UNASKED:
            self._words = {r: word for r, word in self._words.items() if not word.future.done()}
        self._words[run_id] = _Word()

    def _spoil(self, run_id: str) -> None:
        if run_id in self._words:
            self._words[run_id].is_whole = False

    def _ended(self, event: Event) -> None:
        word = self._words.get(event.run_id)
        if word is None:
            return
        if self.failure is not None or not word.is_whole:
            word.give(False)
        if isinstance(event, RunAborted):
            self._words.pop(event.run_id)  # nobody will ask

    # On the thread.

    def _main(self) -> None:
        pause = 0.0
        while True:
            if self.failure is None:
                self._inbox.wait(pause)
            else:
                self._closing.wait(self._retry)
            is_last = self._closing.is_set()
            pause = self._turn(is_last)
            if self.is_dead or (is_last and (self._inbox.is_empty or self.failure is not None)):
                break
        self._end()

    def _turn(self, is_last: bool) -> float:
        """Do what there is to do; return after how many seconds there may be more."""
        pause = 0.0
        try:
            if not self._has_begun:
                finish_left(self._connection)
                self._has_begun = True
            # Counted first: what had happened before a command was given is written before it.
            commands = len(self._commands)
            if is_last or commands or self._is_due:
                self._write()
            for _ in range(commands):
                self._commands.popleft().do(self._connection, self.file)
            if not self._inbox.has_news:
                pause = self._tidy()
        except sqlite3.DatabaseError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  the edge of the thread, which must not end
            self._stumble(error)
        else:
            if self.failure is not None:
                logger.warning("traces are written again")
            self.failure = None
        return pause

    @property
    def _is_due(self) -> bool:
        """Whether anything is to be written now; deltas alone wait a little."""
        is_old = time.monotonic() >= self._wrote_at + DELTA_SECONDS
        return self._inbox.has_news or bool(self._batch) or self._recorder.is_idle or is_old

    def _write(self) -> None:
        self._batch = self._batch or self._inbox.take()
        if not self._batch:
            return
        began = time.monotonic()
        self._recorder.write(self._connection, self._batch)
        self._wrote_at = time.monotonic()
        self.commits += 1
        self.commit_seconds += self._wrote_at - began
        written, self._batch = self._batch, []
        self._inbox.wrote(written)
        self._tell(written, is_kept=True)
        self._recorder.finish(self._connection)

    def _fail(self, error: sqlite3.DatabaseError) -> None:
        """Note that the file takes nothing now; what was to be written waits, or nothing will be.

        Answers do not wait: their traces are not acknowledged.
        """
        self.is_dead = is_damage(error)
        if not (self.is_dead or isinstance(error, sqlite3.OperationalError)):
            self._stumble(error)
            return
        if self.failure is None:
            logger.warning("traces are not written: %s", error)
        self.failure = explain(self.file, error)
        self._tell(self._batch, is_kept=False)

    def _stumble(self, error: Exception) -> None:
        """Go on after a fault of ours, which costs what was to be written."""
        logger.error("traces: %s, events are lost", type(error).__name__)  # no content
        self._has_begun = True
        self._drop()

    def _drop(self) -> None:
        dropped, self._batch = self._batch, []
        self.lost += len(dropped)
        self._inbox.wrote(dropped)
        for item in dropped:
            self._spoil(item.run_id)
        self._tell(dropped, is_kept=False)

    def _tell(self, items: Sequence[Item], *, is_kept: bool) -> None:
        for item in items:
            if type(item) in ENDS and (word := self._words.get(item.run_id)):
                word.give(is_kept)

    def _tidy(self) -> float:
        """Do one chore that is due; return after how many seconds the next one may be."""
        now = time.monotonic()
        if now >= self._next_retention:
            if self._retain():
                return 0.0
            if not self._scrub.is_due:
                self._next_retention = now + RETENTION_SECONDS
        if self._scrub.is_due and now >= self._next_scrub:
            wait = self._scrub.step()
            if wait == 0.0:
                return 0.0
            self._next_scrub = now + (wait or 0.0)
        log = upkeep.log_bytes(self.file)
        is_quiet = self._recorder.is_idle and now >= self._wrote_at + IDLE_SECONDS
        if (log > upkeep.WAL_BYTES or (log and is_quiet)) and now >= self._next_checkpoint:
            upkeep.checkpoint(self._connection, upkeep.READERS_MS)
            self._next_checkpoint = now + upkeep.PATIENCE
        if not self._recorder.is_idle:
            return GATHER_SECONDS
        return IDLE_SECONDS if log or self._scrub.is_due else self._next_retention - now

    def _retain(self) -> bool:
        """Delete a slice of what is too old or too much; return whether there was any."""
        oldest = self._clock() - self._settings.max_days * upkeep.DAY
        places = upkeep.expired(self._connection, oldest)
        # Until the index has let go of what was deleted, the file looks as full as before.
        if not places and not self._scrub.is_due:
            places = upkeep.surplus(self._connection, self._settings.max_bytes)
        if places:
            upkeep.delete(self._connection, places)
        return bool(places)

    def _end(self) -> None:
        self._drop()  # what could not be written
        self._has_ended = True
        reason = self.failure or TraceError("traces are closed")
        while self._commands:
            self._commands.popleft().future.set_exception(reason)
        try:
            if not self.is_dead:
                self._leave_clean()
            self._connection.close()
        except sqlite3.Error as error:
            logger.warning("traces are not closed cleanly: %s", error)

    def _leave_clean(self) -> None:
        until = time.monotonic() + CLOSE_SECONDS
        while self._scrub.is_due and time.monotonic() < until:
            self._scrub.step()
        upkeep.checkpoint(self._connection, upkeep.READERS_MS)
