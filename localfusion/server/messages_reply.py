"""What a Messages client gets: the message, or its events. Folds over events."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import Response

from localfusion.errors import FusionError
from localfusion.events import AnswerDelta, AnswerStarted, Event, RunCompleted
from localfusion.functions import ToolCall
from localfusion.server import sse
from localfusion.server.block import told_block
from localfusion.server.envelope import Refusal, error_headers, error_object
from localfusion.server.messages_fields import MessagesRequest
from localfusion.server.view import RunView, status_block, usage
from localfusion.types import Answer, Usage

Block = dict[str, object]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: FusionError, **where: str | None) -> dict[str, object]:
    """Return an error as this API has it, with the fields of ours beside its own."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": error_object(error, **where) | {"type": kind}}


def error_answer(error: FusionError, **where: str | None) -> Response:
    """Return the answer to a request that failed before its first byte."""
    return Refusal(error_body(error, **where), error, error_headers(error))


@dataclass(slots=True)
class MessagesReply:
    """Turns events into a message, or its stream: start, blocks, delta, stop.

    Calls of tools come whole at the end: only then is it known whether their input is JSON.
    """

    asked: MessagesRequest
    view: RunView = field(default_factory=RunView)
    _open: str | None = None
    _count: int = 0

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to the stream; nothing for most."""
        self.view.see(event)
        if not self.asked.chat.is_stream:
            return b""
        match event:
            case AnswerStarted():
                return self._start(event)
            case AnswerDelta():
                frames = self._write("thinking", event.reasoning) if self._shows else b""
                return frames + self._write("text", event.text)
            case RunCompleted():
                return self._end(event.answer)
        return b""

    def keep_alive(self) -> bytes:
        return sse.comment(self.view.progress)

    def body(self, answer: Answer) -> Mapping[str, object]:
        message = self._message(answer.run_id, answer.model)
        blocks: list[Block] = []
        if answer.reasoning and self._shows:
            blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
        if answer.text or not answer.tool_calls:
            blocks.append(_text_block(answer.text))
        calls = [_call_block(call) for call in answer.tool_calls]
        return message | {
            "content": [*blocks, *calls],
            "stop_reason": _stop_reason(answer, calls),
            "usage": usage(answer, _tokens),
            **told_block(answer, self.asked.chat),
        }

    def headers(self) -> dict[str, str]:
        return self.view.headers(self.asked.chat.ignored)

    def refusal(self, error: FusionError) -> Response:
        response = self.view.refusal(error)
        where = {"trace_id": self.view.run_id, "stage": self.view.stage, "model": self.view.model}
        body = error_body(error, **where)
        headers = {k: v for k, v in response.headers.items() if k != "content-length"}
        return Refusal(body, error, headers)

    def fail(self, error: FusionError) -> bytes:
        """Return the event that ends a stream whose status has been sent."""
        return sse.event(error_body(error, trace_id=self.view.run_id, stage=self.view.stage))

    @property
    def _shows(self) -> bool:
        return self.asked.shows_thinking

    def _start(self, started: AnswerStarted) -> bytes:
        message = self._message(started.run_id, started.model)
        if started.status != "full":
            told = status_block(started.run_id, started.status, started.reason, started.lost)
            message["fusion"] = told
        return sse.event({"type": "message_start", "message": message})

    def _write(self, kind: str, text: str) -> bytes:
        if not text:
            return b""
        frames = b""
        if self._open != kind:
            frames = self._close()
            thinking: Block = {"type": "thinking", "thinking": "", "signature": ""}
            frames += self._begin(_text_block("") if kind == "text" else thinking)
            self._open = kind
        return frames + self._delta({"type": f"{kind}_delta", kind: text})

    def _end(self, answer: Answer) -> bytes:
        frames = self._close()
        calls = [_call_block(call) for call in answer.tool_calls]
        if not self._count and not calls:
            frames += self._begin(_text_block("")) + self._stop()
        for block in calls:
            if block["type"] == "tool_use":
                frames += self._begin(block | {"input": {}})
                told = json.dumps(block["input"], ensure_ascii=False)
                frames += self._delta({"type": "input_json_delta", "partial_json": told})
            else:
                frames += self._begin(_text_block(""))
                frames += self._delta({"type": "text_delta", "text": block["text"]})
            frames += self._stop()
        ended: Block = {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(answer, calls), "stop_sequence": None},
            "usage": usage(answer, _tokens),
            **told_block(answer, self.asked.chat),
        }
        return frames + sse.event(ended) + sse.event({"type": "message_stop"})

    def _begin(self, block: Block) -> bytes:
        begun = {"type": "content_block_start", "index": self._count, "content_block": block}
        self._count += 1
        return sse.event(begun)

    def _delta(self, delta: Block) -> bytes:
        index = self._count - 1
        return sse.event({"type": "content_block_delta", "index": index, "delta": delta})

    def _stop(self) -> bytes:
        return sse.event({"type": "content_block_stop", "index": self._count - 1})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return self._stop()

    def _message(self, run_id: str, model: str) -> Block:
        return {
            "id": f"msg_{run_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": _tokens(Usage()),
        }


def _text_block(text: str) -> Block:
    return {"type": "text", "text": text, "citations": None}


def _call_block(call: ToolCall) -> Block:
    """Return a call as a block; as text where its arguments are no JSON object."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        direct = {"type": "direct"}
        named: Block = {"id": call.id, "name": call.name, "input": arguments, "caller": direct}
        return {"type": "tool_use", **named}
    return _text_block(f"(I call {call.name} with {call.arguments})")


def _stop_reason(answer: Answer, calls: Sequence[Block]) -> str:
    if answer.finish_reason == "length":
        return "max_tokens"
    if answer.finish_reason == "content_filter":
        return "refusal"
    # Which stop sequence ended it engines do not tell, so end_turn stands for those too.
    return "tool_use" if any(call["type"] == "tool_use" for call in calls) else "end_turn"


def _tokens(tokens: Usage) -> Block:
    # This API counts what came from a cache apart from the rest of the input.
    return {
        "input_tokens": tokens.prompt_tokens - tokens.cached_tokens,
        "cache_read_input_tokens": tokens.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_creation": None,
        "output_tokens": tokens.completion_tokens,
        "output_tokens_details": None,
        "server_tool_use": None,
        "service_tier": None,
        "inference_geo": None,
    }
