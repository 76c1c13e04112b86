"""From the writer of traces to its series, each time that somebody looks."""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from localfusion.telemetry.metrics import NAMESPACE, Series, families

TRACE_SERIES = (
    Series(
        f"{NAMESPACE}_trace_queue_events",
        "gauge",
        (),
        "Events that wait for the writer of traces.",
    ),
    Series(f"{NAMESPACE}_trace_commits_total", "counter", (), "Times that traces were written."),
    Series(
        f"{NAMESPACE}_trace_commit_seconds_total",
        "counter",
        (),
        "Time that writing them took, on a thread of its own.",
    ),
    Series(
        f"{NAMESPACE}_trace_events_lost_total",
        "counter",
        (),
        "Events that were not and will not be written.",
    ),
    Series(
        f"{NAMESPACE}_traces_kept",
        "gauge",
        (),
        "1 while traces are written, 0 while the disk takes none.",
    ),
)


class TracesView(Protocol):
    """What is known of the writer now; ``Writing`` is one."""

    @property
    def waiting(self) -> int: ...
    @property
    def commits(self) -> int: ...
    @property
    def commit_seconds(self) -> float: ...
    @property
    def lost(self) -> int: ...
    @property
    def is_kept(self) -> bool: ...


class TraceCollector(Collector):
    """Tells of one writer; nothing where there is none to look at."""

    def __init__(self, view: Callable[[], TracesView] | None) -> None:
        self._view = view

    def describe(self) -> Iterator[Metric]:
        return iter(families(TRACE_SERIES))

    def collect(self) -> Iterator[Metric]:
        found = families(TRACE_SERIES)
        if self._view is not None:
            view = self._view()
            values = (view.waiting, view.commits, view.commit_seconds, view.lost, view.is_kept)
            for family, value in zip(found, values, strict=True):
                family.add_metric([], float(value))
        return iter(found)
