"""From the engines as they are to their series, each time that somebody looks."""

from collections.abc import Iterator, Sequence
from typing import Protocol, get_args

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from localfusion.engines.base import EngineStats, EngineStatus, Phase
from localfusion.telemetry.metrics import NAMESPACE, Series, families

SERIES = (
    Series(
        f"{NAMESPACE}_engine_state",
        "gauge",
        ("engine", "state"),
        "1 for the state that an engine is in, 0 for the others.",
    ),
    Series(
        f"{NAMESPACE}_engine_restarts_total",
        "counter",
        ("engine",),
        "Starts after a death, since the gateway began.",
    ),
    Series(
        f"{NAMESPACE}_engine_start_seconds",
        "gauge",
        ("engine",),
        "What its last start took, until it had generated a token.",
    ),
    Series(
        f"{NAMESPACE}_engine_slot_bytes",
        "gauge",
        ("engine", "size"),
        "Memory: planned by the plan; actual, where it can be measured.",
    ),
    Series(f"{NAMESPACE}_engine_calls", "gauge", ("engine",), "Calls of ours that have not ended."),
    Series(
        f"{NAMESPACE}_engine_requests_running",
        "gauge",
        ("engine",),
        "Requests that it computes, as it says itself.",
    ),
    Series(
        f"{NAMESPACE}_engine_requests_waiting",
        "gauge",
        ("engine",),
        "Requests that wait in it, as it says itself.",
    ),
    Series(
        f"{NAMESPACE}_engine_kv_cache_usage",
        "gauge",
        ("engine",),
        "Used share of its KV cache, 0 to 1.",
    ),
)


class EngineView(Protocol):
    """What is known of an engine at one moment; an EngineRow is one."""

    @property
    def state(self) -> EngineStatus: ...
    @property
    def stats(self) -> EngineStats | None: ...
    @property
    def planned_bytes(self) -> int | None: ...
    @property
    def actual_bytes(self) -> int | None: ...


class EngineSeries(Collector):
    """Tells of the engines of the last look; of those that are gone nothing is left.

    Attributes:
        views: Replaced as a whole before each page.
    """

    def __init__(self) -> None:
        self.views: Sequence[EngineView] = ()

    def describe(self) -> Iterator[Metric]:
        return iter(families(SERIES))

    def collect(self) -> Iterator[Metric]:
        found = families(SERIES)
        for view in self.views:
            for family, samples in zip(found, _samples(view), strict=True):
                for labels, value in samples:
                    if value is not None:
                        family.add_metric([view.state.engine, *labels], value)
        return iter(found)


def _samples(view: EngineView) -> list[list[tuple[tuple[str, ...], float | None]]]:
    """Return the samples of each of ``SERIES``: further labels, and the value if it is known."""
    state, stats = view.state, view.stats
    return [
        [((phase,), float(phase == state.phase)) for phase in get_args(Phase)],
        [((), state.restarts)],
        [((), state.start_seconds)],
        [(("planned",), view.planned_bytes), (("actual",), view.actual_bytes)],
        [((), state.in_flight)],
        [((), stats.running if stats else None)],
        [((), stats.waiting if stats else None)],
        [((), stats.kv_cache_usage if stats else None)],
    ]
