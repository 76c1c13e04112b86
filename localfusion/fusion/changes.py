"""What a preset or a request may say of a policy: its name, its options, its limits; checked."""

import inspect
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from localfusion.config import Member, Preset, nearest
from localfusion.errors import ConfigError, RequestError
from localfusion.fusion.agreement.extract import Extractor
from localfusion.fusion.policies import POLICIES

CHANGEABLE = (
    "panel",
    "judge",
    "panel_max_tokens",
    "analysis_max_tokens",
    "policy",
    "options",
    "quorum",
    "grace",
    "deadline",
    "partial",
    "order",
    "traces",
    "prefill",
    "agreement",
    "extract",
)
"""Fields of a preset that a request may have otherwise."""

_BESIDE = ("member_temperature", "member_effort", "analysis")
"""What holds for every member, and the option ``analysis`` of every policy that has it."""

_FREED: Mapping[str, object] = {"quorum": None, "fallback_judge": None, "tool_caller": None}


def changed(preset: Preset, changes: Mapping[str, object]) -> Preset:
    """Return the preset as one request wants it.

    A request that names another policy leaves the preset's options behind: they belong to its own.

    Raises:
        RequestError: names the field under ``fusion``.
    """
    if not changes:
        return preset
    for name in changes:
        if name not in (*CHANGEABLE, *_BESIDE):
            raise RequestError(
                f"fusion.{name} is not an option; {nearest(name, CHANGEABLE)}",
                code="unknown_option",
                param=f"fusion.{name}",
            )
    fields = {name: getattr(preset, name) for name in Preset.model_fields}
    changes = dict(changes)
    every = {name: changes.pop(f"member_{name}", None) for name in ("temperature", "effort")}
    analysis = changes.pop("analysis", None)
    policy = str(changes.get("policy", preset.policy))
    options = fields["options"] if policy == preset.policy else {}
    compared = {} if analysis is None or not _compares(policy) else {"analysis": analysis}
    asked = changes.get("options")
    changes["options"] = options | compared | (dict(asked) if isinstance(asked, Mapping) else {})
    if "panel" in changes:
        fields |= _FREED  # they were chosen for the preset's own panel
    try:
        wanted = Preset.model_validate({**fields, **changes})
        panel = _sampled(wanted.panel, every, wins="panel" not in changes)
        wanted = wanted.model_copy(update={"panel": panel})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["fusion", *map(str, first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{path}: {message}", code="out_of_range", param=path) from error
    try:
        check_policy(wanted, where="fusion")
    except ConfigError as error:
        raise RequestError(str(error), code="out_of_range", param=error.param) from error
    names = (*changes, "panel", *(_FREED if "panel" in changes else ()))
    return preset.model_copy(update={name: getattr(wanted, name) for name in names})


def _compares(policy: str) -> bool:
    return policy in POLICIES and "analysis" in inspect.signature(POLICIES[policy]).parameters


def single(preset: Preset) -> Preset:
    """Return the preset in which the judge answers alone."""
    alone = preset.judge or preset.panel[0].model
    return Preset(policy="single", panel=(Member(model=alone),), deadline=preset.deadline)


def _sampled(
    panel: Sequence[Member], every: Mapping[str, object], *, wins: bool
) -> tuple[Member, ...]:
    """Give members what is to hold for all; it ``wins`` over what they name themselves, or not."""
    wanted = {name: value for name, value in every.items() if value is not None}
    return tuple(
        member.model_copy(
            update={k: v for k, v in wanted.items() if wins or getattr(member, k) is None}
        )
        for member in panel
    )


def check_policy(preset: Preset, *, where: str) -> None:
    """Raise ConfigError unless the preset's policy exists and takes its options."""
    if preset.extract is not None:
        try:
            Extractor(preset.extract.kind, preset.extract.pattern)
        except RequestError as error:
            place = f"{where}.extract.pattern"
            raise ConfigError(f"{place}: {error}", param=place) from error
    policy = preset.policy
    if policy not in POLICIES:
        raise ConfigError(
            f"{where}.policy: no policy {policy!r}; {nearest(policy, POLICIES)}",
            param=f"{where}.policy",
        )
    parameters = inspect.signature(POLICIES[policy]).parameters
    known = {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for name, value in preset.options.items():
        place = f"{where}.options.{name}"
        if name not in known:
            hint = nearest(name, known) if known else "it has none"
            raise ConfigError(f"{place}: policy {policy} has no such option; {hint}", param=place)
        try:
            TypeAdapter(known[name].annotation).validate_python(value)
        except ValidationError as error:
            message = f"{place}: {value!r}: {error.errors()[0]['msg']}"
            raise ConfigError(message, param=place) from error
