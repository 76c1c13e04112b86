"""Spans to an OpenTelemetry receiver. The one module that needs the extra ``otel``."""

import time

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from localfusion import __version__
from localfusion.events import Event, RunStarted
from localfusion.telemetry.runs import ENDS, TOKENS
from localfusion.telemetry.spans import ERROR_TYPE, SCHEMA, Span, spans_of

SEND_SECONDS = 5.0
"""For one batch; what cannot be sent in this time is dropped, and said in the log."""


class _RunIds(RandomIdGenerator):
    """A trace has its run's id, which the client knows from ``x-localfusion-trace``."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id


class Spans:
    """Collects each run's events, and makes its spans when it has ended: an observer of Fusion.

    Args:
        processor: Takes the spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        self._ids = _RunIds()
        resource = Resource.create({"service.name": "localfusion", "service.version": __version__})
        # Its own, not the process's: whoever imports localfusion may have another one.
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("localfusion", __version__, schema_url=SCHEMA)
        self._going: dict[str, tuple[int, list[Event]]] = {}

    def __call__(self, event: Event) -> None:
        if type(event) in TOKENS:
            return
        if isinstance(event, RunStarted):
            self._going[event.run_id] = (time.time_ns(), [])
        began, events = self._going[event.run_id]
        events.append(event)
        if isinstance(event, ENDS):
            del self._going[event.run_id]
            self._ids.trace_id = int(event.run_id, 16)
            self._send(began, *spans_of(events))

    def close(self) -> None:
        """Send what waits; blocks, for ``SEND_SECONDS`` or so at most."""
        self._provider.shutdown()

    def _send(self, began: int, run: Span, *calls: Span) -> None:
        root = self._start(began, run, SpanKind.INTERNAL)
        parent = set_span_in_context(root)
        for call in calls:
            self._start(began, call, SpanKind.CLIENT, parent).end(_at(began, call.ended))
        root.end(_at(began, run.ended))

    def _start(
        self, began: int, span: Span, kind: SpanKind, parent: Context | None = None
    ) -> OtelSpan:
        attributes, error = dict(span.attributes), span.error
        if error is not None:
            attributes[ERROR_TYPE] = error
        made = self._tracer.start_span(
            span.name, parent, kind, attributes, start_time=_at(began, span.began)
        )
        if error is not None:
            made.set_status(Status(StatusCode.ERROR))  # its words may quote an answer
        return made


def spans_to(url: str) -> Spans:
    """Send spans to an OTLP receiver, in batches, from a thread of its own."""
    session = requests.Session()
    session.trust_env = False  # no proxy of the environment stands between us and the address
    exporter = OTLPSpanExporter(endpoint=url, timeout=SEND_SECONDS, session=session)
    return Spans(BatchSpanProcessor(exporter))


def _at(began: int, seconds: float) -> int:
    """Return a time of a run in nanoseconds since 1970."""
    return began + round(seconds * 1e9)
