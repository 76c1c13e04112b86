"""What the server tells metrics of its requests."""

from collections.abc import Callable

from localfusion.telemetry.labels import UNKNOWN, reason
from localfusion.telemetry.metrics import Metrics

GONE = "gone"


class HttpMetrics:
    """Counts requests; routes come from the application's own table, never from an address."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ended(self, route: str | None, status: int, code: str | None) -> None:
        """Count a request.

        Args:
            route: Template of its route; None: no route of ours.
            status: Of the answer; 0: the client left before there was one.
            code: Of the error that was the answer, if it was one.
        """
        kind = f"{status // 100}xx" if 100 <= status < 600 else GONE
        self._metrics.http_requests.labels(route or UNKNOWN, kind).inc()
        if code is not None:
            self.refused(code)

    def refused(self, code: str) -> None:
        """Count an error that was the answer."""
        self._metrics.http_refused.labels(reason(code)).inc()

    def stream_opened(self) -> None:
        self._metrics.streams_open.inc()

    def stream_closed(self) -> None:
        self._metrics.streams_open.dec()

    def waited(self, seconds: float) -> None:
        """Note how long a request waited for its place."""
        self._metrics.queue_wait_seconds.observe(seconds)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Ask for the queue's depth whenever somebody looks."""
        self._metrics.queue_depth.set_function(depth)

    def lagged(self, seconds: float) -> None:
        """Note how late the event loop woke a timer."""
        self._metrics.loop_lag_seconds.observe(seconds)
