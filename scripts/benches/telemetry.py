"""What metrics and spans add to a run, on simulated engines: all in microseconds."""

import statistics
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benches.overhead import MEMBERS, build, request
from benches.table import Row
from localfusion.config import Settings
from localfusion.engines.sim_latency import SimProfile
from localfusion.events import AnswerDelta, Event, PanelDelta
from localfusion.server.exchange import Exchange
from localfusion.telemetry import Telemetry
from localfusion.telemetry.otel import Spans

ROUNDS = 200
RUNS = 20
"""Of one round, whose mean counts."""
TOKENS = (AnswerDelta, PanelDelta)


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[object]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def measure() -> list[Row]:
    """Return every figure."""
    seen: list[Event] = []
    fusion = build("word " * 100, SimProfile(num_blocks=512), observers=[seen.append])
    answer = await fusion.complete(request(0))
    rest = [event for event in seen if type(event) not in TOKENS]
    tokens = [event for event in seen if type(event) in TOKENS]
    telemetry = Telemetry(_settings())
    spans = Spans(BatchSpanProcessor(_Nowhere()))
    (metrics,) = telemetry.observers
    metrics(rest[0])
    per_token = median(lambda: feed(metrics, tokens)) / len(tokens)
    metrics(rest[-1])
    rows = [
        Row("metrics, all events of a fusion but its tokens'", run(metrics, rest), "us", 500.0),
        Row("metrics, of each token that streams through", per_token, "us", 1.0),
        Row("spans of that fusion, until they wait for the sender", run(spans, rest), "us", 1000.0),
        Row("one HTTP request counted, its log line off", await http(telemetry), "us", 50.0),
    ]
    spans.close()
    assert answer.status == "full"
    began = time.perf_counter()
    size = len(await telemetry.page())
    rows.append(Row("/metrics, a page", (time.perf_counter() - began) * 1e6, "us", 20_000.0))
    print(f"  the page has {size} bytes")
    return rows


def run(observer: Callable[[Event], None], events: Sequence[Event]) -> float:
    return median(lambda: feed(observer, events))


def feed(observer: Callable[[Event], None], events: Sequence[Event]) -> None:
    for event in events:
        observer(event)


def median(work: Callable[[], None]) -> float:
    """Return microseconds of one call."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(RUNS):
            work()
        found.append((time.perf_counter() - began) / RUNS)
    return statistics.median(found) * 1e6


async def http(telemetry: Telemetry) -> float:
    scope = {"method": "POST", "path": "/v1/chat/completions", "state": {}, "headers": []}
    headers = [(b"content-type", b"application/json"), (b"x-localfusion-trace", b"0" * 32)]
    start = {"type": "http.response.start", "status": 200, "headers": headers}

    def exchange() -> None:
        one = Exchange(scope, "req_0", telemetry.http)
        one.answer(start)
        one.end()

    return median(exchange)


def _settings() -> Settings:
    names = (*MEMBERS, "judge")
    model = {"engine": "sim", "license": "Apache-2.0", "origin": "nobody"}
    return Settings.model_validate(
        {
            "default_preset": {"gpu": "bench", "cpu": "bench"},
            "models": dict.fromkeys(names, model),
            "presets": {"bench": {"panel": list(MEMBERS), "judge": "judge"}},
        }
    )
