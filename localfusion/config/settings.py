"""The whole of models.yaml, and what must agree between its parts."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from localfusion.config.models import ModelSpec
from localfusion.config.policy import PolicySettings
from localfusion.config.presets import Preset
from localfusion.config.section import Name, Seconds, Section
from localfusion.config.telemetry import TelemetrySettings
from localfusion.document import misplaced, nearest

SLUG_PREFIX = "localfusion/"

Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9~][A-Za-z0-9._:/~-]{0,127}$")]


def _address(host: str) -> str:
    if host != "localhost":
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("must be an IP address or localhost") from None
    return host


HostName = Annotated[
    str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)$")
]


class ServerSettings(Section):
    host: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """An address of this machine; beyond loopback only with a key and ``allow_remote``."""
    allow_remote: bool = False
    """Other machines may call; needs at least one key (``localfusion keys create``)."""
    hosts: tuple[HostName, ...] = ()
    """Names by which clients call the server, besides localhost, 127.0.0.1 and [::1]."""
    keys: Path | None = None
    """File of API keys; None: ``keys.json`` in the folder for state. Once there is a key, every
    request needs one."""
    tls_cert: Path | None = None
    """Certificate chain in PEM, with ``tls_key``: then https is spoken."""
    tls_key: Path | None = None
    """Its private key in PEM."""
    access_log: bool = False
    """A line of JSON on stderr for each request: time, id, run, key's name, route, status, reason,
    ms."""
    log_format: Literal["text", "json"] = "text"
    """Of what stands on stderr; ``json``: an object a line, with time, level and request id."""
    port: int = Field(default=8000, ge=1, le=65_535)
    """One that nothing else listens on."""
    keepalive: Seconds = 10.0
    """Silence after which a stream gets a comment."""
    drain: Seconds = 30.0
    """Time that running requests have after SIGTERM."""

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ip_address(self.host).is_loopback

    @property
    def is_wide(self) -> bool:
        """It listens on every address of this machine."""
        return self.host != "localhost" and ip_address(self.host).is_unspecified

    @property
    def url(self) -> str:
        """Where this machine's own clients reach the server."""
        host = self.host
        if self.is_wide:
            host = "::1" if ":" in host else "127.0.0.1"
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.is_loopback and not self.allow_remote:
            raise misplaced(
                "other machines reach this address; create a key (localfusion keys create) and "
                "set allow_remote: true, or use 127.0.0.1",
                "host",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise misplaced("tls_cert and tls_key belong together; set both or none", "tls_cert")
        return self


class Limits(Section):
    body_bytes: int = Field(default=4 << 20, ge=1024, le=32 << 20)
    """Largest request body; above: 413."""
    messages: int = Field(default=2000, ge=1, le=2000)
    """Messages of one conversation; above: 400."""
    runs: int = Field(default=64, ge=1, le=1024)
    """Requests that run at once; further ones wait."""
    queued: int = Field(default=256, ge=0, le=4096)
    """Requests that wait; above: 503 with Retry-After."""
    queue_wait: Annotated[Seconds, Field(le=600)] = 30.0
    """Longest wait; after it: 503 with Retry-After."""
    key_runs: int = Field(default=16, ge=1, le=1024)
    """Requests of one API key that run at once; further ones of it wait."""
    key_queued: int = Field(default=64, ge=0, le=4096)
    """Requests of one API key that wait; above: 429 with Retry-After."""
    connections: int = Field(default=1024, ge=8, le=65_536)
    """Clients connected at once, whether they ask or not; a further one is closed."""
    head_wait: Annotated[Seconds, Field(le=600)] = 10.0
    """Longest wait for a TLS handshake, and for the headers of a request; then it is closed."""


class Rates(Section):
    """What the machine's work costs; money is told only where all that was used is priced."""

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Three letters."""
    gpu_hour: float | None = Field(default=None, ge=0)
    """Of one GPU."""
    cpu_hour: float | None = Field(default=None, ge=0)
    """Of one core."""
    engine_hour: float | None = Field(default=None, ge=0)
    """Of one engine that runs elsewhere."""
    kwh: float | None = Field(default=None, ge=0)
    """Of a kilowatt-hour, on top, where the machine tells its energy."""


class TraceSettings(Section):
    content: Literal["none", "hash", "full"] = "full"
    """What traces keep of texts: ``none``; ``hash``: digests, by which equal texts are found and
    short ones can be guessed; ``full``."""
    required: bool = False
    """Refuse runs with 503 while no trace can be written; else answers go on without."""
    durability: Literal["process", "power"] = "process"
    """What a trace survives once it is acknowledged: the death of the process, or a power cut
    too, which costs a disk write for each answer."""
    max_days: float = Field(default=30, gt=0, le=36_500)
    """Older traces are deleted."""
    max_bytes: int = Field(default=10 << 30, ge=1 << 20, le=1 << 50)
    """The oldest traces are deleted when all together are larger."""


class AuditSettings(Section):
    enabled: bool = True
    """Note of each run, in ``audit/audit.jsonl`` of the folder for state, which key asked for which
    preset and which models took part; nothing that was said."""


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
    fit: tuple[Literal["share_judge", "context", "phases"], ...] = (
        "share_judge",
        "context",
        "phases",
    )
    """What ``plan`` may do, in this order, when the models do not fit at once: let a member judge,
    shorten contexts, load panel and judge in turns. It says what it did; [] refuses instead."""
    server: ServerSettings = ServerSettings()
    """The HTTP server."""
    limits: Limits = Limits()
    """What one client may ask for."""
    traces: TraceSettings = TraceSettings()
    """What is kept of every run, and for how long."""
    audit: AuditSettings = AuditSettings()
    """Who asked for what: a log that shows what was changed in it."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Who outside is told of runs."""
    policy: PolicySettings = PolicySettings()
    """Licences, origins and models that must not run here."""
    rates: Rates | None = None
    """What the machine's work costs; None: answers tell no money."""
    aliases: dict[Alias, Name] = Field(default={}, max_length=1000)
    """Names that clients use for a model or preset of ours, such as ``gpt-4o``."""
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
        for model, spec in self.models.items():
            if spec.fallback is not None:
                self._refuse_unknown(spec.fallback, "models", model, "fallback")
                self._refuse_circle(model)
        for i, model in enumerate(self.policy.forbid_models):
            self._refuse_unknown(model, "policy", "forbid_models", i)
        self._check_aliases()
        for key, name in self.default_preset:
            if name not in self.presets:
                message = f"presets has no {name!r}; {nearest(name, self.presets)}"
                raise misplaced(message, "default_preset", key)
        return self

    def _check_aliases(self) -> None:
        for alias, target in self.aliases.items():
            if alias in self.models or alias in self.presets:
                raise misplaced("a model or preset has this name; remove one", "aliases", alias)
            if target not in self.models and target not in self.presets:
                message = f"no model or preset {target!r}; {nearest(target, self.models)}"
                raise misplaced(message, "aliases", alias)

    def _refuse_circle(self, start: str) -> None:
        seen, current = {start}, self.models[start].fallback
        while current is not None and current in self.models:
            if current in seen:
                raise misplaced("fallbacks go in a circle; remove one", "models", start, "fallback")
            seen.add(current)
            current = self.models[current].fallback

    def _refuse_unknown(self, model: str, *loc: str | int) -> None:
        if model in self.presets and model not in self.models:
            raise misplaced(f"{model!r} is a preset; name its models instead", *loc)
        if model not in self.models:
            raise misplaced(f"models has no {model!r}; {nearest(model, self.models)}", *loc)
