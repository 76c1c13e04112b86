"""The recorder: each member answers each prompt once, and everyone is waited for.

Calls, sampling and seeds are those of a run of the preset; only the waiting differs: no quorum, no
grace, so that every arm has whole candidates. How long they took says nothing, for many prompts are
asked at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from localfusion.config import Member, Preset
from localfusion.errors import ContextLengthError
from localfusion.evals.judging import PATIENCE
from localfusion.evals.samples import digest_of
from localfusion.events import Event, Record
from localfusion.fusion import Fusion
from localfusion.fusion.calls import MIN_ROOM, Calls, count_tokens
from localfusion.fusion.members import plan_calls
from localfusion.fusion.panel import Call, Enough, ask_panel
from localfusion.types import Candidate, Message


@dataclass(frozen=True, slots=True)
class Place:
    """Whose a candidate is: the member's name, and the number of the draw among its own."""

    member: str
    draw: int


def places_of(panel: Sequence[Member]) -> list[Place]:
    """Return each candidate's place, by its index; a model's second member is ``model#2``."""
    seen: dict[str, int] = {}
    places = []
    for member in panel:
        seen[member.model] = seen.get(member.model, 0) + 1
        again = seen[member.model]
        name = member.model if again == 1 else f"{member.model}#{again}"
        places += [Place(name, draw) for draw in range(member.n)]
    return places


def own_name(place: Place) -> str:
    """Return the member's own name, under which its part of the panel is recorded."""
    return place.member


def names_of(panel: Sequence[Member]) -> tuple[str, ...]:
    """Return the members' names, each once, in the panel's order."""
    return tuple(dict.fromkeys(place.member for place in places_of(panel)))


def panel_digest(candidates: Sequence[Candidate]) -> str:
    """Return the digest of what a judge can read of a panel; arms with one digest share it."""
    by_index = sorted(candidates, key=lambda candidate: candidate.index)
    return digest_of([[c.index, c.text, c.reasoning, c.is_draft] for c in by_index])


async def ask_members(
    fusion: Fusion,
    preset: Preset,
    messages: tuple[Message, ...],
    *,
    seed: int,
    record: Callable[[Record], None],
) -> tuple[Candidate, ...]:
    """Ask a preset's panel, wait for everyone, and judge nothing.

    Args:
        fusion: Has the engines.
        preset: Its panel and its limits on length.
        messages: What is asked.
        seed: As of a request; the members' are derived from it.
        record: Told of each call of an engine.

    Returns:
        A candidate for each sample of each member, in the panel's order; failed ones too.

    Raises:
        ContextLengthError: a member's window cannot hold the prompt.
        EngineUnavailableError, OverloadedError: an engine is not there, or has too much to do.
    """
    names = [member.model for member in preset.panel for _ in range(member.n)]
    async with fusion.lease(names) as engines:
        counts: dict[str, int] = {}
        for model in dict.fromkeys(names):
            count = await count_tokens(engines[model], messages)
            if count is not None:
                counts[model] = count
        _check_fit(counts, {model: engines[model].facts.max_model_len for model in counts})
        calls = Calls(engines, counts, seed, PATIENCE, "nothing")
        calls.record = record
        planned: list[Call] = plan_calls(
            calls,
            preset.panel,
            messages,
            first=0,
            max_tokens=preset.panel_max_tokens,
            is_counted=True,
        )
        everyone = Enough(quorum=len(planned), grace=PATIENCE, limit=PATIENCE)
        panel = await ask_panel(planned, everyone, calls.stream, _ignore)
    return panel.candidates


def _check_fit(counts: Mapping[str, int], windows: Mapping[str, int]) -> None:
    for model, count in counts.items():
        if count + MIN_ROOM > windows[model]:
            raise ContextLengthError(
                f"the prompt has {count} tokens for {model}, whose window holds {windows[model]} "
                f"with at least {MIN_ROOM} for the answer"
            )


async def _ignore(event: Event) -> None:
    """Take a panel's events: the candidates say it all."""
