"""What a preset or a request may say of a policy: its name, its options, its limits; checked."""

import inspect
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from localfusion.config import Preset, nearest
from localfusion.errors import ConfigError, RequestError
from localfusion.fusion.agreement.extract import Extractor
from localfusion.fusion.policies import POLICIES

CHANGEABLE = (
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


def changed(preset: Preset, changes: Mapping[str, object]) -> Preset:
    """Return the preset as one request wants it.

    A request that names another policy leaves the preset's options behind: they belong to its own.

    Raises:
        RequestError: names the field under ``fusion``.
    """
    if not changes:
        return preset
    for name in changes:
        if name not in CHANGEABLE:
            raise RequestError(
                f"fusion.{name} is not an option; {nearest(name, CHANGEABLE)}",
                code="unknown_option",
                param=f"fusion.{name}",
            )
    fields = {name: getattr(preset, name) for name in Preset.model_fields}
    if changes.get("policy", preset.policy) != preset.policy:
        fields["options"] = {}
    try:
        wanted = Preset.model_validate({**fields, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["fusion", *map(str, first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{path}: {message}", code="out_of_range", param=path) from error
    try:
        check_policy(wanted, where="fusion")
    except ConfigError as error:
        raise RequestError(str(error), code="out_of_range", param=error.param) from error
    return preset.model_copy(update={name: getattr(wanted, name) for name in (*changes, "options")})


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
