"""What a chat client gets: the completion object, or its chunks. Pure folds over events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import Response

from localfusion import wire
from localfusion.engines.openai_wire import call_list
from localfusion.errors import FusionError
from localfusion.events import (
    AnalysisStarted,
    AnswerDelta,
    AnswerStarted,
    Event,
    PanelCompleted,
    RunCompleted,
    RunStarted,
    SynthesisStarted,
)
from localfusion.functions import ToolCallDelta
from localfusion.server import sse
from localfusion.server.block import told_block
from localfusion.server.fields import ChatRequest
from localfusion.server.view import (
    RunView,
    logprob_block,
    reasoning_fields,
    status_block,
    tokens_block,
    usage,
)
from localfusion.types import Answer, TokenLogprob, Usage


@dataclass(slots=True)
class ChatReply:
    """Turns events into a chat completion, or its stream: role, deltas, finish, usage, end.

    Attributes:
        created: Seconds since 1970, the same in every chunk.
        index: Of the choice.
    """

    chat: ChatRequest
    created: int
    index: int = 0
    view: RunView = field(default_factory=RunView)
    _has_role: bool = False

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to the stream; nothing for most."""
        frames = self.choice(event)
        if isinstance(event, RunCompleted) and self.chat.is_stream:
            frames += self.close(usage(event.answer))
        return frames

    def choice(self, event: Event) -> bytes:
        """Return what an event adds to this choice's part of the stream."""
        self.view.see(event)
        frames = b""
        if not self.chat.is_stream:
            return frames  # a piece for each token would be made for nobody
        if self.chat.options.stream_panel:
            frames += self._frame({"choices": [], "fusion_event": wire.encode(event)})
        if self.chat.options.progress == "reasoning" and (line := _phase(event, self.view)):
            frames += self._role({}) + self._choice(reasoning_fields(line))
        match event:
            case AnswerStarted():
                frames += self._settled(event)
            case AnswerDelta():
                delta = _delta(event)
                logprobs = _logprobs(event.logprobs) if self._wants_logprobs else None
                frames += self._choice(delta, logprobs=logprobs) if delta or logprobs else b""
            case RunCompleted():
                frames += self._end(event.answer)
        return frames

    def close(self, told: Mapping[str, object]) -> bytes:
        """Return the end of the stream, with what it has used."""
        frames = self._frame({"choices": [], "usage": told}) if self.chat.include_usage else b""
        return frames + sse.DONE

    def keep_alive(self) -> bytes:
        return sse.comment(self.view.progress)

    def body(self, answer: Answer) -> dict[str, object]:
        return {
            "id": f"chatcmpl-{answer.run_id}",
            "object": "chat.completion",
            "created": self.created,
            "model": answer.model,
            "choices": [self.whole(answer)],
            "usage": usage(answer),
        } | told_block(answer, self.chat)

    def whole(self, answer: Answer) -> dict[str, object]:
        """Build this choice of an answer that is not streamed."""
        message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.tool_calls:
            message["content"] = answer.text or None
            message["tool_calls"] = call_list(answer.tool_calls)
        return {
            "index": self.index,
            "message": message | reasoning_fields(answer.reasoning),
            "logprobs": _logprobs(answer.logprobs) if self._wants_logprobs else None,
            "finish_reason": _finish(answer),
        }

    def headers(self) -> dict[str, str]:
        return self.view.headers(self.chat.ignored)

    def refusal(self, error: FusionError) -> Response:
        return self.view.refusal(error)

    def fail(self, error: FusionError) -> bytes:
        """Return the chunk that ends a stream whose status has been sent; no [DONE] follows it."""
        failed: dict[str, object] = {"error": self.view.error(error)}
        return self._choice({"content": ""}, finish_reason="error", extra=failed)

    @property
    def _wants_logprobs(self) -> bool:
        return self.chat.request.logprobs is not None

    def _role(self, extra: dict[str, object]) -> bytes:
        if self._has_role and not extra:
            return b""
        self._has_role = True
        return self._choice({"role": "assistant", "content": ""}, extra=extra)

    def _settled(self, settled: AnswerStarted) -> bytes:
        extra: dict[str, object] = {}
        if settled.status != "full":
            block = status_block(settled.run_id, settled.status, settled.reason, settled.lost)
            extra["fusion"] = block
        return self._role(extra)

    def _end(self, answer: Answer) -> bytes:
        settled = self.view.settled
        extra: dict[str, object] = {}
        if self.chat.options.include is not None:
            extra = told_block(answer, self.chat)
        elif answer.status != (settled.status if settled else "full"):
            # Cut after its first word: the status of the first chunk no longer holds.
            extra["fusion"] = _status(answer)
        return self._role({}) + self._choice({}, finish_reason=_finish(answer), extra=extra)

    def _choice(
        self,
        delta: dict[str, object],
        *,
        finish_reason: str | None = None,
        logprobs: dict[str, object] | None = None,
        extra: dict[str, object] | None = None,
    ) -> bytes:
        choice = {
            "index": self.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        empty: dict[str, object] = {"usage": None} if self.chat.include_usage else {}
        return self._frame({"choices": [choice], **empty, **(extra or {})})

    def _frame(self, content: dict[str, object]) -> bytes:
        answer = self.view.answer
        model = answer.model if answer else (self.view.settled and self.view.settled.model)
        return sse.data(
            {
                "id": f"chatcmpl-{self.view.run_id or 'none'}",
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": model or self.chat.request.model,
                **content,
            }
        )


@dataclass(slots=True)
class ChatChoices:
    """Several answers of a single model, each a run of its own, in one reply."""

    chat: ChatRequest
    created: int
    _replies: dict[str, ChatReply] = field(default_factory=dict)
    _answers: dict[str, Answer] = field(default_factory=dict)

    def feed(self, event: Event) -> bytes:
        if isinstance(event, RunStarted):
            reply = ChatReply(self.chat, self.created, index=len(self._replies))
            self._replies[event.run_id] = reply
        frames = self._replies[event.run_id].choice(event)
        if isinstance(event, RunCompleted):
            self._answers[event.run_id] = event.answer
            if len(self._answers) == self.chat.choices:
                frames += self._first.close(tokens_block(self._usage))
        return frames

    def keep_alive(self) -> bytes:
        return self._first.keep_alive()

    def body(self, answer: Answer) -> dict[str, object]:
        choices = [self._replies[name].whole(self._answers[name]) for name in self._replies]
        body = self._first.body(answer)
        return body | {"choices": choices, "usage": tokens_block(self._usage)}

    def headers(self) -> dict[str, str]:
        return self._first.headers()

    def refusal(self, error: FusionError) -> Response:
        return self._first.refusal(error)

    def fail(self, error: FusionError) -> bytes:
        return self._first.fail(error)

    @property
    def _first(self) -> ChatReply:
        return next(iter(self._replies.values()), ChatReply(self.chat, self.created))

    @property
    def _usage(self) -> Usage:
        return sum((answer.usage for answer in self._answers.values()), Usage())


def _finish(answer: Answer) -> str:
    # A model that was made to call ends with "stop" at some servers.
    is_cut = answer.finish_reason == "length"
    return "tool_calls" if answer.tool_calls and not is_cut else answer.finish_reason


def _status(answer: Answer) -> dict[str, object]:
    return status_block(answer.trace_id, answer.status, answer.reason, answer.lost)


def _delta(event: AnswerDelta) -> dict[str, object]:
    delta: dict[str, object] = {"content": event.text} if event.text else {}
    if event.tool_calls:
        delta["tool_calls"] = [_tool_call(piece) for piece in event.tool_calls]
    return delta | reasoning_fields(event.reasoning)


def _tool_call(piece: ToolCallDelta) -> dict[str, object]:
    function: dict[str, object] = {"arguments": piece.arguments}
    if not piece.name:
        return {"index": piece.index, "function": function}
    function["name"] = piece.name
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, object] | None:
    if not tokens:
        return None
    return {"content": [logprob_block(token) for token in tokens]}


def _phase(event: Event, view: RunView) -> str:
    """Say in a line what has just begun or ended, for clients that show reasoning alone."""
    match event:
        case RunStarted(judge=judge, members=members) if judge:
            return f"Asking {len(members)} times.\n"
        case PanelCompleted(candidate=candidate) if candidate.is_lost:
            return f"{candidate.model} is lost: {candidate.failure_reason}.\n"
        case PanelCompleted(candidate=candidate):
            return f"{candidate.model} has answered ({view.counts}).\n"
        case AnalysisStarted(judge=judge):
            return f"{judge} compares the answers.\n"
        case SynthesisStarted(judge=judge):
            return f"{judge} reads and writes.\n"
        case AnswerStarted(status=status, reason=reason) if status != "full":
            return f"The answer is {status}: {reason}.\n"
    return ""
