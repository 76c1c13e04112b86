"""Explains a trace: reads it, has its panel judged again in other ways, and sums up.

Replays are the judge's only: one with nothing changed (does it repeat itself?), one for each draft
that is left out, one in reversed order; and where the right answer is known and none of these has
it, one for each two drafts that are left out, ``MOST_PAIRS`` at most. They go one after another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from localfusion.errors import FusionError, RequestError
from localfusion.explain.causes import Case, Cause, Draft, Trial, TrialKind, find_cause
from localfusion.explain.finals import Finals
from localfusion.explain.support import Traced, likeness, trace_sentences
from localfusion.fusion.agreement.choices import fold
from localfusion.fusion.agreement.vote import vote
from localfusion.fusion.judge.analysis import candidate_names
from localfusion.judging import Analysis
from localfusion.replay import Changes, recorded_panel, request_of
from localfusion.traces import Trace
from localfusion.types import Answer, Candidate, Request

MOST_PAIRS = 10
MOST_EXPECTED = 2000
"""Characters of a known right answer."""

Ask = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Stand:
    """One answer proper among the drafts.

    Attributes:
        indices: Of the drafts that have it.
        is_followed: The final answer has it too.
    """

    answer: str
    indices: tuple[int, ...]
    is_followed: bool


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Drafts differ on the answer proper.

    Attributes:
        is_named: The judge's analysis says so; None: there is no analysis.
    """

    stands: tuple[Stand, ...]
    is_named: bool | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A draft that was not whole, or not there.

    Attributes:
        kind: ``lost``: no draft; ``unfinished``: its end is missing; ``truncated``: the judge read
            a part of it.
        has_mattered: Without it there is another answer; None: nobody can know.
    """

    kind: str
    index: int
    name: str
    detail: str
    has_mattered: bool | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an answer is what it is.

    Attributes:
        trace: Its id.
        names: What the candidates are called, by index.
        final: The answer proper; None for an open question, and where none is found.
        is_right: None where no right answer is known.
        sentences: Of the answer, the first 400.
        contradiction: None where the drafts agree, or the question is open.
    """

    trace: str
    names: Sequence[str]
    final: str | None
    expect: str | None
    is_right: bool | None
    cause: Cause
    sentences: tuple[Traced, ...]
    contradiction: Contradiction | None
    losses: tuple[Loss, ...]
    trials: tuple[Trial, ...]


async def explain(
    trace: Trace, *, expect: str | None = None, ask: Ask | None = None
) -> Explanation:
    """Explain a trace.

    Args:
        trace: Whose run has ended with an answer, and whose texts were kept.
        expect: The right answer, None: it is not known.
        ask: Runs a replay; None: nothing is replayed.

    Raises:
        RequestError: the trace has no panel or no answer; says what to do.
    """
    panel, answer = recorded_panel(trace), trace.answer
    if answer is None:
        raise RequestError(
            f"trace {trace.summary.id} has no answer to explain; replay it, and explain the replay",
            code="trace_not_replayable",
        )
    if expect is not None and not 0 < len(expect.strip()) <= MOST_EXPECTED:
        raise RequestError(
            f"expect must be a text of 1 to {MOST_EXPECTED} characters; send the right answer",
            code="out_of_range",
            param="expect",
        )
    assert trace.head is not None  # recorded_panel refuses such a trace
    finals = Finals.of(trace.head, expect)
    trying = _Trying(trace, answer.text, finals, ask)
    drafts = sorted(candidate.index for candidate in panel if candidate.is_draft)
    trials = () if ask is None else tuple(await trying.all(drafts))
    # Long texts take seconds.
    return await asyncio.to_thread(_sum_up, trace.summary.id, answer, panel, finals, trials)


def _sum_up(
    trace: str,
    answer: Answer,
    panel: Sequence[Candidate],
    finals: Finals,
    trials: tuple[Trial, ...],
) -> Explanation:
    by_index = sorted(panel, key=lambda candidate: candidate.index)
    names, drafts = candidate_names(by_index), [c for c in by_index if c.is_draft]
    sentences = tuple(trace_sentences(answer.text, drafts))
    is_right = None if finals.expect is None else finals.is_right(answer.text)
    case = Case(
        [Draft(c.index, names[c.index], finals.is_right(c.text)) for c in drafts],
        is_right,
        answer.judging is not None,
        answer.reason if answer.status == "panel_only" else None,
        _own_share(finals, answer.text, drafts, sentences),
        trials,
    )
    return Explanation(
        trace=trace,
        names=names,
        final=finals.shown(answer.text),
        expect=finals.expect,
        is_right=is_right,
        cause=find_cause(case),
        sentences=sentences,
        contradiction=_contradiction(finals, answer, drafts),
        losses=tuple(_losses(answer, by_index, names, trials)),
        trials=trials,
    )


