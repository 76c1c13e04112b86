"""What a chat client gets: the completion object, chunks, usage, status. Pure folds over events."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import Response

from localfusion import wire
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
from localfusion.server import sse
from localfusion.server.envelope import error_object, error_response
from localfusion.server.fields import ChatRequest
from localfusion.types import Answer, Candidate, Stage, Status, Usage


@dataclass(slots=True)
class RunView:
    """What is known of a run so far, from its events.

    Attributes:
        stage: The stage that goes on, None before the first event.
        model: Who judges or writes in it, None while the panel answers.
        settled: From the moment when the panel's wholeness is known.
    """

    run_id: str | None = None
    stage: Stage | None = None
    model: str | None = None
    settled: AnswerStarted | None = None
    answer: Answer | None = None
    _done: int = 0
    _members: int = 0

    def see(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.run_id = event.run_id
                self.stage = "panel" if event.judge else "synthesis"
                self._members = len(event.members)
            case PanelCompleted():
                self._done += 1
            case AnalysisStarted():
                self.stage, self.model = "analysis", event.judge
            case SynthesisStarted():
                self.stage, self.model = "synthesis", event.judge
            case AnswerStarted():
                self.stage, self.model, self.settled = "synthesis", event.model, event
            case RunCompleted():
                self.answer = event.answer

    @property
    def progress(self) -> str:
        """Phase and counts in a few words, never a model's text."""
        match self.stage:
            case None:
                return "localfusion starting"
            case "panel":
                return f"localfusion panel {self._done}/{self._members}"
            case _:
                return f"localfusion {self.stage}"

    def headers(self, ignored: Sequence[str]) -> dict[str, str]:
        """Headers as far as they are known; the status is ``pending`` until the panel settles."""
        settled = self.answer or self.settled
        headers: dict[str, str] = {"x-localfusion-status": settled.status if settled else "pending"}
        if self.run_id is not None:
            headers["x-localfusion-trace"] = self.run_id
        if settled and settled.lost:
            headers["x-localfusion-lost"] = ",".join(
                f"{candidate.index}={candidate.failure_reason}" for candidate in settled.lost
            )
        if ignored:
            headers["x-localfusion-ignored"] = ",".join(ignored)
        return headers

    def refusal(self, error: FusionError) -> Response:
        """Return OpenAI's answer to a request that failed before its first byte."""
        headers = {"x-localfusion-trace": self.run_id} if self.run_id else {}
        return error_response(
            error, trace_id=self.run_id, stage=self.stage, model=self.model, headers=headers
        )

    def error(self, error: FusionError) -> dict[str, object]:
        return error_object(error, trace_id=self.run_id, stage=self.stage, model=self.model)


def completion(answer: Answer, created: int) -> dict[str, object]:
    """Build the ``chat.completion`` object; ``created`` in seconds since 1970."""
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    body: dict[str, object] = {
        "id": f"chatcmpl-{answer.run_id}",
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [
            {
                "index": 0,
                "message": message | _reasoning(answer.reasoning),
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": usage(answer),
    }
    if answer.status != "full":
        body["fusion"] = _status(answer.run_id, answer.status, answer.reason, answer.lost)
    return body


def usage(answer: Answer) -> dict[str, object]:
    """Sum the tokens over every call of the run; ``stages`` has the parts."""
    stages = {
        name: _tokens(timing.usage) | {"calls": timing.usage.calls}
        for name, timing in answer.stages.items()
    }
    return _tokens(answer.usage) | {"stages": stages}


def _tokens(tokens: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "total_tokens": tokens.total_tokens,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
    }


def _reasoning(text: str) -> dict[str, object]:
    # Clients are split over the name (vllm-project/vllm #27755), so both are sent.
    return {"reasoning": text, "reasoning_content": text} if text else {}


def _status(
    run_id: str, status: Status, reason: str | None, lost: Sequence[Candidate]
) -> dict[str, object]:
    return {
        "status": status,
        "reason": reason,
        "lost": [
            {
                "index": candidate.index,
                "model": candidate.model,
                "failure_reason": candidate.failure_reason,
                "detail": candidate.error,
            }
            for candidate in lost
        ],
        "trace_id": run_id,
    }


@dataclass(slots=True)
class ChatReply:
    """Turns events into a chat completion, or its stream: role, deltas, finish, usage, end.

    Attributes:
        created: Seconds since 1970, the same in every chunk.
    """

    chat: ChatRequest
    created: int
    view: RunView = field(default_factory=RunView)
    _has_role: bool = False

    def feed(self, event: Event) -> bytes:
        """Return what an event adds to the stream; nothing for most."""
        self.view.see(event)
        frames = b""
        if self.chat.stream_panel:
            frames += self._frame({"choices": [], "fusion_event": wire.encode(event)})
        match event:
            case AnswerStarted():
                frames += self._role(event)
            case AnswerDelta():
                delta = ({"content": event.text} if event.text else {}) | _reasoning(
                    event.reasoning
                )
                frames += self._choice(delta) if delta else b""
            case RunCompleted():
                frames += self._end(event.answer)
        return frames

    def keep_alive(self) -> bytes:
        return sse.comment(self.view.progress)

    def body(self, answer: Answer) -> dict[str, object]:
        return completion(answer, self.created)

    def headers(self) -> dict[str, str]:
        return self.view.headers(self.chat.ignored)

    def refusal(self, error: FusionError) -> Response:
        return self.view.refusal(error)

    def fail(self, error: FusionError) -> bytes:
        """Return the chunk that ends a stream whose status has been sent; no [DONE] follows it."""
        failed: dict[str, object] = {"error": self.view.error(error)}
        return self._choice({"content": ""}, "error", failed)

    def _role(self, settled: AnswerStarted) -> bytes:
        self._has_role = True
        extra: dict[str, object] = {}
        if settled.status != "full":
            extra["fusion"] = _status(settled.run_id, settled.status, settled.reason, settled.lost)
        return self._choice({"role": "assistant", "content": ""}, None, extra)

    def _end(self, answer: Answer) -> bytes:
        settled = self.view.settled
        extra: dict[str, object] = {}
        if answer.status != (settled.status if settled else "full"):
            # Cut after its first word: the status of the first chunk no longer holds.
            extra["fusion"] = _status(answer.run_id, answer.status, answer.reason, answer.lost)
        frames = b"" if self._has_role else self._choice({"role": "assistant", "content": ""})
        frames += self._choice({}, answer.finish_reason, extra)
        if self.chat.include_usage:
            frames += self._frame({"choices": [], "usage": usage(answer)})
        return frames + sse.DONE

    def _choice(
        self,
        delta: dict[str, object],
        finish_reason: str | None = None,
        extra: dict[str, object] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
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
