"""What a Responses client gets: the response object, or its numbered events. Folds over events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import Response

from localfusion.errors import FusionError, RequestError
from localfusion.events import AnswerDelta, Event, RunCompleted, RunStarted
from localfusion.server import sse
from localfusion.server.block import told_block
from localfusion.server.responses_fields import ResponsesRequest
from localfusion.server.responses_fusion import FusionItem
from localfusion.server.responses_output import Item, Output
from localfusion.server.view import RunView, usage
from localfusion.types import Answer, Usage

Keep = Callable[[Mapping[str, object]], None]


@dataclass(slots=True)
class ResponsesReply:
    """Turns events into a response object, or its stream, which holds the same.

    A stream begins with the first thing there is to tell: for a panel its first member, otherwise
    the answer; until then a failure has an HTTP status of its own.

    Attributes:
        created: Seconds since 1970.
        keep: Takes the response that is to be stored.
    """

    asked: ResponsesRequest
    created: int
    keep: Keep
    view: RunView = field(default_factory=RunView)
    _output: Output = field(init=False)
    _fusion: FusionItem = field(init=False)
    _final: Item = field(init=False, default_factory=dict)
    _number: int = 0
    _frames: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._begin("none")

    def _begin(self, run_id: str) -> None:
        self._output = Output(run_id, self._emit)
        self._fusion = FusionItem(self._output, self._emit, self.asked.streams_panel)

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to the stream; nothing for most."""
        self.view.see(event)
        match event:
            case RunStarted():
                self._begin(event.run_id)
            case AnswerDelta():
                self._output.write(event)
            case RunCompleted():
                self._end(event.answer)
            case _:
                self._fusion.see(event)
        return self._take()

    def keep_alive(self) -> bytes:
        return sse.comment(self.view.progress)

    def body(self, answer: Answer) -> Mapping[str, object]:
        assert self._final["id"] == f"resp_{answer.run_id}"  # it was fed with this answer
        return self._final

    def headers(self) -> dict[str, str]:
        return self.view.headers(self.asked.chat.ignored)

    def refusal(self, error: FusionError) -> Response:
        return self.view.refusal(error)

    def fail(self, error: FusionError) -> bytes:
        """Return the events that end a stream whose status has been sent."""
        told = self.view.error(error)
        if self.view.run_id is None:
            named = {name: told[name] for name in ("code", "message", "param")}
            self._add("error", named)
            return self._take()
        self._output.abandon()
        self._fusion.abandon(error)
        # Of OpenAI's codes; ours stands in the metadata.
        code = "invalid_prompt" if isinstance(error, RequestError) else "server_error"
        response = self._response("failed") | {"error": told | {"code": code}}
        self._emit("response.failed", {"response": response})
        if self.asked.is_stored:
            self.keep(response)
        return self._take()

    def _end(self, answer: Answer) -> None:
        is_cut = answer.finish_reason in ("length", "content_filter")
        self._output.end("incomplete" if is_cut else "completed")
        self._fusion.note_end(answer)
        response = self._response("incomplete" if is_cut else "completed")
        response |= {"usage": usage(answer, _tokens)} | told_block(answer, self.asked.chat)
        if is_cut:
            cause = "max_output_tokens" if answer.finish_reason == "length" else "content_filter"
            response["incomplete_details"] = {"reason": cause}
        else:
            response["completed_at"] = self.created + int(answer.seconds)
        self._emit(f"response.{response['status']}", {"response": response})
        self._final = response
        if self.asked.is_stored:
            self.keep(response)

    def _response(self, status: str) -> Item:
        settled = self.view.answer or self.view.settled
        return {
            "id": f"resp_{self.view.run_id}",
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": settled.model if settled else self.asked.chat.requested,
            "output": self._output.items,
            "usage": None,
            "service_tier": "default",
            "truncation": "disabled",
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            **self.asked.echo,
        }

    def _emit(self, type: str, fields: Mapping[str, object]) -> None:
        if not self.asked.chat.is_stream:
            return
        if self._number == 0:
            first = self._response("in_progress") | {"output": []}
            for name in ("response.created", "response.in_progress"):
                self._add(name, {"response": first})
        self._add(type, fields)

    def _add(self, type: str, fields: Mapping[str, object]) -> None:
        self._frames += sse.event({"type": type, "sequence_number": self._number, **fields})
        self._number += 1

    def _take(self) -> bytes:
        frames = bytes(self._frames)
        self._frames.clear()
        return frames


def _tokens(tokens: Usage) -> Item:
    return {
        "input_tokens": tokens.prompt_tokens,
        # Engines do not tell what they wrote to their caches, and charge nothing for it.
        "input_tokens_details": {"cached_tokens": tokens.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": tokens.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
        "total_tokens": tokens.total_tokens,
    }
