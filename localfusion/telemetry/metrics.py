"""Every series that ``/metrics`` has of runs and of HTTP, in a registry of our own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

NAMESPACE = "localfusion"
SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
"""Buckets of all times: from a simulated engine's to the longest deadline that clients wait for."""
SHARES = tuple(tenth / 10 for tenth in range(1, 11))

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Series:
    """What one name means; the rows of docs/metrics.md."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


def families(series: Sequence[Series]) -> list[CounterMetricFamily | GaugeMetricFamily]:
    """Return empty families of counters and gauges, for whoever fills them when somebody looks."""
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    return [kinds[one.kind](one.name, one.meaning, labels=one.labels) for one in series]


class Registry(CollectorRegistry):
    """Without the times at which series were made, which double the page and tell nothing."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family


class Metrics:
    """The instruments, each once; who counts what stands in ``runs``, ``engines`` and ``http``.

    Attributes:
        registry: Of this object alone: several of them do not share a series.
        series: What they are, in the order of the page.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.series: list[Series] = []
        self._make_runs()
        self._make_stages()
        self._make_panel()
        self._make_http()

    def _make_runs(self) -> None:
        self.runs = self._counter(
            "runs",
            "Runs that have ended, by the answer's status; failed: with an error; interrupted: "
            "the client left, or the server stopped.",
            "preset",
            "status",
        )
        self.run_seconds = self._histogram(
            "run_seconds", "From a run's start to its whole answer.", "preset"
        )
        self.first_token_seconds = self._histogram(
            "first_token_seconds", "From a run's start to the answer's first word.", "preset"
        )
        self.quorum_wait_seconds = self._histogram(
            "quorum_wait_seconds", "From the panel's start until enough have answered.", "preset"
        )
        self.verdict_exits = self._counter(
            "verdict_exits",
            "Answers that are a candidate's own, chosen by the judge in one token.",
            "preset",
        )

    def _make_stages(self) -> None:
        self.stage_seconds = self._histogram(
            "stage_seconds", "Wall time of a stage of a run that gave an answer.", "stage"
        )
        self.tokens = self._counter(
            "tokens",
            "Tokens read (prompt) and written (completion), of runs that gave an answer.",
            "stage",
            "kind",
        )
        self.cached_tokens = self._counter(
            "cached_tokens", "Of the tokens read, those found in an engine's cache.", "stage"
        )
        self.prefills = self._counter(
            "prefills",
            "Times that the judge read ahead while the panel worked (read), or why it did not.",
            "outcome",
        )
        self.engine_seconds = self._counter(
            "engine_seconds",
            "Time in which an engine worked for runs that gave an answer; runs side by side "
            "count each.",
            "engine",
        )

    def _make_panel(self) -> None:
        self.candidates = self._counter(
            "candidates", "Candidates: usable, or why they were lost.", "model", "outcome"
        )
        self.straggler_cuts = self._counter(
            "straggler_cuts", "Candidates cut because the panel waited no longer.", "model"
        )
        self.judge_agreement = self._histogram(
            "judge_agreement",
            "How much of the judge's verdict survives a reversed order, 0 to 1, where asked.",
            "judge",
            buckets=SHARES,
        )
        self.judge_failures = self._counter(
            "judge_failures",
            "Verdicts, analyses and attempts at an answer that gave nothing usable.",
            "judge",
            "reason",
        )

    def _make_http(self) -> None:
        self.http_requests = self._counter(
            "http_requests",
            "Requests that have ended, by route template and class of status; gone: the client "
            "left before one.",
            "route",
            "status",
        )
        self.http_refused = self._counter(
            "http_refused", "Requests answered with an error in place of an answer.", "reason"
        )
        self.queue_depth = self._gauge("queue_depth", "Requests that wait for a place now.")
        self.queue_wait_seconds = self._histogram(
            "queue_wait_seconds", "Wait for a place, of requests that got one."
        )
        self.streams_open = self._gauge("streams_open", "Answers that are being streamed now.")
        self.loop_lag_seconds = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer, measured once a second."
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self._note(f"{name}_total", "counter", labels, meaning)
        return Counter(name, meaning, labels, NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        self._note(name, "gauge", labels, meaning)
        return Gauge(name, meaning, labels, NAMESPACE, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, *labels: str, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        self._note(name, "histogram", labels, meaning)
        return Histogram(name, meaning, labels, NAMESPACE, registry=self.registry, buckets=buckets)

    def _note(self, name: str, kind: Kind, labels: tuple[str, ...], meaning: str) -> None:
        self.series.append(Series(f"{NAMESPACE}_{name}", kind, labels, meaning))
