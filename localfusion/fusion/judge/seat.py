"""Who judges a run, and over which drafts: the judge may change, the drafts' places may not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from localfusion.config import Preset
from localfusion.errors import JudgeError
from localfusion.fusion.answering import Answering
from localfusion.fusion.calls import Calls
from localfusion.fusion.judge.analysis import candidate_names
from localfusion.fusion.judge.drafts import Drafts, Order
from localfusion.fusion.judge.judge import Judge
from localfusion.fusion.judge.prefill import Prefill
from localfusion.fusion.prompts import nonce_of
from localfusion.judging import Judging
from localfusion.types import Candidate, Message, Request


@dataclass(slots=True)
class Seat:
    """The judge's place in a run.

    Attributes:
        conversation: The request's, without tool traffic.
        placed: Indices of the last panel's drafts in the order in which the judge has read them.
    """

    calls: Calls
    preset: Preset
    request: Request
    conversation: tuple[Message, ...]
    answering: Answering
    placed: tuple[int, ...] = ()
    _judge: Judge | None = None

    def blank(self) -> Drafts:
        """Return the judge's prompt before any draft."""
        shows_traces = self.preset.traces == "keep"
        nonce = nonce_of(self.calls.seed("nonce"))
        instruction = self.request.instruction
        return Drafts(self.conversation, nonce, shows_traces=shows_traces, instruction=instruction)

    def prefill(self, members: Collection[str], order: Order) -> Prefill | None:
        """Return what lets the judge read ahead, None where it is not to or cannot."""
        model = self.preset.judge
        if not self.preset.prefill or model is None:
            return None
        facts = self.calls.engines[model].facts
        room = facts.max_model_len - self.calls.counts.get(model, 0)
        room -= self.preset.answer_max_tokens + self.preset.analysis_max_tokens
        if not facts.block_size:
            return None
        drafts, emit = self.blank(), self.answering.emit
        return Prefill(self.calls, model, members, drafts, order, emit, room=room)

    async def judge_of(self, candidates: Sequence[Candidate]) -> Judge:
        """Return the judge of these candidates, the same one for the same candidates.

        Raises:
            JudgeError: the preset has none.
            FusionError: its engine is not there, or the drafts do not fit its window.
        """
        wanted = {candidate.index for candidate in candidates}
        judge = self._judge
        if judge is not None and set(judge.drafts.labels.values()) == wanted:
            return judge
        drafts = self.blank()
        by_index = {candidate.index: candidate for candidate in candidates}
        places = [i for i in self.placed if i in wanted] + sorted(wanted - set(self.placed))
        drafts = drafts.adding(*(drafts.read(by_index[index]) for index in places))
        names = candidate_names(self.answering.candidates)
        judge = Judge(self.calls, self.preset, self.judging.model, drafts, names)
        await judge.fit(self.request.sampling.max_tokens or self.preset.answer_max_tokens)
        self.answering.truncated = judge.truncated
        self._judge = judge
        return judge

    @property
    def model(self) -> str:
        """Who judges first.

        Raises:
            JudgeError: the preset has no judge.
        """
        if self.preset.judge is None:
            raise JudgeError(f"preset {self.answering.preset_name} has no judge")
        return self.preset.judge

    @property
    def judges(self) -> tuple[str, str]:
        """Who is to write: the judge, and who does after a failure, maybe the same once more."""
        first = self.judging.model
        return first, self.preset.fallback_judge or first

    def replace_with(self, model: str) -> None:
        """Let another model judge, or the same one anew."""
        self.judging = replace(self.judging, model=model, attempts=self.judging.attempts + 1)
        if self._judge is not None and self._judge.model != model:
            self._judge = None  # its window is another one

    @property
    def judging(self) -> Judging:
        """What the answer tells of its judge.

        Raises:
            JudgeError: the preset has none.
        """
        if self.answering.judging is None:
            members = {candidate.model for candidate in self.answering.candidates}
            self.answering.judging = Judging(self.model, in_panel=self.model in members)
        return self.answering.judging

    @judging.setter
    def judging(self, judging: Judging) -> None:
        self.answering.judging = judging
