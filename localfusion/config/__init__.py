"""models.yaml as typed settings: models, presets, limits. Nothing else reads the environment.

Unknown keys, unknown names and values out of range are refused with file, line, key and remedy.
"""

from localfusion.config.models import (
    OWNED_OPTIONS,
    CatalogueFacts,
    GgufSource,
    HubSource,
    ModelSpec,
    PathSource,
    Source,
    WheelsSource,
)
from localfusion.config.policy import PolicySettings
from localfusion.config.presets import MAX_CANDIDATES, Extract, Member, Perturbation, Preset
from localfusion.config.read import MAX_FILE_BYTES, Config, cache_dir, find_file, load, state_dir
from localfusion.config.section import Section
from localfusion.config.settings import (
    SLUG_PREFIX,
    AuditSettings,
    DefaultPreset,
    Limits,
    Rates,
    ServerSettings,
    Settings,
    TraceSettings,
)
from localfusion.config.telemetry import TelemetrySettings
from localfusion.document import nearest

__all__ = [
    "MAX_CANDIDATES",
    "MAX_FILE_BYTES",
    "OWNED_OPTIONS",
    "SLUG_PREFIX",
    "AuditSettings",
    "CatalogueFacts",
    "Config",
    "DefaultPreset",
    "Extract",
    "GgufSource",
    "HubSource",
    "Limits",
    "Member",
    "ModelSpec",
    "PathSource",
    "Perturbation",
    "PolicySettings",
    "Preset",
    "Rates",
    "Section",
    "ServerSettings",
    "Settings",
    "Source",
    "TelemetrySettings",
    "TraceSettings",
    "WheelsSource",
    "cache_dir",
    "find_file",
    "load",
    "nearest",
    "state_dir",
]
