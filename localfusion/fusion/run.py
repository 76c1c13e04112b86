"""One request on its way, and the verbs that are all a policy can do with it."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from localfusion.config import Member, Preset
from localfusion.errors import FusionError, JudgeError
from localfusion.events import (
    AnalysisCompleted,
    AnalysisStarted,
    Event,
    PanelCompleted,
    PolicyChosen,
    SynthesisStarted,
    VerdictCompleted,
)
from localfusion.fusion.agreement.extract import Extractor
from localfusion.fusion.answering import Answering, Wholeness
from localfusion.fusion.calls import DEADLINE, Calls, Reading
from localfusion.fusion.judge.drafts import Order
from localfusion.fusion.judge.inline import InlineAnalysis
from localfusion.fusion.judge.judge import judge_code
from localfusion.fusion.judge.pace import JudgePace
from localfusion.fusion.judge.seat import Seat
from localfusion.fusion.members import plan_calls
from localfusion.fusion.opening import Opening
from localfusion.fusion.panel import Call, Emit, Enough, Panel, Settled, ask_panel, never, nobody
from localfusion.fusion.prompts import last_question
from localfusion.fusion.recorded import recall, tell_panel
from localfusion.fusion.routing import DEFAULT_RULES, Routing, Rules, route
from localfusion.fusion.solo import NOT_CALLED, TOOL_TURN, Solo
from localfusion.fusion.turns import as_text
from localfusion.fusion.verify import alike, check_all
from localfusion.judging import Analysis, Verdict
from localfusion.types import Answer, Candidate, Exit, Request

T = TypeVar("T")


class Run:
    """One request: its preset, its engines, its clock. Made by Fusion; policies call the verbs.

    Attributes:
        request: With a seed.
        preset: With the request's changes.
        opening: An answer that has begun as text and becomes a draft of the next panel.
        is_settled: The panel was cut because the others could change nothing more.
    """

    def __init__(
        self, request: Request, preset: Preset, calls: Calls, answering: Answering, pace: JudgePace
    ) -> None:
        self.request = request
        self.preset = preset
        self.is_settled = False
        self.opening: Opening | None = None
        self._conversation = as_text(request.messages)
        self._calls = calls
        self._answering = answering
        self._pace = pace
        self._emit: Emit = answering.emit
        self._seat = Seat(calls, preset, request, self._conversation, answering)
        self._solo = Solo(calls, request, self._conversation, answering)
        self._analysis_failure: str | None = None

    # The verbs.

    async def ask(
        self,
        members: Sequence[Member] | None = None,
        *,
        references: Sequence[Candidate] = (),
        settled: Settled = never,
        prefill: bool = True,
    ) -> tuple[Candidate, ...]:
        """Ask some members, the preset's whole panel by default, all at once.

        Args:
            members: Whom to ask.
            references: Earlier candidates that they are to read, anonymous.
            settled: Given the usable candidates so far, whether to wait for no more.
            prefill: Whether the judge may read along.

        Returns:
            What can be judged, in the order in which the judge is to read it: usable candidates and
            unfinished texts of stragglers.

        Raises:
            QuorumError: nobody gave anything; the message has each member's reason.
        """
        members = self.preset.panel if members is None else members
        messages = self._seat.blank().referring(references) if references else self._conversation
        calls = plan_calls(
            self._calls,
            members,
            messages,
            first=len(self._answering.candidates),
            max_tokens=self.preset.panel_max_tokens,
            is_counted=not references,
        )
        if self.opening is not None:
            calls = self.opening.join(calls)
        reserve = self._pace.reserve(self._calls.deadline)
        enough = Enough(
            quorum=self._quorum(len(calls)),
            grace=self.preset.grace,
            limit=max(0.0, self._calls.left - reserve),
            keeps_partial=self.preset.partial == "keep",
            settled=settled,
        )
        order = Order(self.preset.order, [c.index for c in calls], self._calls.seed("order"))
        panel = await self._ask_panel(calls, enough, order, prefill=prefill)
        if self.request.recorded is None:  # else nothing was spent, and nobody waited
            panel.account(self._calls.ledger)
        self.is_settled = panel.settled
        self._answering.candidates += panel.candidates
        self._seat.placed = tuple(candidate.index for candidate in order.placed)
        if not any(candidate.text.strip() for candidate in order.placed):
            raise nobody(panel.candidates)
        return tuple(order.placed)

    async def check(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Run what candidates answered, where the question allows it; return them with the checks.

        What cannot be done within the deadline is left unchecked.
        """
        checks = await self._checked(check_all(self.question, candidates))
        for candidate, check in zip(candidates, checks, strict=False):
            await self._answering.checked(candidate.index, check)
        by_index = {candidate.index: candidate for candidate in self._answering.candidates}
        return tuple(by_index[candidate.index] for candidate in candidates)

    async def alike(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the largest group of candidates whose code does the same; empty where none is."""
        return await self._checked(alike(self.question, candidates))

    async def verdict(
        self, candidates: Sequence[Candidate], *, both_orders: bool | None = None
    ) -> Verdict | None:
        """Let the judge choose in one token; None if it gives nothing usable, which is reported.

        Args:
            candidates: To choose among.
            both_orders: Also in the reversed order; None: if the first is unclear and the preset
                wants to know the agreement.
        """
        verdict, failure, code = None, None, None
        if both_orders is None:
            both_orders = None if self.preset.agreement else False
        try:
            judge = await self._seat.judge_of(candidates)
            verdict = await judge.verdict(both_orders=both_orders)
            judging = self._seat.judging
            self._seat.judging = replace(judging, verdict=verdict, agreement=verdict.agreement)
        except FusionError as error:
            failure, code = str(error), judge_code(error)
        model = self._seat.judging.model
        await self._emit(VerdictCompleted(judge=model, verdict=verdict, error=failure, code=code))
        return verdict

    async def analyze(self, candidates: Sequence[Candidate]) -> Analysis | None:
        """Let the judge compare the drafts; None if it gives nothing usable, which is reported.

        The result names drafts by letter, for ``synthesize``; events and answer have names.
        """
        await self._emit(AnalysisStarted(judge=self._seat.judging.model))
        lettered, failure = None, None
        try:
            judge = await self._seat.judge_of(candidates)
            lettered = await judge.analyze()
            self._answering.analysis = judge.named(lettered)
        except FusionError as error:
            failure, self._analysis_failure = str(error), judge_code(error)
        analysis, code = self._answering.analysis, self._analysis_failure
        await self._emit(AnalysisCompleted(analysis=analysis, error=failure, code=code))
        return lettered

    async def synthesize(
        self,
        candidates: Sequence[Candidate],
        analysis: Analysis | None = None,
        *,
        has_inline: bool = False,
    ) -> Answer:
        """Let the judge write the answer, streamed; if it cannot begin, the best candidate answers.

        A failure before the first word is answered by one more attempt: of the fallback judge, else
        of the same.

        Raises:
            JudgeError: it failed after its first word, which cannot be taken back.
        """
        if self._pace.is_too_late(self._calls.left):
            best = self.best(candidates)
            return await self.choose(best, reason=DEADLINE, exit="deadline", instead=True)
        notes = None if analysis is None else analysis.model_dump_json()
        failure: FusionError | None = None
        for model in self._seat.judges:
            if failure is not None:
                self._seat.replace_with(model)
            code = None if failure is None else judge_code(failure)
            await self._emit(SynthesisStarted(judge=model, code=code))
            try:
                return await self._write(candidates, notes, has_inline=has_inline)
            except FusionError as error:
                if self._answering.has_begun:
                    raise
                failure = error
                if error.code == DEADLINE or self._calls.left <= 0:
                    break
        assert failure is not None  # there always is a judge to try
        self._answering.judge_error = str(failure)
        reason = judge_code(failure)
        exit_: Exit | None = "deadline" if reason == DEADLINE else None
        return await self.choose(self.best(candidates), reason=reason, exit=exit_, instead=True)

    async def write(self) -> Answer:
        """Let the panel's one model answer the conversation as it is."""
        whole = Wholeness("single", self.request.alone)
        return await self._solo.speak(self.preset.panel[0].model, whole)

    async def open(self) -> Opening:
        """Let the model that calls functions begin, with the functions before it.

        Raises:
            FusionError: it failed.
        """
        return await self._solo.open(self.preset.caller)

    async def call_tools(self, opening: Opening | None = None) -> Answer:
        """Let one model call the client's functions: calls are never voted on or merged.

        Args:
            opening: It has begun; None: it begins now.
        """
        is_silent = opening is not None and opening.function is None
        whole = Wholeness("single", NOT_CALLED if is_silent else TOOL_TURN)
        return await self._solo.speak(self.preset.caller, whole, opening)

    async def drop(self, opening: Opening) -> None:
        """End a call that only was to decide; what it took is in the account."""
        await self._solo.drop(opening)

    async def choose(
        self,
        candidate: Candidate,
        *,
        reason: str | None = None,
        exit: Exit | None = None,  # noqa: A002  the word of the contract
        instead: bool = False,
        alone: bool = False,
    ) -> Answer:
        """Give a candidate's text as the answer, word for word.

        Args:
            candidate: Whose.
            reason: Why, where the status says less than ``full``.
            exit: Why nothing more was done.
            instead: The judge should have answered and did not: ``panel_only``.
            alone: One voice: ``single``.
        """
        whole = self._wholeness()
        if instead:
            whole = Wholeness("panel_only", reason)
        elif alone:
            whole = Wholeness("single", reason)
        if not self._answering.form.has(candidate.text):
            raise JudgeError(
                "the judge gave no answer, and no candidate has the form that response_format "
                "asks for",
                code=reason or "judge_upstream_error",
            )
        await self._answering.replay(candidate, whole, exit)
        return await self._answering.answer()

    async def become(self, policy: str, routing: Routing) -> None:
        """Note that ``auto`` has chosen a policy, and why."""
        self._answering.policy = policy
        await self._emit(PolicyChosen(policy=policy, task=routing.task, reason=routing.reason))

    # What policies may know.

    def route(self, rules: Rules = DEFAULT_RULES) -> Routing:
        """Tell the kind of the request, and how its answers are found where they can be."""
        wanted = self.preset.extract
        extract = None if wanted is None else Extractor(wanted.kind, wanted.pattern)
        return route(self._conversation, extract=extract, rules=rules)

    @property
    def question(self) -> str:
        """The last user turn."""
        return last_question(self._conversation)

    @property
    def quorum(self) -> int:
        """Usable candidates of the preset's panel that are enough."""
        return self._quorum(self.preset.candidates)

    @property
    def judge_model(self) -> str:
        """Who judges first.

        Raises:
            JudgeError: the preset has no judge.
        """
        return self._seat.model

    def can_replay(self, candidate: Candidate) -> bool:
        """Whether a candidate's text is what the request allows as an answer, word for word."""
        asked = self.request.sampling
        if not self._answering.form.has(candidate.text):
            return False
        is_short = asked.max_tokens is None or (
            candidate.usage.completion_tokens <= asked.max_tokens
        )
        is_whole = candidate.is_usable and candidate.finish_reason == "stop"
        return is_whole and is_short and not any(s in candidate.text for s in asked.stop)

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Pick the first finished one of the asked form by the panel's order: never the longest."""
        form = self._answering.form
        by_index = sorted(candidates, key=lambda c: (not form.has(c.text), c.index))
        whole = [c for c in by_index if c.is_usable and c.finish_reason == "stop"]
        return next(iter(whole or [c for c in by_index if c.text.strip()]))

    # What the verbs are made of.

    async def _checked(self, work: Awaitable[tuple[T, ...]]) -> tuple[T, ...]:
        """Wait for what is run in sandboxes; empty where the deadline comes first."""
        began = self._calls.now
        found: tuple[T, ...] = ()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._calls.at(self._calls.deadline)):
                found = await work
        self._calls.ledger.wait("check", self._calls.now - began)
        return found

    def _quorum(self, candidates: int) -> int:
        return min(candidates, self.preset.quorum or max(2, candidates - 1))

    async def _ask_panel(
        self, calls: Sequence[Call], enough: Enough, order: Order, *, prefill: bool
    ) -> Panel:
        reader = self._seat.prefill({call.model for call in calls}, order) if prefill else None

        async def emit(event: Event) -> None:
            if isinstance(event, PanelCompleted):
                order.settle(event.candidate)
            if reader is not None:
                reader.see(event)
            await self._emit(event)

        begun, self.opening = self.opening, None
        stream = self._calls.stream if begun is None else begun.before(self._calls.stream)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(reader.run()) if reader is not None else None
            if (recorded := self.request.recorded) is None:
                panel = await ask_panel(calls, enough, stream, emit)
            else:
                panel = await tell_panel(recall(recorded, self.preset, calls, enough), emit)
            if reading is not None:
                reading.cancel()  # the judge itself goes on from what has been read
        return panel

    async def _write(
        self, candidates: Sequence[Candidate], notes: str | None, *, has_inline: bool
    ) -> Answer:
        judge = await self._seat.judge_of(candidates)
        reading = Reading()
        request = self.request
        # A comparison in front would break the form, and hide a call of a function.
        has_inline = has_inline and request.schema is None and request.tools is None
        inline = InlineAnalysis(judge.inline_tokens) if has_inline else None
        # Else the engine itself ends at the limit, and tells what it took.
        most = request.sampling.max_tokens or self.preset.answer_max_tokens if inline else None
        async with self._answering.writing(
            judge.model, self._wholeness(), reading, inline=inline, most=most
        ) as tell:
            await judge.write(request, reading, tell, notes=notes, has_inline=has_inline)
        if inline is not None and inline.is_cut:
            return await self._write(candidates, inline.analysis, has_inline=False)
        if not self._answering.has_begun:
            raise JudgeError("the judge wrote nothing", code="judge_empty_completion")
        return await self._answering.answer()

    def _wholeness(self) -> Wholeness:
        """Say how whole the panel was, with the first reason why it was not."""
        lost = [c.failure_reason for c in self._answering.candidates if c.is_lost]
        cut = ["member_length" for c in self._answering.candidates if c.finish_reason == "length"]
        truncated = ["drafts_truncated" for _ in self._answering.truncated]
        found = [*lost, *cut, *truncated]
        reason = next(iter(found), self._analysis_failure or self.preset.warning)
        return Wholeness("full" if reason is None else "degraded", reason)
