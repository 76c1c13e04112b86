"""Finds and reads models.yaml; says with file, line, key and remedy what is wrong in it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from localfusion.config.models import SOURCE_KINDS, CatalogueFacts, ModelSpec
from localfusion.config.policy import PolicySettings
from localfusion.config.presets import Member, Preset
from localfusion.config.section import Section
from localfusion.config.settings import (
    AuditSettings,
    DefaultPreset,
    Limits,
    ServerSettings,
    Settings,
    TraceSettings,
)
from localfusion.config.telemetry import TelemetrySettings
from localfusion.document import Document
from localfusion.errors import ConfigError

MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Config:
    """The settings and where they were found; relative paths in them start at ``file.parent``."""

    settings: Settings
    file: Path

    def locate(self, path: Path) -> Path:
        return (self.file.parent / path.expanduser()).resolve()

    def with_server(self, changes: Mapping[str, object]) -> "Config":
        """Return a copy with some server settings replaced, as options of a command do.

        Raises:
            ConfigError: a value out of range.
        """
        current = self.settings.server.model_dump()
        try:
            server = ServerSettings.model_validate({**current, **changes})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"--{first['loc'][0]}: {first['msg']}") from error
        return Config(self.settings.model_copy(update={"server": server}), self.file)

    @property
    def keys_file(self) -> Path:
        """Where the server's API keys are kept."""
        given = self.settings.server.keys
        return state_dir() / "keys.json" if given is None else self.locate(given)

    @property
    def local_key_file(self) -> Path:
        """Where a running server leaves a key for this user's own commands."""
        return state_dir() / f"server-{self.settings.server.port}.key"

    @property
    def traces_dir(self) -> Path:
        """Where traces are kept."""
        return state_dir() / "traces"

    @property
    def audit_file(self) -> Path:
        return state_dir() / "audit" / "audit.jsonl"

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate chain and key of the server; None: plain http."""
        server = self.settings.server
        if server.tls_cert is None or server.tls_key is None:
            return None
        return self.locate(server.tls_cert), self.locate(server.tls_key)

    def client_key(self) -> str | None:
        """Return the key for the server at the configured port: LOCALFUSION_API_KEY, or its own."""
        if given := os.environ.get("LOCALFUSION_API_KEY"):
            return given
        try:
            return self.local_key_file.read_text().strip()
        except OSError:
            return None

    @property
    def lock_file(self) -> Path:
        return self.file.with_name("models.lock")

    @property
    def models_dir(self) -> Path:
        """Where pulled weights are kept, a folder per model."""
        return cache_dir() / "models"

    @property
    def engine_python(self) -> Path | None:
        given = self.settings.engine_python
        # Not resolved: the link bin/python of a virtual environment is what finds its packages.
        return None if given is None else (self.file.parent / given.expanduser()).absolute()


def cache_dir() -> Path:
    """Folder for weights and engine caches: LOCALFUSION_CACHE, else the user's cache folder."""
    if given := os.environ.get("LOCALFUSION_CACHE"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "localfusion"


def state_dir() -> Path:
    """Folder for what must stay, such as keys: LOCALFUSION_STATE, else the user's state folder."""
    if given := os.environ.get("LOCALFUSION_STATE"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().resolve() / "localfusion"


def find_file() -> Path:
    """Return LOCALFUSION_CONFIG, else ./models.yaml, else the one shipped with the package."""
    if given := os.environ.get("LOCALFUSION_CONFIG"):
        return Path(given).expanduser().resolve()
    package = Path(__file__).parent.parent
    places = [Path.cwd(), package, package.parent]
    return next((p / "models.yaml" for p in places if (p / "models.yaml").is_file()), places[0])


def load(path: Path | None = None) -> Config:
    """Read and check models.yaml.

    Raises:
        ConfigError: no such file, no YAML, or anything in it is wrong: file, line, key, remedy.
    """
    file = (path or find_file()).resolve()
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; name the file with --config or LOCALFUSION_CONFIG"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES} bytes; is this the right file?")
    document = Document(file, raw)
    try:
        return Config(Settings.model_validate(document.value), file)
    except ValidationError as error:
        raise document.explain(error, _key_names) from error


def _key_names(path: tuple[str | int, ...], beside: Iterable[str]) -> list[str]:
    """Return the keys that models.yaml may hold at ``path``; ``beside`` stands there already."""
    place = tuple("*" if i % 2 else part for i, part in enumerate(path))
    sections = [_SECTIONS[place]] if place in _SECTIONS else []
    if place == ("models", "*", "source"):
        sections = [SOURCE_KINDS[kind] for kind in beside if kind in SOURCE_KINDS]
    return [key for section in sections for key in section.model_fields]


_SECTIONS: dict[tuple[str | int, ...], type[Section]] = {
    (): Settings,
    ("default_preset",): DefaultPreset,
    ("server",): ServerSettings,
    ("limits",): Limits,
    ("traces",): TraceSettings,
    ("telemetry",): TelemetrySettings,
    ("audit",): AuditSettings,
    ("policy",): PolicySettings,
    ("models", "*"): ModelSpec,
    ("models", "*", "facts"): CatalogueFacts,
    ("presets", "*"): Preset,
    ("presets", "*", "panel", "*"): Member,
}
