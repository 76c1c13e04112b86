"""Presets without the models that are gone: withdrawn, or their weights missing. Pure.

Losing a model must not take the service down: its declared fallback takes its place; a member
without one leaves the panel, and a judge without one is followed by the first member left.
"""

from collections.abc import Mapping

from localfusion.config import Preset, Settings

REPLACED = "model_replaced"
"""Reason of a degraded answer: another model stood in for one that is gone."""
LOST = "model_lost"
"""Likewise: a model is gone, and nothing took its place."""


def withdrawn(settings: Settings) -> dict[str, str]:
    """Return models marked as withdrawn or forbidden by the policy, each with the reason."""
    why = {n: m.withdrawn or settings.policy.refuses(n, m) for n, m in settings.models.items()}
    return {name: reason for name, reason in why.items() if reason is not None}


def adapt(
    settings: Settings, presets: Mapping[str, Preset], gone: Mapping[str, str]
) -> tuple[dict[str, Preset], tuple[str, ...]]:
    """Take models out of presets.

    Args:
        settings: Knows the fallbacks.
        presets: By name.
        gone: Models that cannot be had, each with the reason in words.

    Returns:
        The presets that can still answer, those that lost something with a ``warning``; and a note
        for each loss. A preset with no member left is missing.
    """
    adapted: dict[str, Preset] = {}
    notes: list[str] = []
    for name, preset in presets.items():
        instead = {model: _instead(settings, model, gone) for model in preset.models}
        lost = [model for model in preset.models if model in gone]
        if not lost:
            adapted[name] = preset
            continue
        for model in lost:
            other = instead[model]
            then = f"{other} stands in" if other else "it has no fallback and is left out"
            notes.append(f"preset {name}: {model} is gone ({gone[model]}); {then}")
        panel = tuple(
            member.model_copy(update={"model": instead[member.model]})
            for member in preset.panel
            if instead[member.model] is not None
        )
        if not panel:
            notes.append(f"preset {name} is not served: none of its members is left")
            continue
        judge = preset.judge and instead[preset.judge]
        if preset.judge is not None and judge is None:
            judge = panel[0].model
            notes.append(f"preset {name}: {judge} judges instead of {preset.judge}")
        candidates = sum(member.n for member in panel)
        quorum = preset.quorum and min(preset.quorum, candidates)
        second = preset.fallback_judge and instead[preset.fallback_judge]
        caller = preset.tool_caller and instead[preset.tool_caller]
        changes = {"panel": panel, "judge": judge, "fallback_judge": second, "quorum": quorum}
        changes["tool_caller"] = caller
        warning = REPLACED if all(instead[model] for model in lost) else LOST
        adapted[name] = preset.model_copy(update=changes).with_warning(warning)
    return adapted, tuple(dict.fromkeys(notes))


def _instead(settings: Settings, model: str, gone: Mapping[str, str]) -> str | None:
    """Follow the declared fallbacks to a model that is there; config refuses circles."""
    current: str | None = model
    while current is not None and current in gone:
        current = settings.models[current].fallback
    return current