@dataclass(frozen=True, slots=True)
class _Trying:
    """Replays one trace in several ways."""

    trace: Trace
    text: str
    finals: Finals
    ask: Ask | None

    async def all(self, drafts: Sequence[int]) -> list[Trial]:
        trials = [await self._try("repeat")]
        if len(drafts) < 2:
            return trials
        trials += [await self._try("without", (index,)) for index in drafts]
        trials.append(await self._try("reversed"))
        wants_more = self.finals.expect is not None and not self.finals.is_right(self.text)
        if wants_more and not any(trial.is_right and trial.tells for trial in trials):
            pairs = list(combinations(drafts, 2)) if len(drafts) > 3 else []
            trials += [await self._try("without", pair) for pair in pairs[:MOST_PAIRS]]
        return trials

    async def _try(self, kind: TrialKind, dropped: tuple[int, ...] = ()) -> Trial:
        assert self.ask is not None
        order = Changes(order="reversed" if kind == "reversed" else None, drop=dropped)
        try:
            answer = await self.ask(request_of(self.trace, order))
        except RequestError:
            raise  # no replay of this trace will do
        except FusionError as error:
            return Trial(kind, dropped, error=str(error))
        return Trial(
            kind,
            dropped,
            text=answer.text,
            trace_id=answer.trace_id,
            final=self.finals.shown(answer.text),
            likeness=round(likeness(self.text, answer.text), 3),
            has_moved=self.finals.have_moved(self.text, answer.text),
            is_right=self.finals.is_right(answer.text),
            is_bare=answer.reason == "one_survivor",
        )


def _own_share(
    finals: Finals, text: str, drafts: Sequence[Candidate], sentences: Sequence[Traced]
) -> float:
    """Return the share of an answer that drafts say."""
    if finals.find(text) is not None:
        found = [draft for draft in drafts if finals.find(draft.text) is not None]
        return float(any(not finals.have_moved(text, draft.text) for draft in found))
    said = [sentence for sentence in sentences if not sentence.is_blank]
    return sum(bool(sentence.support) for sentence in said) / len(said) if said else 0.0


def _contradiction(
    finals: Finals, answer: Answer, drafts: Sequence[Candidate]
) -> Contradiction | None:
    counted = vote({draft.index: finals.find(draft.text) for draft in drafts})
    if len(counted.groups) < 2:
        return None
    by_index = {draft.index: draft.text for draft in drafts}
    final = finals.find(answer.text)
    stands = tuple(
        Stand(
            group.answer.value if group.answer.kind != "code" else group.answer.shown,
            group.indices,
            final is not None and not finals.have_moved(answer.text, by_index[group.indices[0]]),
        )
        for group in counted.groups
    )
    named = None if answer.analysis is None else _is_named(answer.analysis, stands)
    return Contradiction(stands, named)


def _is_named(analysis: Analysis, stands: Sequence[Stand]) -> bool:
    """Tell whether a contradiction of an analysis has at least two of the answers in its words."""
    for contradiction in analysis.contradictions:
        told = " ".join([contradiction.topic, *(s.stance for s in contradiction.stances)])
        words = f" {fold(told)} "
        if sum(f" {fold(stand.answer)} " in words for stand in stands) > 1:
            return True
    return False


def _losses(
    answer: Answer, panel: Sequence[Candidate], names: Sequence[str], trials: Sequence[Trial]
) -> list[Loss]:
    tried = {t.dropped[0]: t.has_moved for t in trials if len(t.dropped) == 1 and t.tells}
    found = []
    for c in panel:
        name = names[c.index]
        if c.is_lost and not c.is_draft:
            found.append(Loss("lost", c.index, name, c.error or str(c.failure_reason), None))
        elif c.is_draft and c.finish_reason != "stop":
            detail = c.error or "it reached its token limit"
            found.append(Loss("unfinished", c.index, name, detail, tried.get(c.index)))
    for cut in answer.truncated:
        detail = f"the judge read {cut.kept_tokens} of its {cut.of} tokens"
        mattered = tried.get(cut.index)
        found.append(Loss("truncated", cut.index, names[cut.index], detail, mattered))
    return found
