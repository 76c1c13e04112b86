"""The models of a preset: are their weights what they should be, and do they fit."""

from collections.abc import Mapping, Sequence

from localfusion.config import Config, GgufSource, Preset, WheelsSource
from localfusion.doctor.finding import Finding, ok, problem, warn
from localfusion.errors import PlacementError, WeightsError
from localfusion.hardware import Hardware
from localfusion.placement import Plan, gib
from localfusion.starts import StartRecords, predict
from localfusion.system import make_plan
from localfusion.weights import ModelStatus, find_status, resolve, verify


def check_weights(config: Config, names: Sequence[str], *, deep: bool) -> list[Finding]:
    """Do what the start of an engine does first: prove that the weights are what was pulled.

    Args:
        config: The loaded models.yaml.
        names: Models with weights here.
        deep: Read every byte again; else only of files that have changed since that was done.
    """
    return [_check_model(config, name, deep=deep) for name in names]


def _check_model(config: Config, name: str, *, deep: bool) -> Finding:
    check = f"weights {name}"
    was_verified = find_status(config, name).state == "verified"
    try:
        files = resolve(config, name)
        if deep and was_verified:
            files = verify(config, name)
    except WeightsError as error:
        # Messages of ours end with their remedy.
        text, _, remedy = str(error).removeprefix(f"weights of {name!r}: ").rpartition("; ")
        if not text:
            text, remedy = remedy, f"localfusion models pull {name}"
        instead = _stand_in(config, name)
        if instead is not None:
            return warn(check, f"{text}; {instead} stands in", remedy)
        return problem(check, text, remedy)
    how = "unchanged since every byte was read" if was_verified and not deep else "every byte read"
    return ok(check, f"{files.manifest.bytes / 1e9:.2f} GB, {how}")


def _stand_in(config: Config, name: str) -> str | None:
    """Return the declared fallback of a model whose weights are missing, if it is here itself."""
    instead = config.settings.models[name].fallback
    if instead is None or find_status(config, name).state not in ("missing", "partial"):
        return None
    return instead if find_status(config, instead).state in ("pulled", "verified") else None


def to_be_pulled(config: Config, names: Sequence[str]) -> list[ModelStatus]:
    """Return the models of which something is missing."""
    found = [find_status(config, name) for name in names]
    return [status for status in found if status.state == "missing" or _is_begun(config, status)]


def _is_begun(config: Config, status: ModelStatus) -> bool:
    # A folder of the user's own is "partial" until its first use.
    source = config.settings.models[status.name].source
    return status.state == "partial" and not hasattr(source, "path")


def waits_for_conversion(config: Config, missing: Sequence[ModelStatus]) -> bool:
    """Whether one of them comes as a GGUF file."""
    models = config.settings.models
    return any(isinstance(models[s.name].source, GgufSource | WheelsSource) for s in missing)


def check_plan(config: Config, presets: Mapping[str, Preset], hardware: Hardware) -> list[Finding]:
    """Compare the plan of some presets with the memory that is free now."""
    name = "memory"
    try:
        made = make_plan(config, presets, hardware)
    except (PlacementError, WeightsError) as error:
        return [problem(name, str(error), "localfusion plan shows what would fit")]
    sizes = ", ".join(f"{slot.model} {gib(slot.bytes)}" for slot in made.slots)
    free = [f"{gib(gpu.free_bytes)} of {gpu.name}" for gpu in hardware.gpus]
    where = ", ".join(free) or gib(hardware.cpu.free_bytes)
    notes = [warn(name, note, "localfusion plan shows the whole plan") for note in made.notes]
    return [ok(name, f"planned: {sizes}; free: {where}"), *notes, *_predict(made)]


def _predict(made: Plan) -> list[Finding]:
    seconds = predict(made, StartRecords().read())
    if seconds is None:
        return []  # some engine has never started here
    return [ok("start", f"ready within {seconds:.0f} s, by the last good starts")]
