"""``policy``: which models must not run here, whatever else models.yaml says. Pure."""

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from localfusion.config.models import ModelSpec
from localfusion.config.section import Name, Section

Pattern = Annotated[str, Field(min_length=1, max_length=128)]


class PolicySettings(Section):
    """What the runtime refuses; the declared fallback stands in, as for a withdrawn model."""

    forbid_licenses: tuple[Pattern, ...] = ()
    """Licences, whatever their case; ``*`` stands for anything, ``unknown`` for models that name
    none: ``["unknown", "llama*"]``."""
    forbid_origins: tuple[Pattern, ...] = ()
    """Makers, as ``origin`` names them before its first comma, or whole origins; likewise."""
    forbid_models: tuple[Name, ...] = ()
    """Models by their name here, such as one under an export restriction."""

    def refuses(self, name: str, spec: ModelSpec) -> str | None:
        """Say why a model must not run; None: it may."""
        if name in self.forbid_models:
            return "policy.forbid_models names it"
        if found := _first(self.forbid_licenses, spec.license):
            return f"policy.forbid_licenses has {found}, its license is {spec.license}"
        maker = spec.origin.partition(",")[0]
        if found := _first(self.forbid_origins, spec.origin, maker):
            return f"policy.forbid_origins has {found}, its origin is {maker}"
        return None


def _first(patterns: tuple[str, ...], *values: str) -> str | None:
    """Return the first pattern that one of the values has."""
    known = [value.strip().casefold() for value in values]
    return next((p for p in patterns if any(fnmatchcase(v, p.casefold()) for v in known)), None)
