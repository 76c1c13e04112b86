"""Writes the events of runs that go on side by side."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from localfusion.events import (
    CallStarted,
    Event,
    Record,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunStarted,
)
from localfusion.traces import form, rows
from localfusion.traces.content import redact, redact_prompt
from localfusion.traces.deltas import is_delta, joined
from localfusion.traces.messages import Conversation
from localfusion.traces.store import read_trace
from localfusion.traces.trace import (
    PROCESS_ENDED,
    Content,
    RenderedPrompt,
    Summary,
    Trace,
    Versions,
    head_of,
    last_question,
    rendered,
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A run's first event, with what is known besides.

    Attributes:
        created: Seconds since 1970.
    """

    event: RunStarted
    created: float
    versions: Versions

    @property
    def run_id(self) -> str:
        return self.event.run_id


Item = Begun | Event


ENDS = frozenset({RunCompleted, RunFailed, RunAborted})
"""Events that nothing of their run comes behind."""


@dataclass(slots=True)
class _Open:
    """A run that is being written.

    Attributes:
        place: Of its row.
        events: Rows of events that it has, and ``calls`` of calls.
        question: All of it, for the search; and the answer, where there is one.
    """

    place: int
    summary: Summary
    versions: Versions
    conversation: Conversation
    events: int = 0
    calls: int = 0
    question: str = ""
    answer: str = ""

    @property
    def state(self) -> tuple[Summary, int, int, str, str]:
        """What writing changes, for ``reset``."""
        return self.summary, self.events, self.calls, self.question, self.answer

    def reset(self, state: tuple[Summary, int, int, str, str]) -> None:
        """Go back to a state, for what was written since has not been kept."""
        self.summary, self.events, self.calls, self.question, self.answer = state
        self.conversation = Conversation(self.place, self.conversation.content)


