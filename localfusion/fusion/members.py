"""From members to calls: sampling, seeds, limits. Nothing is asked yet."""

from collections.abc import Sequence

from localfusion.config import Member
from localfusion.fusion.calls import Calls
from localfusion.fusion.panel import Call
from localfusion.fusion.prompts import perturb
from localfusion.types import Message, Prompt, SamplingParams

TEMPERATURE = 0.7
"""Of members that name none; arXiv 2502.00674 samples at 0.7."""


def plan_calls(
    calls: Calls,
    members: Sequence[Member],
    messages: tuple[Message, ...],
    *,
    first: int,
    max_tokens: int,
    is_counted: bool,
) -> list[Call]:
    """Return a call for each sample of each member.

    Args:
        calls: Knows windows, counts and seeds.
        members: Whom to ask.
        messages: What.
        first: Index of the first candidate; other panels of the same run came before it.
        max_tokens: Of members that name no limit.
        is_counted: ``messages`` are the conversation, whose tokens have been counted.
    """
    planned: list[Call] = []
    stage = f"panel{first or ''}"
    for place, member in enumerate(members):
        seed = calls.seed(stage, place) if member.seed is None else member.seed
        count = calls.counts.get(member.model) if is_counted else None
        for sample in range(member.n):
            sampling = SamplingParams(
                temperature=TEMPERATURE if member.temperature is None else member.temperature,
                top_p=member.top_p,
                max_tokens=member.max_tokens,
                seed=seed + sample,
            )
            capped = calls.capped(member.model, sampling, count, max_tokens)
            asked = perturb(messages, member.perturb)
            prompt = Prompt(asked, capped, effort=member.effort, interval=calls.panel_interval)
            planned.append(Call(first + len(planned), member.model, prompt, count or 0))
    return planned
