"""The items that a model writes: reasoning, message, function calls; whole and as events. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from localfusion.events import AnswerDelta
from localfusion.functions import ToolCallDelta
from localfusion.server.view import logprob_block
from localfusion.types import TokenLogprob

Emit = Callable[[str, Mapping[str, object]], None]
"""Takes an event: its type and its fields, without the number."""
Item = dict[str, object]
Ending = Literal["completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Of an item that is one text.

    Attributes:
        event: What its own events begin with.
        part: Its content, still empty.
    """

    prefix: str
    event: str
    item: Mapping[str, object]
    part: Mapping[str, object]


_REASONING = _Kind(
    "rs",
    "response.reasoning_text",
    {"type": "reasoning", "summary": []},
    {"type": "reasoning_text", "text": ""},
)
_MESSAGE = _Kind(
    "msg",
    "response.output_text",
    {"type": "message", "role": "assistant"},
    {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
)


@dataclass(slots=True)
class _Open:
    """An item that is being written."""

    place: int
    item: Item
    kind: _Kind | None = None
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Item] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def where(self) -> Item:
        return {"item_id": self.item["id"], "output_index": self.place}


@dataclass(slots=True)
class Output:
    """The items of a response, folded from the answer's deltas.

    Attributes:
        run_id: Part of every item's id.
        emit: Takes the events that tell of them.
        items: So far, as the response has them.
    """

    run_id: str
    emit: Emit
    items: list[Item] = field(default_factory=list)
    _open: _Open | None = None
    _calls: dict[int, _Open] = field(default_factory=dict)

    def add(self, prefix: str, fields: Mapping[str, object]) -> tuple[int, Item]:
        """Add an item in progress; return its place and itself."""
        place = len(self.items)
        item = {"id": f"{prefix}_{self.run_id}_{place}", "status": "in_progress", **fields}
        self.items.append(item)
        return place, item

    def write(self, delta: AnswerDelta) -> None:
        """Add a piece of the answer."""
        if delta.reasoning:
            self._write(_REASONING, delta.reasoning, ())
        if delta.text:
            self._write(_MESSAGE, delta.text, delta.logprobs)
        for piece in delta.tool_calls:
            self._call(piece)

    def end(self, ending: Ending) -> None:
        """Close what is open; an answer of nothing is an empty message."""
        if not self._calls and (self._open is None or self._open.kind is not _MESSAGE):
            self._close("completed")
            self._open = self._start(_MESSAGE)
        self._close(ending)
        for call in self._calls.values():
            self._end_call(call, ending)

    def abandon(self) -> None:
        """Close what is open after a failure."""
        self._close("incomplete")
        for call in self._calls.values():
            self._end_call(call, "incomplete")

    def _write(self, kind: _Kind, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        if self._open is None or self._open.kind is not kind:
            self._close("completed")
            self._open = self._start(kind)
        self._open.pieces.append(text)
        fields: Item = {**self._open.where, "content_index": 0, "delta": text}
        if kind is _MESSAGE:
            told = [logprob_block(token) for token in logprobs]
            self._open.logprobs += told
            fields["logprobs"] = told
        self.emit(f"{kind.event}.delta", fields)

    def _start(self, kind: _Kind) -> _Open:
        place, item = self.add(kind.prefix, {**kind.item, "content": []})
        started = _Open(place, item, kind)
        self.emit("response.output_item.added", {"output_index": place, "item": item})
        self.emit(
            "response.content_part.added", {**started.where, "content_index": 0, "part": kind.part}
        )
        return started

    def _close(self, ending: Ending) -> None:
        written, self._open = self._open, None
        if written is None or written.kind is None:
            return
        part: Item = {**written.kind.part, "text": written.text}
        told: Item = {"text": written.text}
        if written.kind is _MESSAGE:
            part["logprobs"] = told["logprobs"] = written.logprobs
        written.item["content"] = [part]
        where = {**written.where, "content_index": 0}
        self.emit(f"{written.kind.event}.done", {**where, **told})
        self.emit("response.content_part.done", {**where, "part": part})
        self.finish(written.place, ending)

    def finish(self, place: int, ending: Ending) -> None:
        """Close the item at a place, whose content is all there."""
        item = self.items[place]
        item["status"] = ending
        self.emit("response.output_item.done", {"output_index": place, "item": item})

    def _call(self, piece: ToolCallDelta) -> None:
        call = self._calls.get(piece.index)
        if call is None:
            self._close("completed")
            fields = {"type": "function_call", "call_id": piece.id, "name": piece.name}
            place, item = self.add("fc", {**fields, "arguments": ""})
            call = self._calls[piece.index] = _Open(place, item)
            self.emit("response.output_item.added", {"output_index": place, "item": item})
        if piece.arguments:
            call.pieces.append(piece.arguments)
            fields_ = {**call.where, "delta": piece.arguments}
            self.emit("response.function_call_arguments.delta", fields_)

    def _end_call(self, call: _Open, ending: Ending) -> None:
        call.item["arguments"] = call.text
        told = {**call.where, "name": call.item["name"], "arguments": call.text}
        self.emit("response.function_call_arguments.done", told)
        self.finish(call.place, ending)