@dataclass(slots=True)
class Recorder:
    """Writes runs, each from its first event to its last.

    Args:
        content: What may be kept of texts.
    """

    content: Content
    _open: dict[str, _Open] = field(default_factory=dict)
    _ended: list[_Open] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether no run goes."""
        return not self._open

    def write(self, connection: sqlite3.Connection, items: Sequence[Item]) -> None:
        """Write what has happened, in one transaction; where that fails nothing has been written.

        Items of a run whose beginning is not known are left out.
        """
        runs: dict[str, list[Item]] = {}
        for item in items:
            runs.setdefault(item.run_id, []).append(item)
        before = [(own, own.state) for run in runs if (own := self._open.get(run))]
        ended = len(self._ended)
        try:
            with rows.transaction(connection):
                for run, happened in runs.items():
                    self._write_run(connection, run, happened)
        except BaseException:
            for run in runs:
                self._open.pop(run, None)
            for opened, state in before:
                opened.reset(state)
                self._open[opened.summary.id] = opened
            del self._ended[ended:]
            raise

    def finish(self, connection: sqlite3.Connection) -> None:
        """Do what runs' ends leave to do, in one transaction; nobody waits for that.

        What fails is done at the next start.
        """
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        with rows.transaction(connection):
            for own in ended:
                words = (own.question, own.answer)
                _finish(connection, own.place, own.summary, self.content, words)

    def _write_run(self, connection: sqlite3.Connection, run: str, items: Sequence[Item]) -> None:
        events = [item.event if isinstance(item, Begun) else item for item in items]
        if isinstance(items[0], Begun):
            self._open[run] = self._begin(connection, items[0])
        own = self._open.get(run)
        if own is None:
            return
        before = own.summary
        for event in events:
            if is_delta(event):  # hundreds, and lists show nothing of them
                continue
            own.summary = own.summary.after(event)
            if isinstance(event, RunRequested):
                self._write_request(connection, own, event)
            elif isinstance(event, CallStarted):
                self._write_call(connection, own, rendered(event))
            elif isinstance(event, RunCompleted):
                own.answer = event.answer.text
        self._write_events(connection, own, [e for e in events if not isinstance(e, Record)])
        rows.update_summary(connection, own.place, before, own.summary)
        if any(type(event) in ENDS for event in events):
            self._ended.append(self._open.pop(run))

    def _begin(self, connection: sqlite3.Connection, begun: Begun) -> _Open:
        summary = Summary(id=begun.run_id, created=begun.created).after(begun.event)
        place = rows.insert_summary(connection, summary, self.content)
        return _Open(place, summary, begun.versions, Conversation(place, self.content))

    def _write_request(
        self, connection: sqlite3.Connection, own: _Open, event: RunRequested
    ) -> None:
        if self.content == "full":
            own.question = last_question(event.request)
        else:
            own.summary = replace(own.summary, question=None)
        head = redact(form.encode_head(head_of(event, own.versions)), self.content)
        rows.insert_head(connection, own.place, head)

    def _write_call(self, connection: sqlite3.Connection, own: _Open, call: RenderedPrompt) -> None:
        write_call(connection, own.conversation, own.calls, call)
        own.calls += 1

    def _write_events(
        self, connection: sqlite3.Connection, own: _Open, events: Sequence[Event]
    ) -> None:
        # What a completed run's last event has whole is not kept twice.
        has_all = any(isinstance(event, RunCompleted) for event in events)
        keeps_deltas = self.content == "full" and not has_all
        kept = joined(event for event in events if keeps_deltas or not is_delta(event))
        for are_deltas, group in groupby(kept, is_delta):
            packed = form.pack_events([*group], self.content)
            place = (own.place, own.events)
            rows.insert_events(connection, place, packed, are_deltas=are_deltas)
            own.events += 1


def write_call(
    connection: sqlite3.Connection, conversation: Conversation, number: int, call: RenderedPrompt
) -> None:
    """Write what an engine was asked; turns that are there already are not written again."""
    turns = enumerate(call.prompt.messages)
    ids = [conversation.put(connection, place, turn) for place, turn in turns]
    bare = replace(call, prompt=replace(call.prompt, messages=()))
    body = redact_prompt(form.encode_prompt(bare), conversation.content)
    rows.insert_call(connection, (conversation.trace, number), ids, body)


def write_trace(connection: sqlite3.Connection, trace: Trace, content: Content) -> bool:
    """Write a whole trace that comes from elsewhere, in one transaction; False: it is here already.

    Args:
        connection: In no transaction.
        trace: With as much content as it has.
        content: What may be kept of it.
    """
    kept = min(content, trace.content, key=("none", "hash", "full").index)
    summary = trace.summary
    if summary.status == "running":
        summary = replace(summary, status="interrupted", reason=PROCESS_ENDED)
    if kept != "full":
        summary = replace(summary, question=None)
    with rows.transaction(connection):
        if connection.execute("SELECT 1 FROM trace WHERE id = ?", [summary.id]).fetchone():
            return False
        place = rows.insert_summary(connection, summary, kept)
        if trace.head is not None:
            rows.insert_head(connection, place, redact(form.encode_head(trace.head), kept))
        rows.insert_events(connection, (place, 0), form.pack_events(trace.events, kept))
        conversation = Conversation(place, kept)
        for number, prompt in enumerate(trace.prompts):
            write_call(connection, conversation, number, prompt)
        _finish(connection, place, summary, kept, _words_of(trace))
    return True


def finish_left(connection: sqlite3.Connection) -> None:
    """Do what a process left that ended at once; runs that it ran are interrupted."""
    with rows.transaction(connection):
        connection.execute(
            "UPDATE trace SET status = 'interrupted', reason = ? WHERE status = 'running'",
            [PROCESS_ENDED],
        )
        left = connection.execute("SELECT place, id FROM trace WHERE NOT finished").fetchall()
        for place, id in left:
            try:
                trace = form.from_json(read_trace(connection, id) or {})
            except ValueError:  # damaged: whoever reads it is told
                rows.finish(connection, place)
            else:
                _finish(connection, place, trace.summary, trace.content, _words_of(trace))


Words = tuple[str, str]
"""Of a question and its answer."""


def _words_of(trace: Trace) -> Words:
    question = "" if trace.head is None else last_question(trace.head.request)
    return question, "" if trace.answer is None else trace.answer.text


def _finish(
    connection: sqlite3.Connection, place: int, summary: Summary, content: Content, words: Words
) -> None:
    if summary.status not in ("failed", "interrupted"):
        rows.delete_deltas(connection, place)  # the last event has what they joined to
    if content == "full":
        rows.index(connection, place, summary, *words)
    rows.finish(connection, place)
