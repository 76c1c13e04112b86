"""Telemetry: the metrics of one system, and its spans where somebody takes them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import generate_latest

from localfusion.config import Settings
from localfusion.errors import ConfigError
from localfusion.events import Event
from localfusion.telemetry.engines import SERIES, EngineSeries, EngineView
from localfusion.telemetry.http import HttpMetrics
from localfusion.telemetry.labels import Labels
from localfusion.telemetry.metrics import Metrics, Series
from localfusion.telemetry.runs import RunMetrics
from localfusion.telemetry.traces import TRACE_SERIES, TraceCollector, TracesView

if TYPE_CHECKING:
    from localfusion.telemetry.otel import Spans

__all__ = ["CONTENT_TYPE", "Telemetry"]

FRESH_SECONDS = 1.0
"""Engines are asked no more often, however many look."""

Look = Callable[[], Awaitable[Sequence[EngineView]]]
Observer = Callable[[Event], None]


async def _no_engines() -> Sequence[EngineView]:
    return ()


def _spans(url: str | None) -> "Spans | None":
    if url is None:
        return None
    try:
        from localfusion.telemetry.otel import spans_to
    except ImportError as error:
        raise ConfigError(
            f"telemetry.otel_endpoint: {error.name} is not installed; run pip install "
            "'localfusion[otel]', or remove the key"
        ) from error
    return spans_to(url)


class Telemetry:
    """Counts what runs, engines and the server do.

    Args:
        settings: Whose names may become labels.
        look: Returns what each engine does now; never waits long.
        traces: Returns what the writer of traces does; None: nobody writes any.

    Raises:
        ConfigError: spans are wanted, and the packages for them are not there.

    Attributes:
        observers: For Fusion.
        http: For the server.
    """

    def __init__(
        self,
        settings: Settings,
        look: Look = _no_engines,
        traces: Callable[[], TracesView] | None = None,
    ) -> None:
        self._metrics = Metrics()
        self._engines = EngineSeries()
        self._metrics.registry.register(self._engines)
        self._metrics.registry.register(TraceCollector(traces))
        self._runs = RunMetrics(self._metrics, Labels((), ()))
        self._look = look
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self.http = HttpMetrics(self._metrics)
        self._spans = _spans(settings.telemetry.traces_url)
        self.observers: tuple[Observer, ...] = (self._runs,)
        if self._spans is not None:
            self.observers = (self._runs, self._spans)
        self.name(settings)

    def name(self, settings: Settings) -> None:
        """Take the names of models.yaml, also when it was read again."""
        self._runs.labels = Labels(settings.presets, settings.models)
        self._runs.expect(settings.presets)

    @property
    def series(self) -> tuple[Series, ...]:
        """Every series, in the order of the page."""
        return (*self._metrics.series, *SERIES, *TRACE_SERIES)

    async def page(self) -> bytes:
        """Return all series in Prometheus' text format, ``CONTENT_TYPE``."""
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if clock() - self._looked > FRESH_SECONDS:
                self._engines.views = await self._look()
                self._looked = clock()
        return generate_latest(self._metrics.registry)

    async def close(self) -> None:
        """Send the spans that wait; when the receiver is gone that takes seconds."""
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
