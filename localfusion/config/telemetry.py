"""``telemetry``: who outside is told of runs, without a word of what they say."""

from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from localfusion.config.section import Section
from localfusion.document import misplaced


class TelemetrySettings(Section):
    otel_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    """OpenTelemetry receiver (OTLP over HTTP) that gets a span for each run and each call, such as
    ``http://127.0.0.1:4318``; needs ``pip install localfusion[otel]``. None: spans are not made."""
    allow_remote: bool = False
    """The receiver may be another machine: names of models, times and counts leave this one."""

    @property
    def traces_url(self) -> str | None:
        """Where spans go: below the receiver's address, as OTLP says."""
        return None if self.otel_endpoint is None else f"{self.otel_endpoint.rstrip('/')}/v1/traces"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.otel_endpoint is not None and not self.allow_remote:
            try:
                host = urlsplit(self.otel_endpoint).hostname or ""
                is_near = host == "localhost" or ip_address(host).is_loopback
            except ValueError:
                is_near = False
            if not is_near:
                raise misplaced(
                    "is no address of loopback; set allow_remote: true if spans may leave this "
                    "machine",
                    "otel_endpoint",
                )
        return self
