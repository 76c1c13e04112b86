"""The judge of one run: verdict, analysis and answer over the same prompt, and what to trust of it.

Its calls never end a run before the answer's first word: each gives what it has, or None and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localfusion.config import Preset
from localfusion.errors import ContextLengthError, FusionError, JudgeError
from localfusion.functions import Tools
from localfusion.fusion.calls import DEADLINE, INTERVAL, MIN_ROOM, Calls, Reading, Tell
from localfusion.fusion.judge.analysis import named, parse, schema_for
from localfusion.fusion.judge.drafts import Draft, Drafts
from localfusion.fusion.judge.fit import Measured, fit
from localfusion.fusion.judge.inline import TOKENS as INLINE_TOKENS
from localfusion.fusion.judge.verdict import (
    TOP_LOGPROBS,
    UNCLEAR_MARGIN,
    average,
    read_verdict,
)
from localfusion.judging import Analysis, TruncatedDraft, Verdict
from localfusion.types import Message, Prompt, Request, SamplingParams

PRIORITY = -10


@dataclass(slots=True)
class Judge:
    """Reads the drafts of one run; made when the panel has settled.

    Attributes:
        model: Who judges; another one after ``replace_with``.
        names: What the candidates are called outside, by index.
        truncated: Drafts that were cut to fit its window.
    """

    calls: Calls
    preset: Preset
    model: str
    drafts: Drafts
    names: Sequence[str]
    truncated: tuple[TruncatedDraft, ...] = ()

    async def fit(self, answer_tokens: int) -> None:
        """Cut the drafts so that they, the analysis and the answer fit the window together.

        Raises:
            ContextLengthError: not even the beginnings of all drafts fit.
            EngineError: the engine is not there.
        """
        window = self.calls.engines[self.model].facts.max_model_len
        # An answer may be allowed more tokens than it takes; drafts come before that.
        reserve = min(answer_tokens + self.preset.analysis_max_tokens, window // 2)
        whole = await self._count(self.drafts.synthesis_prompt(None, has_inline=True))
        if whole is None or whole + reserve <= window:
            return
        measured = [await self._measure(draft) for draft in self.drafts.drafts]
        room = window - reserve - whole + sum(m.text + m.trace for m in measured)
        kept, self.truncated = fit(measured, room)
        if not kept:
            raise ContextLengthError(
                f"the drafts do not fit into the {window} tokens of judge {self.model}"
            )
        self.drafts = replace(self.drafts, drafts=kept)

    async def _measure(self, draft: Draft) -> Measured:
        text = await self._count((Message("user", draft.text),))
        trace = await self._count((Message("user", draft.trace),)) if draft.trace else 0
        return Measured(draft, text or 0, trace or 0)

    async def _count(self, messages: tuple[Message, ...]) -> int | None:
        return await self.calls.count(self.model, messages)

    async def verdict(self, *, both_orders: bool | None) -> Verdict:
        """Choose among the drafts in one token.

        Args:
            both_orders: Ask in the reversed order too; None: when the first verdict is unclear.

        Raises:
            FusionError: it is unusable; the cause has been noted.
        """
        first = await self._one_verdict(self.drafts, 0)
        if both_orders is None:
            both_orders = first.margin < UNCLEAR_MARGIN
        if not both_orders:
            return first
        turned = replace(self.drafts, drafts=self.drafts.drafts[::-1])
        return average(first, await self._one_verdict(turned, 1))

    async def _one_verdict(self, drafts: Drafts, place: int) -> Verdict:
        seed = self.calls.seed("verdict", place)
        sampling = SamplingParams(temperature=0, max_tokens=1, seed=seed)
        prompt = Prompt(
            drafts.verdict_prompt(),
            sampling,
            priority=PRIORITY,
            logprobs=TOP_LOGPROBS,
            effort="none",
        )
        reading = Reading()
        with self.calls.noted("verdict", reading):
            await self.calls.read(self.model, prompt, reading)
        if not reading.logprobs:
            raise JudgeError(
                f"{self.model} tells no probabilities, so it gives no verdict",
                code="judge_empty_completion",
            )
        return read_verdict(reading.logprobs[0].alternatives, drafts.labels)

    async def analyze(self) -> Analysis:
        """Compare the drafts in five parts; the result names them by letter.

        Raises:
            FusionError: it is unusable, also when asked again.
        """
        try:
            return await self._one_analysis(0)
        except JudgeError:
            if self.calls.left <= 0:
                raise
            return await self._one_analysis(1)

    async def _one_analysis(self, place: int) -> Analysis:
        cap, labels = self.preset.analysis_max_tokens, list(self.drafts.labels)
        prompt = await self._prompt(
            self.drafts.analysis_prompt(), SamplingParams(), cap, self.calls.seed("judge", place)
        )
        reading = Reading()
        prompt = replace(prompt, schema=schema_for(labels, cap), interval=INTERVAL)
        with self.calls.noted("analysis", reading):
            await self.calls.read(self.model, prompt, reading)
        return parse(reading.text, labels)

    @property
    def inline_tokens(self) -> int:
        """What a comparison in front of the answer may take; a longer one is cut."""
        return min(INLINE_TOKENS, self.preset.analysis_max_tokens)

    def named(self, analysis: Analysis) -> Analysis:
        """Put candidates' names in place of letters, for everyone but the judge."""
        return named(analysis, {k: self.names[i] for k, i in self.drafts.labels.items()})

    async def write(
        self,
        request: Request,
        reading: Reading,
        tell: Tell,
        *,
        notes: str | None,
        has_inline: bool,
    ) -> None:
        """Write the answer, as the request wants its form.

        Raises:
            FusionError: it failed; ``reading`` has what came before.
        """
        messages = self.drafts.synthesis_prompt(
            notes, has_inline=has_inline, has_schema=request.schema is not None
        )
        asked = request.sampling
        cap = (asked.max_tokens or self.preset.answer_max_tokens) + self.inline_tokens * has_inline
        sampling = replace(asked, max_tokens=cap, stop=(*asked.stop, self.drafts.stop))
        can_call = self.calls.engines[self.model].facts.calls_tools
        tools = request.tools if can_call else None
        prompt = await self._prompt(messages, sampling, cap, self.calls.seed("judge"), tools)
        # With a comparison in front the answer's tokens are counted by pieces.
        # vLLM's reader of calls loses arguments that come in larger pieces.
        interval = 1 if has_inline or tools else self.calls.answer_interval
        prompt = replace(prompt, schema=request.schema, effort=request.effort, interval=interval)
        with self.calls.noted("synthesis", reading, before="judge_prefill"):
            await self.calls.read(self.model, prompt, reading, tell)

    async def _prompt(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingParams,
        cap: int,
        seed: int,
        tools: Tools | None = None,
    ) -> Prompt:
        count = await self.calls.count(self.model, messages, tools)
        window = self.calls.engines[self.model].facts.max_model_len
        if count is not None and window - count < MIN_ROOM:
            raise ContextLengthError(
                f"conversation and drafts take {count} of the {window} tokens of judge {self.model}"
            )
        sampling = replace(
            self.calls.capped(self.model, sampling, count, cap),
            temperature=sampling.temperature or 0.0,
            seed=seed,
        )
        return Prompt(messages, sampling, priority=PRIORITY, tools=tools)


def judge_code(error: FusionError) -> str:
    """Return the reason that an answer gives for a failure of its judge."""
    if error.code.startswith("judge_") or error.code in (DEADLINE, "context_length_exceeded"):
        return error.code
    return "judge_upstream_error"
