"""A panel that has answered before: recalled without any call, in its order and without waiting."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from pydantic import ValidationError

from localfusion.config import Preset
from localfusion.errors import RequestError
from localfusion.events import PanelAdded, PanelCompleted
from localfusion.fusion.panel import Call, Emit, Enough, Panel
from localfusion.types import NOT_NEEDED, Candidate, Recorded

NOT_RECORDED = "not_recorded"
"""failure_reason of a candidate that is asked for and was not asked when the panel was recorded."""
ROUNDS = frozenset({"cascade", "layered"})
"""Policies that ask more than once."""


def preset_of(recorded: Recorded, find: Callable[..., str]) -> Preset:
    """Return how the panel is to be read.

    Args:
        recorded: Has the preset's settings.
        find: Returns the model behind a name, by ``param``.

    Raises:
        RequestError: they are not those of a preset of this version.
        ModelNotFoundError: there is no such judge here.
    """
    try:
        preset = Preset.model_validate(recorded.settings)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise RequestError(
            f"trace {recorded.trace} has settings that this version does not know ({place}); "
            "replay it with the version that wrote it",
            code="trace_not_replayable",
        ) from error
    judge = None if preset.judge is None else find(preset.judge, param="judge")
    return preset.model_copy(update={"judge": judge, "prefill": False})


def judges_of(preset: Preset, known: Collection[str]) -> list[str]:
    """Return the models that may judge, as far as they are known: all that a replay can call."""
    named = dict.fromkeys((preset.judge, preset.fallback_judge))
    return [model for model in named if model is not None and model in known]


def recall(
    recorded: Recorded, preset: Preset, calls: Sequence[Call], enough: Enough
) -> list[Candidate]:
    """Return the candidates in the order in which they come.

    Those behind the one that settles the panel are cut, as they would have been; cuts by quorum,
    grace and deadline are those of the record.

    Args:
        recorded: All of them.
        preset: Its policy may ask in rounds.
        calls: That would be made now.
        enough: When nothing can change any more.
    """
    found = [*recorded.candidates]
    if preset.policy in ROUNDS:
        wanted = {call.index: call for call in calls}
        found = [c for c in found if c.index in wanted and wanted[c.index].model == c.model]
        known = {candidate.index for candidate in found}
        found += [_never_asked(call) for call in calls if call.index not in known]
    usable: list[Candidate] = []
    is_settled = False
    for place, candidate in enumerate(found):
        if is_settled and candidate.is_usable:
            found[place] = replace(
                candidate,
                failure_reason=NOT_NEEDED,
                error="cut for nothing more could change",
                is_partial=False,
            )
        elif candidate.is_usable:
            usable.append(candidate)
            is_settled = enough.settled(usable)
    return found


async def tell_panel(candidates: Sequence[Candidate], emit: Emit) -> Panel:
    """Emit what a panel emits whose members answer at once, in this order."""
    by_index = tuple(sorted(candidates, key=lambda candidate: candidate.index))
    for candidate in by_index:
        await emit(
            PanelAdded(index=candidate.index, model=candidate.model, sampling=candidate.sampling)
        )
    for candidate in candidates:
        await emit(PanelCompleted(candidate=candidate))
    is_cut = any(candidate.failure_reason == NOT_NEEDED for candidate in candidates)
    return Panel(candidates=by_index, settled=is_cut)


def _never_asked(call: Call) -> Candidate:
    return Candidate(
        index=call.index,
        model=call.model,
        sampling=call.prompt.sampling,
        finish_reason="error",
        failure_reason=NOT_RECORDED,
        error=f"{call.model} was not asked when this panel was recorded",
    )
