"""One request on its way, and the verbs that are all a policy can do with it."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from localfusion.config import Member, Preset
from localfusion.engines.base import Engine
from localfusion.errors import (
    ASLEEP,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    FusionError,
    JudgeError,
    QuorumError,
)
from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    AnswerDelta,
    AnswerStarted,
    Event,
)
from localfusion.fusion.judge import Judge, candidate_names
from localfusion.fusion.panel import Call, Enough, ask_panel
from localfusion.types import (
    Analysis,
    Answer,
    Candidate,
    Delta,
    FinishReason,
    Message,
    Prompt,
    Request,
    SamplingParams,
    Stage,
    StageTiming,
    Status,
    Usage,
)

JUDGE_PRIORITY = -10
PANEL_TEMPERATURE = 0.7
"""Of members that name none; arXiv 2502.00674 samples at 0.7."""
PANEL_SHARE = 0.75
"""Part of the deadline after which the panel is cut, so that the judge still has time."""
MIN_ROOM = 16
"""Tokens of answer that must fit behind a prompt; below, the prompt counts as too long."""
DEADLINE = "deadline_exceeded"


@dataclass(slots=True)
class _Reading:
    """A judge's or writer's text while it streams."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(calls=1))
    has_begun: bool = False

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage


class Run:
    """One request: its preset, its engines, its clock. Made by Fusion; policies call the verbs.

    Args:
        counts: Tokens of the conversation for each model that could count them.
        emit: Takes the events, in order.
    """

    def __init__(  # noqa: PLR0913  Fusion alone calls it, each value is one fact of the run
        self,
        run_id: str,
        request: Request,
        preset_name: str,
        preset: Preset,
        engines: Mapping[str, Engine],
        counts: Mapping[str, int],
        emit: Callable[[Event], Awaitable[None]],
    ) -> None:
        self.run_id = run_id
        self.request = request
        self.preset_name = preset_name
        self.preset = preset
        self._engines = engines
        self._counts = counts
        self._emit_to = emit
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._deadline = self._began + preset.deadline
        self._candidates: tuple[Candidate, ...] = ()
        self._analysis: Analysis | None = None
        self._analysis_failure: str | None = None
        self._judge_error: str | None = None
        self._stages: dict[Stage, StageTiming] = {}

    async def emit(self, event: Event) -> None:
        """Stamp an event with the run and its time, and pass it on."""
        await self._emit_to(replace(event, run_id=self.run_id, at=self._clock() - self._began))

    # The verbs.

    async def ask(self) -> tuple[Candidate, ...]:
        """Ask the whole panel at once; return the usable candidates in the preset's order.

        Raises:
            QuorumError: nobody gave a usable answer; the message has each member's reason.
        """
        began = self._clock()
        total = self.preset.candidates
        enough = Enough(
            quorum=min(total, self.preset.quorum or max(2, total - 1)),
            grace=self.preset.grace,
            deadline=self._began + PANEL_SHARE * self.preset.deadline,
        )
        self._candidates = await ask_panel(self._calls(), enough, self.emit)
        usage = sum((c.usage for c in self._candidates), Usage())
        self._stages["panel"] = StageTiming(self._clock() - began, replace(usage, calls=total))
        usable = tuple(c for c in self._candidates if c.is_usable)
        if not usable:
            reasons = "; ".join(f"{c.model}: {c.error}" for c in self._candidates)
            raise QuorumError(f"no member of the panel answered: {reasons}")
        return usable

    async def analyze(self, candidates: Sequence[Candidate]) -> Analysis | None:
        """Let the judge compare the drafts; None if it gives nothing usable, which is reported.

        The result names drafts by letter, for ``synthesize``; events and answer have names.
        """
        judge, model = self._judge(candidates), self._judge_name
        await self.emit(AnalysisStarted(judge=model))
        began, reading = self._clock(), _Reading()
        cap = self.preset.analysis_max_tokens
        error: str | None = None
        lettered: Analysis | None = None
        try:
            prompt = await self._judge_prompt(judge.analysis_messages(), SamplingParams(), cap)
            await self._read(model, replace(prompt, schema=judge.schema(cap)), reading)
            lettered = judge.parse("".join(reading.text))
            self._analysis = judge.named(lettered)
        except FusionError as failure:
            error, self._analysis_failure = str(failure), _judge_code(failure)
        self._stages["analysis"] = StageTiming(self._clock() - began, reading.usage)
        await self.emit(AnalysisCompleted(analysis=self._analysis, error=error))
        return lettered

    async def synthesize(
        self, candidates: Sequence[Candidate], analysis: Analysis | None
    ) -> Answer:
        """Let the judge write the answer, streamed; if it cannot begin, the best candidate answers.

        Raises:
            JudgeError: it failed after its first word, which cannot be taken back.
        """
        judge = self._judge(candidates)
        messages = judge.synthesis_messages(analysis)
        asked = self.request.sampling
        sampling = replace(asked, stop=(*asked.stop, judge.stop))
        cap = self.preset.answer_max_tokens
        status, reason = self._wholeness()
        began, reading = self._clock(), _Reading()
        try:
            prompt = await self._judge_prompt(messages, sampling, cap)
            answer = await self._write(self._judge_name, prompt, reading, status, reason)
            if not reading.has_begun:
                raise JudgeError("the judge wrote nothing", code="judge_empty_completion")
        except FusionError as error:
            if reading.has_begun:
                raise
            self._stages["synthesis"] = StageTiming(self._clock() - began, reading.usage)
            self._judge_error = str(error)
            best = _best(candidates)
            return await self.choose(best, status="panel_only", reason=_judge_code(error))
        return answer

    async def write(self) -> Answer:
        """Let the panel's one model answer the conversation as it is."""
        model = self.preset.panel[0].model
        sampling = self._capped(model, self.request.sampling, self._counts.get(model), None)
        prompt = Prompt(self.request.messages, sampling)
        reading = _Reading()
        answer = await self._write(model, prompt, reading, "single", None)
        if not reading.has_begun:  # an empty answer is an answer
            await self._announce(model, "single", None)
        return answer

    async def choose(self, candidate: Candidate, *, status: Status, reason: str) -> Answer:
        """Give a candidate's text as the answer, word for word."""
        reading = _Reading([candidate.text], [candidate.reasoning])
        reading.finish_reason = "length" if candidate.finish_reason == "length" else "stop"
        await self._announce(candidate.model, status, reason)
        await self.emit(AnswerDelta(text=candidate.text, reasoning=candidate.reasoning))
        return self._answer(candidate.model, reading, status, reason)

    # What the verbs are made of.

    def _calls(self) -> list[Call]:
        calls: list[Call] = []
        for place, member in enumerate(self.preset.panel):
            seed = self._seed("panel", place) if member.seed is None else member.seed
            for sample in range(member.n):
                sampling = self._member_sampling(member, seed + sample)
                prompt = Prompt(self.request.messages, sampling)
                engine = self._engines[member.model]
                calls.append(Call(len(calls), member.model, engine, prompt, sample))
        return calls

    def _member_sampling(self, member: Member, seed: int) -> SamplingParams:
        sampling = SamplingParams(
            temperature=PANEL_TEMPERATURE if member.temperature is None else member.temperature,
            top_p=member.top_p,
            max_tokens=member.max_tokens,
            seed=seed,
        )
        count = self._counts.get(member.model)
        return self._capped(member.model, sampling, count, self.preset.panel_max_tokens)

    def _capped(
        self, model: str, sampling: SamplingParams, count: int | None, default: int | None
    ) -> SamplingParams:
        """Bound max_tokens by the room that a prompt of ``count`` tokens leaves in the window."""
        caps = [sampling.max_tokens or default]
        if count is not None:
            caps.append(self._engines[model].facts.max_model_len - count)
        return replace(sampling, max_tokens=min((c for c in caps if c is not None), default=None))

    def _seed(self, stage: str, place: int) -> int:
        key = f"{self.request.sampling.seed}/{stage}/{place}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1

    @property
    def _judge_name(self) -> str:
        if self.preset.judge is None:
            raise JudgeError(f"preset {self.preset_name} has no judge")
        return self.preset.judge

    def _judge(self, candidates: Sequence[Candidate]) -> Judge:
        names = candidate_names(self._candidates)
        chosen = tuple(names[c.index] for c in candidates)
        return Judge(
            self.request.messages, tuple(candidates), chosen, f"{self._seed('nonce', 0):08x}"
        )

    async def _judge_prompt(
        self, messages: tuple[Message, ...], sampling: SamplingParams, default_cap: int
    ) -> Prompt:
        model = self._judge_name
        count = await count_tokens(self._engines[model], messages)
        window = self._engines[model].facts.max_model_len
        if count is not None and window - count < MIN_ROOM:
            raise ContextLengthError(
                f"conversation and drafts take {count} of the {window} tokens of judge {model}"
            )
        sampling = replace(
            self._capped(model, sampling, count, default_cap),
            temperature=sampling.temperature or 0.0,
            seed=self._seed("judge", 0),
        )
        return Prompt(messages, sampling, priority=JUDGE_PRIORITY)

    async def _read(
        self,
        model: str,
        prompt: Prompt,
        reading: _Reading,
        tell: Callable[[Delta], Awaitable[None]] | None = None,
    ) -> None:
        try:
            async with (
                asyncio.timeout_at(self._deadline),
                aclosing(self._engines[model].generate(prompt)) as deltas,
            ):
                async for delta in deltas:
                    reading.add(delta)
                    if tell is not None and (delta.text or delta.reasoning):
                        await tell(delta)
        except TimeoutError as error:
            raise EngineTimeoutError(
                f"the deadline of {self.preset.deadline:g} s ended {model}", code=DEADLINE
            ) from error

    async def _write(
        self,
        model: str,
        prompt: Prompt,
        reading: _Reading,
        status: Status,
        reason: str | None,
    ) -> Answer:
        async def tell(delta: Delta) -> None:
            if not reading.has_begun:
                reading.has_begun = True
                await self._announce(model, status, reason)
            await self.emit(AnswerDelta(text=delta.text, reasoning=delta.reasoning))

        began = self._clock()
        try:
            await self._read(model, prompt, reading, tell)
        except FusionError as error:
            if not reading.has_begun:
                raise
            if error.code != DEADLINE:
                message = f"{model} failed after its first word: {error}"
                raise JudgeError(message, code="judge_upstream_error") from error
            reading.finish_reason, reason = "length", DEADLINE
            status = "degraded" if status == "full" else status
        self._stages["synthesis"] = StageTiming(self._clock() - began, reading.usage)
        return self._answer(model, reading, status, reason)

    async def _announce(self, model: str, status: Status, reason: str | None) -> None:
        lost = tuple(c for c in self._candidates if not c.is_usable)
        await self.emit(
            AnswerStarted(
                model=model, status=status, reason=reason, lost=lost, error=self._judge_error
            )
        )

    def _wholeness(self) -> tuple[Status, str | None]:
        """Say how whole the panel was, with the first reason why it was not."""
        lost = [c.failure_reason for c in self._candidates if not c.is_usable]
        cut = ["member_length" for c in self._candidates if c.finish_reason == "length"]
        reason = next(iter([*lost, *cut]), self._analysis_failure or self.preset.warning)
        return ("full" if reason is None else "degraded"), reason

    def _answer(self, model: str, reading: _Reading, status: Status, reason: str | None) -> Answer:
        return Answer(
            run_id=self.run_id,
            preset=self.preset_name,
            policy=self.preset.policy,
            model=model,
            text="".join(reading.text),
            reasoning="".join(reading.reasoning),
            finish_reason=reading.finish_reason,
            status=status,
            reason=reason,
            candidates=self._candidates,
            analysis=self._analysis,
            seconds=self._clock() - self._began,
            stages=dict(self._stages),
        )


async def count_tokens(engine: Engine, messages: Sequence[Message]) -> int | None:
    """Count a prompt's tokens; None where the engine cannot count, or not before it is asked.

    Raises:
        EngineUnavailableError: it is not there.
    """
    try:
        return await engine.count_tokens(messages)
    except EngineUnavailableError as error:
        if error.code == ASLEEP:
            return None
        raise
    except EngineError:
        return None  # generating will show what is wrong, and that failure is recorded


def _best(candidates: Sequence[Candidate]) -> Candidate:
    """Pick the first finished in the preset's order, else the first: never the longest."""
    return next((c for c in candidates if c.finish_reason == "stop"), candidates[0])


def _judge_code(error: FusionError) -> str:
    if error.code.startswith("judge_") or error.code in (DEADLINE, "context_length_exceeded"):
        return error.code
    return "judge_upstream_error"
