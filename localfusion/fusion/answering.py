"""From a run to its client: the first word's announcement, the deltas, and the whole account."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from localfusion.config import Rates
from localfusion.errors import FusionError, JudgeError
from localfusion.events import AnswerDelta, AnswerStarted, CandidateChecked, Event
from localfusion.functions import ToolCall
from localfusion.fusion.calls import DEADLINE, Calls, Reading, Tell
from localfusion.fusion.judge.inline import InlineAnalysis
from localfusion.fusion.schema import Form
from localfusion.judging import Analysis, Judging, TruncatedDraft
from localfusion.types import (
    Answer,
    Candidate,
    Check,
    Delta,
    Exit,
    FinishReason,
    Status,
    TokenLogprob,
)

Joules = Callable[[], float | None]
"""Reads the machine's energy counter."""


@dataclass(frozen=True, slots=True)
class Wholeness:
    """How whole an answer is, and why it is not."""

    status: Status
    reason: str | None = None


@dataclass(slots=True)
class Answering:
    """What the client has been told of a run, and what is known for its account.

    Attributes:
        run_id: Stamped on every event, beside its time.
        has_begun: The first word is out and cannot be taken back.
        form: What the answer's text is to have.
        judge_error: The judge's failure in words where a candidate answers in its place.
    """

    run_id: str
    preset_name: str
    policy: str
    seed: int
    calls: Calls
    sink: Callable[[Event], Awaitable[None]]
    rates: Rates | None = None
    joules: Joules = field(default=lambda: None)
    form: Form = field(default_factory=Form)
    analysis: Analysis | None = None
    judging: Judging | None = None
    truncated: tuple[TruncatedDraft, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    judge_error: str | None = None
    has_begun: bool = False
    _model: str = ""
    _wholeness: Wholeness = Wholeness("full")
    _exit: Exit | None = None
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    _finish_reason: FinishReason = "stop"
    _joules_before: float | None = field(init=False)

    def __post_init__(self) -> None:
        self._joules_before = self.joules()

    async def emit(self, event: Event) -> None:
        """Stamp an event with the run and its time, and pass it on."""
        event.stamp(self.run_id, self.calls.now)
        await self.sink(event)

    async def checked(self, index: int, check: Check) -> None:
        """Note what came of running a candidate's answer."""
        self.candidates = tuple(
            replace(c, checks=(*c.checks, check)) if c.index == index else c
            for c in self.candidates
        )
        await self.emit(CandidateChecked(index=index, check=check))

    @asynccontextmanager
    async def writing(
        self,
        model: str,
        wholeness: Wholeness,
        reading: Reading,
        *,
        inline: InlineAnalysis | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Tell]:
        """Take the deltas of the model that writes; a deadline after the first word ends it well.

        Args:
            model: Who writes.
            wholeness: Told before the first word.
            reading: Its output.
            inline: Holds a comparison back that may precede the answer; one that is cut ends the
                call.
            most: Tokens that the reader may see, where the call may write more than that.

        Raises:
            JudgeError: the model failed after its first word.
        """
        self._model, self._wholeness = model, wholeness

        async def tell(delta: Delta) -> bool:
            if inline is not None:
                delta = replace(delta, text=inline.feed(delta.text))
            await self._say(delta)
            is_cut = inline is not None and inline.is_cut
            return not is_cut and (most is None or len(self._text) < most)

        try:
            yield tell
        except FusionError as error:
            if not self.has_begun:
                raise
            if error.code != DEADLINE:
                message = f"{model} failed after its first word: {error}"
                raise JudgeError(message, code="judge_upstream_error") from error
            status = "degraded" if self._wholeness.status == "full" else self._wholeness.status
            self._wholeness, self._exit = Wholeness(status, DEADLINE), "deadline"
            self._finish_reason = "length"
        else:
            await self._say(Delta("" if inline is None else inline.end()))
            self._finish_reason = reading.finish_reason

    async def replay(self, candidate: Candidate, wholeness: Wholeness, exit_: Exit | None) -> None:
        """Give a stored candidate, at once and word for word."""
        self._model, self._wholeness, self._exit = candidate.model, wholeness, exit_
        self._finish_reason = "stop" if candidate.finish_reason == "stop" else "length"
        await self._say(Delta(candidate.text, candidate.reasoning))

    async def _say(self, delta: Delta) -> None:
        if not (delta.text or delta.reasoning or delta.tool_calls):
            return
        await self._begin()
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        self._logprobs += delta.logprobs
        for piece in delta.tool_calls:
            known = self._tool_calls.get(piece.index, ToolCall("", "", ""))
            self._tool_calls[piece.index] = ToolCall(
                known.id or piece.id, known.name or piece.name, known.arguments + piece.arguments
            )
        await self.emit(
            AnswerDelta(
                text=delta.text,
                reasoning=delta.reasoning,
                tool_calls=delta.tool_calls,
                logprobs=delta.logprobs,
            )
        )

    async def _begin(self) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        await self.emit(
            AnswerStarted(
                model=self._model,
                status=self._wholeness.status,
                reason=self._wholeness.reason,
                lost=tuple(c for c in self.candidates if c.is_lost),
                error=self.judge_error,
            )
        )

    async def answer(self) -> Answer:
        """Close the account."""
        await self._begin()  # an empty answer is an answer
        calls, seconds = self.calls, self.calls.now
        facts = {model: engine.facts for model, engine in calls.engines.items()}
        answer = Answer(
            run_id=self.run_id,
            preset=self.preset_name,
            policy=self.policy,
            model=self._model,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self._finish_reason,
            status=self._wholeness.status,
            reason=self._wholeness.reason,
            candidates=self.candidates,
            analysis=self.analysis,
            seconds=seconds,
            stages=calls.ledger.in_order(),
            exit=self._exit,
            judging=self.judging,
            truncated=self.truncated,
            critical_path=calls.ledger.critical_path(seconds),
            cost=calls.ledger.cost(facts, self.rates, self._spent()),
            seed=self.seed,
            tool_calls=tuple(call for _, call in sorted(self._tool_calls.items())),
            logprobs=tuple(self._logprobs),
        )
        return self.form.check(answer)

    def _spent(self) -> float | None:
        after = self.joules()
        if after is None or self._joules_before is None:
            return None
        return after - self._joules_before
