"""A recorded panel judged once more: what may be otherwise, and what came of it. Pure.

Everything behind the panel runs again, as the product does it: policy, prompts, judge. The panel is
the record, byte for byte: texts, reasoning, what was cut or lost, the order in which drafts came.
Seeds are the record's, and the code in the judge's marks is made of the seed: where nothing is
changed the judge is asked exactly what it was asked then. Nobody of the panel is asked anything.

What a replay does not tell is how long an answer takes: its panel took no time, and its judge has
the whole deadline.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from localfusion import wire
from localfusion.config import Preset, nearest
from localfusion.errors import RequestError
from localfusion.events import PanelAdded, PanelCompleted, RunCompleted
from localfusion.fusion import POLICIES
from localfusion.fusion.calls import derive_seed
from localfusion.fusion.changes import changed
from localfusion.fusion.judge.analysis import candidate_names
from localfusion.fusion.judge.drafts import Order
from localfusion.fusion.recorded import NOT_RECORDED, ROUNDS, preset_of
from localfusion.traces import Json, Trace
from localfusion.types import Answer, Candidate, Recorded, Request

ReplayOrder = Literal["arrival", "fixed", "random", "reversed"]
NOT_REPLAYABLE = "trace_not_replayable"
DROPPED = "dropped"
"""failure_reason of a candidate that a replay leaves out."""
MOST_INSTRUCTION = 20_000
"""Characters of other words for the judge."""
_ASK_AGAIN = frozenset({"single", "self_fusion", *ROUNDS})
"""Policies that need other answers of the panel than those of another policy's record."""
_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 5000
"""Of a text that is compared: beyond, it would take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a replay has otherwise; None: as it was.

    Attributes:
        judge: Model that judges.
        policy: How the answer is made; the options of the recorded one are left behind.
        order: In which the judge reads the drafts; ``reversed``: the record's the other way round.
        drop: Candidates that are left out, by index, name (``a#2``) or all of a model's by its.
        instruction: What the judge is told behind the drafts, in place of our words.
    """

    judge: str | None = None
    policy: str | None = None
    order: ReplayOrder | None = None
    drop: tuple[int | str, ...] = ()
    instruction: str | None = None

    @property
    def told(self) -> Json:
        """What is otherwise, as JSON values."""
        fields = {
            "judge": self.judge,
            "policy": self.policy,
            "order": self.order,
            "drop": list(self.drop) or None,
            "instruction": self.instruction,
        }
        return {name: value for name, value in fields.items() if value is not None}


def request_of(trace: Trace, changes: Changes) -> Request:
    """Return the request that judges a trace's panel once more.

    Raises:
        RequestError: the trace has no panel that can be read again, or a change is impossible; says
            what to do.
    """
    head = trace.head
    candidates = recorded_panel(trace)
    assert head is not None  # recorded_panel refuses such a trace
    dropped = _indices(candidates, changes.drop)
    candidates = [_without(c) if c.index in dropped else c for c in candidates]
    if not any(candidate.is_draft for candidate in candidates):
        raise RequestError(
            "drop leaves no draft to judge; leave one of the candidates in", param="drop"
        )
    preset = preset_of(Recorded(trace.summary.id, head.settings, ()), _same)
    if changes.policy is not None and changes.policy != preset.policy:
        candidates = _regrouped(preset, changes.policy, candidates)
        preset = changed(preset, {"policy": changes.policy})
    if changes.order is not None:
        is_plain = changes.order != "reversed"
        preset = preset.model_copy(update={"order": changes.order if is_plain else "arrival"})
        candidates = candidates if is_plain else _reversed(trace, candidates)
    if changes.judge is not None:
        preset = preset.model_copy(update={"judge": changes.judge})
    told = replace(changes, drop=tuple(sorted(dropped))).told
    told.pop("instruction", None)
    return replace(
        head.request,
        model=trace.summary.preset,
        changes=told,
        instruction=_instruction(changes.instruction, head.request.instruction),
        recorded=Recorded(trace.summary.id, preset.model_dump(mode="json"), _from_zero(candidates)),
    )


def recorded_panel(trace: Trace) -> list[Candidate]:
    """Return a trace's candidates in the order in which they came.

    Raises:
        RequestError: there are none that can be read again; says why and what to do.
    """
    if trace.summary.status == "running":
        raise _refusal(trace, "its run still goes; replay it when it has ended")
    if trace.content != "full":
        raise _refusal(
            trace,
            f"its texts were not kept (traces.content: {trace.content}); set traces.content to "
            "full and ask again",
        )
    if trace.head is None or trace.head.settings.get("policy") == "single":
        raise _refusal(
            trace, "it had no panel, one model answered alone; ask a preset with a panel"
        )
    done = [e.candidate for e in trace.events if isinstance(e, PanelCompleted)]
    known = {candidate.index for candidate in done}
    # Checks are made again.
    candidates = [replace(candidate, checks=()) for candidate in done]
    added = [e for e in trace.events if isinstance(e, PanelAdded) and e.index not in known]
    candidates += map(_not_ended, added)
    if not any(candidate.is_draft for candidate in candidates):
        raise _refusal(trace, "no member had answered when its run ended; ask again")
    return candidates


def _refusal(trace: Trace, why: str) -> RequestError:
    message = f"trace {trace.summary.id} cannot be replayed: {why}"
    return RequestError(message, code=NOT_REPLAYABLE)


