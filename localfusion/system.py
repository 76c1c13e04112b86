"""What would run: presets, verified weights and a plan, found out before anything is loaded."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localfusion.config import Config, Member, Preset, Settings, nearest
from localfusion.errors import ConfigError, PlacementError, RequestError, WeightsError
from localfusion.fallback import REPLACED, adapt, withdrawn
from localfusion.hardware import Hardware
from localfusion.placement import (
    DEFAULT_MAX_MODEL_LEN,
    DEFAULT_MAX_NUM_BATCHED_TOKENS,
    DEFAULT_MAX_NUM_SEQS,
    ModelNeed,
    Plan,
    PresetNeed,
    Slot,
    plan,
)
from localfusion.weights import ModelFiles, find_status, read_facts, resolve


@dataclass(frozen=True, slots=True)
class System:
    """What models.yaml, the files on this disk and the hardware come to; nothing of it runs yet.

    Attributes:
        presets: Without the models that are gone, with the judges that the plan chose.
        files: Verified weights of the models that run here.
        plan: None when every engine is simulated.
        notes: What a user should know: models lost or replaced, compromises of the plan.
    """

    config: Config
    presets: Mapping[str, Preset]
    models: tuple[str, ...]
    files: Mapping[str, ModelFiles]
    plan: Plan | None
    notes: tuple[str, ...]

    @property
    def weights(self) -> Mapping[str, Path]:
        """Folders of ``files``."""
        return {name: files.path for name, files in self.files.items()}

    @property
    def slots(self) -> Mapping[str, Slot]:
        return {slot.model: slot for slot in self.plan.slots} if self.plan else {}

    @property
    def devices(self) -> Mapping[str, tuple[str, ...]]:
        return {name: slot.devices for name, slot in self.slots.items()}

    @property
    def groups(self) -> Sequence[Sequence[str]]:
        return self.plan.groups if self.plan else ()

    @property
    def limits(self) -> Mapping[str, int]:
        return {name: self.config.settings.models[name].max_calls for name in self.models}

    @property
    def keep_alive(self) -> Mapping[str, float | None]:
        return {name: self.config.settings.models[name].keep_alive for name in self.models}

    def identity(self, name: str) -> object:
        """Return what makes an engine the one it is; another value needs another engine.

        Its share of CPU cores is left out: a new neighbour alone restarts nothing.
        """
        spec = self.config.settings.models[name]
        words = spec.model_dump(exclude={"facts", "license", "origin", "withdrawn", "fallback"})
        slot = self.slots.get(name)
        share = slot and replace(slot, cores=(), niceness=0, roles=())
        return words, self.weights.get(name), share


def compose(
    config: Config, names: Sequence[str], extra: Collection[str], hardware: Hardware, *, sim: bool
) -> System:
    """Find out what would run for some presets and further models; loads nothing.

    Raises:
        FusionError: a preset, weights or a plan that cannot be had.
    """
    settings = config.settings
    chosen = choose_presets(config, names, hardware)
    used = {name for preset in chosen.values() for name in preset.models}
    gone = withdrawn(settings)  # all: one that no preset names may be another's fallback
    _refuse_gone(extra, gone)
    if not sim:
        gone |= _missing(config, used - set(gone))
    presets, notes = usable_presets(settings, chosen, gone)
    alone = {name: Preset(policy="single", panel=(Member(model=name),)) for name in extra}
    wanted = {**alone, **presets}
    models = tuple(dict.fromkeys(name for preset in wanted.values() for name in preset.models))
    notes = (*notes, *_kinship(config, presets))
    if sim:
        return System(config, presets, models, {}, None, notes)
    files = _verified(config, models)
    plan = make_plan(config, wanted, hardware)
    for name, judge in plan.judges.items():
        presets[name] = presets[name].model_copy(update={"judge": judge}).with_warning(REPLACED)
    planned = {slot.model for slot in plan.slots}
    for name, preset in presets.items():
        if not any(planned.intersection(preset.models) <= set(group) for group in plan.groups):
            # A judge that loads after the panel begins with an empty cache: nothing to read ahead.
            presets[name] = preset.model_copy(update={"prefill": False})
    order = [slot.model for slot in plan.slots]
    # A judge that the plan replaced has no slot; what runs elsewhere needs none.
    named = dict.fromkeys(m for preset in {**alone, **presets}.values() for m in preset.models)
    models = (*order, *(name for name in named if name not in order))
    return System(config, presets, models, files, plan, (*notes, *plan.notes))


def usable_presets(
    settings: Settings, chosen: Mapping[str, Preset], gone: Mapping[str, str]
) -> tuple[dict[str, Preset], tuple[str, ...]]:
    """Take models out of presets, as ``fallback.adapt`` does.

    Raises:
        ConfigError: no preset is left that could answer.
    """
    presets, notes = adapt(settings, chosen, gone)
    if not presets:
        raise ConfigError("; ".join(notes))
    return presets, notes


def _refuse_gone(names: Iterable[str], gone: Mapping[str, str]) -> None:
    for name in names:
        if name in gone:
            message = f"{name} is not to be used ({gone[name]}); name another model"
            raise RequestError(message, code="model_forbidden", param="model")


def _missing(config: Config, names: Iterable[str]) -> dict[str, str]:
    """Return the models without weights that another one may stand in for."""
    models = config.settings.models
    return {
        name: "its weights are missing"
        for name in names
        if models[name].fallback and find_status(config, name).state in ("missing", "partial")
    }


def _kinship(config: Config, presets: Mapping[str, Preset]) -> tuple[str, ...]:
    """Say where a judge grades its own drafts or those of its kin: models of the same maker.

    Source: judges favor their own outputs, arXiv 2410.21819.
    """
    makers = {name: spec.origin.partition(",")[0] for name, spec in config.settings.models.items()}
    notes: list[str] = []
    for name, preset in presets.items():
        judge, members = preset.judge, {member.model for member in preset.panel}
        if judge is None or preset.policy == "single":
            continue
        kin = sorted(m for m in members if makers[m] == makers[judge] != "unknown" and m != judge)
        if judge in members:
            notes.append(f"preset {name}: judge {judge} also is a member and grades its own drafts")
        elif kin:
            notes.append(
                f"preset {name}: judge {judge} and {', '.join(kin)} are both of {makers[judge]}"
            )
    return tuple(notes)


def _verified(config: Config, names: Iterable[str]) -> dict[str, ModelFiles]:
    models = config.settings.models
    return {name: resolve(config, name) for name in names if models[name].engine == "vllm"}


def default_preset(config: Config, hardware: Hardware) -> str:
    """Return the preset that models.yaml names for this kind of machine."""
    default = config.settings.default_preset
    return default.gpu if hardware.gpus else default.cpu


def choose_presets(config: Config, names: Sequence[str], hardware: Hardware) -> dict[str, Preset]:
    """Return the named presets, the machine's default one when none is named.

    Raises:
        ConfigError: a name that models.yaml does not define.
    """
    presets = config.settings.presets
    for name in names:
        if name not in presets:
            raise ConfigError(f"there is no preset {name!r}; {nearest(name, presets)}")
    return {name: presets[name] for name in names or (default_preset(config, hardware),)}


def make_plan(config: Config, presets: Mapping[str, Preset], hardware: Hardware) -> Plan:
    """Divide the hardware among the vLLM models of some presets; nothing is loaded.

    Files on disk are measured; for a model that is not there its catalogue figures are used.

    Raises:
        PlacementError: they do not fit, or a model's size is unknown.
        WeightsError: files on disk that are not what they should be.
    """
    models = config.settings.models
    local = {name for name, spec in models.items() if spec.engine == "vllm"}
    used = {name for preset in presets.values() for name in preset.models}
    needs = [_need(config, name) for name in sorted(used & local)]
    asked = {
        name: PresetNeed(
            members=tuple(dict.fromkeys(m.model for m in preset.panel if m.model in local)),
            judge=preset.judge if preset.judge in local else None,
            judge_tokens=preset.judge_tokens,
        )
        for name, preset in presets.items()
    }
    return plan(needs, asked, hardware, config.settings.fit)


def _need(config: Config, name: str) -> ModelNeed:
    spec = config.settings.models[name]
    options = spec.options
    try:
        facts = read_facts(resolve(config, name).path)
        shape, weight_bytes, is_on_disk = facts.shape, facts.weight_bytes, True
    except WeightsError as error:
        if spec.facts is None:
            raise PlacementError(f"the size of {name} is not known: {error}") from error
        shape, weight_bytes, is_on_disk = spec.facts.shape, spec.facts.weight_bytes, False
    ranks = options.get("tensor_parallel_size")
    return ModelNeed(
        name,
        shape,
        weight_bytes,
        max_model_len=int(options.get("max_model_len", DEFAULT_MAX_MODEL_LEN)),
        max_num_seqs=int(options.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS)),
        max_num_batched_tokens=int(
            options.get("max_num_batched_tokens", DEFAULT_MAX_NUM_BATCHED_TOKENS)
        ),
        kv_element_bytes=1 if str(options.get("kv_cache_dtype", "")).startswith("fp8") else None,
        tensor_parallel_size=None if ranks is None else int(ranks),
        is_eager=bool(options.get("enforce_eager", False)),
        is_on_disk=is_on_disk,
    )
