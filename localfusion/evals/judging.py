"""A recorded panel judged through the product: its policies, its prompts, its judge. No panel call.

The way is that of ``localfusion.replay``, without a trace to begin with.
"""

from collections.abc import Sequence
from dataclasses import replace

from localfusion.config import Member, Preset
from localfusion.fusion import Fusion
from localfusion.fusion.recorded import ROUNDS
from localfusion.types import Answer, Candidate, Message, Recorded, Request, SamplingParams

PATIENCE = 3600.0
"""Deadline in seconds: many runs wait for one engine, and time is not what is measured."""


async def judge_panel(
    fusion: Fusion,
    settings: Preset,
    messages: tuple[Message, ...],
    candidates: Sequence[Candidate],
    *,
    seed: int,
    name: str = "eval",
) -> Answer:
    """Return the answer that a preset makes of a panel that has answered.

    Args:
        fusion: Has the judge's engine; members need none.
        settings: Policy, judge, prompts; its panel is not asked.
        messages: What the panel was asked.
        candidates: In the order in which they come; their indices are counted anew from 0.
        seed: Of everything that is drawn; the same gives the judge the same prompt.
        name: Of the preset, for the trace.

    Raises:
        FusionError: nothing can be answered from these candidates.
    """
    places = {index: place for place, index in enumerate(sorted(c.index for c in candidates))}
    renumbered = tuple(replace(c, index=places[c.index]) for c in candidates)
    told = _seated(settings, renumbered).model_dump(mode="json")
    request = Request(
        name,
        messages,
        SamplingParams(seed=seed),
        recorded=Recorded(name, told, renumbered),
        watches="nothing",
    )
    return await fusion.complete(request)


def judge_lost(answer: Answer) -> str | None:
    """Return that the judge's engine was lost, where an answer shows it; else None."""
    is_lost = answer.status == "panel_only" and answer.reason == "judge_upstream_error"
    return "the judge's engine was lost" if is_lost else None


def _seated(settings: Preset, candidates: Sequence[Candidate]) -> Preset:
    """Return settings with a place for each candidate, where there are more or fewer of them."""
    changes: dict[str, object] = {"deadline": PATIENCE}
    if len(candidates) != settings.candidates and settings.policy not in ROUNDS:
        by_index = sorted(candidates, key=lambda candidate: candidate.index)
        models = [candidate.model for candidate in by_index]
        fallback = settings.fallback_judge if settings.fallback_judge in models else None
        changes["panel"] = tuple(Member(model=model) for model in models)
        changes |= {"quorum": None, "fallback_judge": fallback}
    return settings.model_copy(update=changes)
