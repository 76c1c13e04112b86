"""What is known of a run from its events, and its account, for every API. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import Response

from localfusion.errors import FusionError, OverloadedError
from localfusion.events import (
    AnalysisStarted,
    AnswerStarted,
    Event,
    PanelCompleted,
    RunCompleted,
    RunStarted,
    SynthesisStarted,
)
from localfusion.server.envelope import error_object, error_response
from localfusion.types import Answer, Candidate, Stage, Status, TokenLogprob, Usage

TRACE_HEADER = "x-localfusion-trace"


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
    def counts(self) -> str:
        """How many members have answered, of how many."""
        return f"{self._done}/{self._members}"

    @property
    def progress(self) -> str:
        """Phase and counts in a few words, never a model's text."""
        match self.stage:
            case None:
                return "localfusion starting"
            case "panel":
                return f"localfusion panel {self.counts}"
            case _:
                return f"localfusion {self.stage}"

    def headers(self, ignored: Sequence[str]) -> dict[str, str]:
        """Headers as far as they are known; the status is ``pending`` until the panel settles.

        Before the run's end its trace has an id; whether it is kept is known behind it.
        """
        settled = self.answer or self.settled
        headers: dict[str, str] = {"x-localfusion-status": settled.status if settled else "pending"}
        trace_id = self.run_id if self.answer is None else self.answer.trace_id
        if trace_id is not None:
            headers[TRACE_HEADER] = trace_id
        if settled and settled.lost:
            headers["x-localfusion-lost"] = ",".join(
                f"{candidate.index}={candidate.failure_reason}" for candidate in settled.lost
            )
        if ignored:
            headers["x-localfusion-ignored"] = ",".join(ignored)
        return headers

    def refusal(self, error: FusionError) -> Response:
        """Return OpenAI's answer to a request that failed before its first byte."""
        headers = {TRACE_HEADER: self.run_id} if self.run_id else {}
        is_refused = self.run_id is None and isinstance(error, OverloadedError)
        stage = "admission" if is_refused else self.stage
        return error_response(
            error, trace_id=self.run_id, stage=stage, model=self.model, headers=headers
        )

    def error(self, error: FusionError) -> dict[str, object]:
        return error_object(error, trace_id=self.run_id, stage=self.stage, model=self.model)


def usage(
    answer: Answer, tokens: Callable[[Usage], dict[str, object]] | None = None
) -> dict[str, object]:
    """Sum the tokens over every call of the run; ``stages`` has the parts.

    Args:
        answer: Whose.
        tokens: How the API names them; None: as in chat.
    """
    told = tokens or tokens_block
    stages = {
        name: told(timing.usage) | {"calls": timing.usage.calls}
        for name, timing in answer.stages.items()
    }
    return told(answer.usage) | {"stages": stages}


def logprob_block(token: TokenLogprob) -> dict[str, object]:
    """Return a token's probability, and those of what else could have stood there."""
    return {**_probability(token), "top_logprobs": [_probability(other) for other in token.top]}


def _probability(token: TokenLogprob) -> dict[str, object]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": list(token.token.encode(errors="replace")),
    }


def tokens_block(tokens: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "total_tokens": tokens.total_tokens,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
    }


def reasoning_fields(text: str) -> dict[str, object]:
    # Clients are split over the name (vllm-project/vllm #27755), so both are sent.
    return {"reasoning": text, "reasoning_content": text} if text else {}


def status_block(
    trace_id: str | None, status: Status, reason: str | None, lost: Sequence[Candidate]
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
        "trace_id": trace_id,
    }