def _not_ended(event: PanelAdded) -> Candidate:
    return Candidate(
        index=event.index,
        model=event.model,
        sampling=event.sampling,
        finish_reason="error",
        failure_reason=NOT_RECORDED,
        error=f"{event.model} had not ended when the recorded run did",
    )


def _same(name: str, **_: object) -> str:
    """Take a judge's name as it is: whether there is one is the replay's to see."""
    return name


def _without(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        failure_reason=DROPPED,
        error=f"{candidate.model} was left out of this replay",
        is_partial=False,
    )


def _indices(candidates: Sequence[Candidate], wanted: Sequence[int | str]) -> set[int]:
    """Return the indices of candidates that are named by index, name or model.

    Raises:
        RequestError: there is no such candidate.
    """
    by_index = sorted(candidates, key=lambda candidate: candidate.index)
    names = dict(zip(candidate_names(by_index), by_index, strict=True))
    found: set[int] = set()
    for name in wanted:
        chosen = {c.index for c in candidates if name in (c.index, str(c.index), c.model)}
        if isinstance(name, str) and not chosen:
            named = names.get(name.removesuffix("#1"))
            chosen = set() if named is None else {named.index}
        if not chosen:
            shown = ", ".join(f"{c.index}: {known}" for known, c in names.items())
            raise RequestError(
                f"drop: there is no candidate {str(name)[:64]!a} in this trace; it has {shown}",
                param="drop",
            )
        found |= chosen
    return found


def _regrouped(preset: Preset, policy: str, candidates: list[Candidate]) -> list[Candidate]:
    """Return the panel as another policy reads it.

    Raises:
        RequestError: there is no such policy, or it asks what nobody was asked.
    """
    if policy not in POLICIES:
        raise RequestError(
            f"policy: no policy {policy[:64]!a}; {nearest(policy, POLICIES)}", param="policy"
        )
    if policy in _ASK_AGAIN:
        known = ", ".join(name for name in POLICIES if name not in _ASK_AGAIN)
        raise RequestError(
            f"policy: {policy} asks models what this trace has no answers to; use one of {known}, "
            "or ask anew",
            param="policy",
        )
    if preset.policy != "layered":
        return candidates
    # The judge read the last layer alone.
    last = max(c.index // preset.candidates for c in candidates if c.is_draft)
    return [c for c in candidates if c.index // preset.candidates == last]


def _reversed(trace: Trace, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates in the order that, read as they come, is the recorded one reversed."""
    assert trace.head is not None
    indices = sorted(candidate.index for candidate in candidates)
    seed = derive_seed(trace.head.request.sampling.seed or 0, "order")
    order = Order(str(trace.head.settings.get("order", "arrival")), indices, seed)
    for candidate in candidates:
        order.settle(candidate)
    return [*order.placed[::-1], *(c for c in candidates if not c.is_draft)]


def _from_zero(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return candidates with indices that count from 0, in their order of arrival."""
    places = {index: place for place, index in enumerate(sorted(c.index for c in candidates))}
    return tuple(replace(c, index=places[c.index]) for c in candidates)


def _instruction(wanted: str | None, recorded: str | None) -> str | None:
    if wanted is None:
        return recorded
    text = wanted.strip()
    if not 0 < len(text) <= MOST_INSTRUCTION:
        raise RequestError(
            f"the judge's instruction has {len(text)} characters; write 1 to {MOST_INSTRUCTION}",
            param="prompt",
        )
    return text


# What came of it.


def told_replay(trace: Trace, request: Request, answer: Answer) -> Json:
    """Return what a replay tells, as JSON values.

    Args:
        trace: That was replayed.
        request: The replay.
        answer: What came of it; its ``trace_id`` is the replay's own trace, None: it has none.
    """
    changes = dict(request.changes)
    if request.instruction is not None:
        changes["instruction"] = request.instruction
    before = trace.answer
    return {
        "object": "trace.replay",
        "id": answer.trace_id,
        "replay_of": trace.summary.id,
        "changes": changes,
        "original": {
            "answer": None if before is None else answer_form(before),
            "error": None if trace.error is None else str(trace.error),
        },
        "answer": answer_form(answer),
        "diff": [
            {"kind": kind, "text": text}
            for kind, text in difference("" if before is None else before.text, answer.text)
        ],
    }


def answer_form(answer: Answer) -> Json:
    """Return an answer as events and traces have it."""
    told = wire.encode(RunCompleted(answer=answer))["answer"]
    assert isinstance(told, dict)
    return told


Kind = Literal["same", "gone", "new"]


def difference(before: str, after: str) -> Iterator[tuple[Kind, str]]:
    """Yield the parts of two texts in order, word by word; long ones differ as a whole."""
    first, second = _WORD.findall(before), _WORD.findall(after)
    if max(len(first), len(second)) > _MOST_WORDS and before != after:
        yield from _parts(("gone", before), ("new", after))
        return
    matcher = difflib.SequenceMatcher(None, first, second)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield "same", "".join(first[a:b])
        else:
            yield from _parts(("gone", "".join(first[a:b])), ("new", "".join(second[c:d])))


def _parts(*parts: tuple[Kind, str]) -> Iterator[tuple[Kind, str]]:
    return (part for part in parts if part[1])
