"""Spans on their way out: by the SDK, to a real OTLP receiver on loopback, and to nobody."""

import asyncio
import builtins
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from localfusion.config import Settings, TelemetrySettings
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import ConfigError
from localfusion.fusion import Fusion
from localfusion.telemetry import Telemetry
from localfusion.telemetry.otel import Spans
from localfusion.types import Answer, Message, Request
from tests.server.system import gateway

QUESTION = Message("user", "canaryprompt")


async def ask(spans: Spans, **engines: SimEngine) -> Answer:
    system = gateway(engines=engines)
    presets = system.settings.presets
    fusion = Fusion(system.engines, presets, default_preset="trio", observers=[spans])
    return await fusion.complete(Request("trio", (QUESTION,)))


async def test_trace_has_the_runs_id_and_its_calls_are_children() -> None:
    memory = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(memory))
    answers = [await ask(spans) for _ in range(2)]
    spans.close()

    traces: dict[str, list[str]] = {}
    for span in memory.get_finished_spans():
        assert span.context is not None
        traces.setdefault(f"{span.context.trace_id:032x}", []).append(span.name)
    assert set(traces) == {answer.run_id for answer in answers}
    assert sorted(traces[answers[0].run_id]) == [
        *("chat a", "chat b", "chat c"),
        *("chat d", "chat d", "invoke_workflow trio"),
    ]
    (root,) = [s for s in memory.get_finished_spans()[:6] if s.parent is None]
    assert root.kind is SpanKind.INTERNAL
    assert root.context is not None
    for call in memory.get_finished_spans()[:5]:
        assert call.kind is SpanKind.CLIENT
        assert call.parent is not None
        assert call.parent.span_id == root.context.span_id
        assert root.start_time is not None
        assert call.start_time is not None
        assert root.start_time <= call.start_time


@pytest.mark.threat(8)
async def test_failure_is_a_code_and_never_its_words() -> None:
    memory = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(memory))
    failing = SimEngine("canaryanswer " * 9, failure=SimFailure("error_event", at_token=3))
    answer = await ask(spans, a=failing)
    spans.close()

    (failed,) = [s for s in memory.get_finished_spans() if not s.status.is_ok]
    assert failed.name == "chat a"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description is None
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == answer.candidates[0].failure_reason
    assert not any("canary" in span.to_json() for span in memory.get_finished_spans())


class Receiver(ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def names(self) -> list[str]:
        """Of all spans that have come."""
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += [span.name for span in scope.spans]
        return found


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings(endpoint: str | None) -> Settings:
    telemetry = TelemetrySettings(otel_endpoint=endpoint)
    return gateway().settings.model_copy(update={"telemetry": telemetry})


async def run_once(telemetry: Telemetry) -> None:
    system = gateway(d=SimEngine("canaryanswer"))
    presets = system.settings.presets
    fusion = Fusion(system.engines, presets, default_preset="trio", observers=telemetry.observers)
    await fusion.complete(Request("trio", (QUESTION,)))


@pytest.mark.threat(8)
async def test_receiver_gets_every_span_and_no_content(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy of the environment must not get what is meant for loopback.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    telemetry = Telemetry(settings(receiver.url))
    await run_once(telemetry)
    await telemetry.close()

    assert set(receiver.paths) == {"/v1/traces"}
    assert sorted(receiver.names) == [
        *("chat a", "chat b", "chat c"),
        *("chat d", "chat d", "invoke_workflow trio"),
    ]
    assert b"localfusion" in b"".join(receiver.bodies)
    assert b"canary" not in b"".join(receiver.bodies)


async def test_receiver_that_is_gone_costs_a_run_nothing(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    url = receiver.url
    receiver.server_close()
    telemetry = Telemetry(settings(url))
    await run_once(telemetry)
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        await telemetry.close()

    assert b'status="full"} 1.0' in await telemetry.page()
    assert "canary" not in caplog.text


async def test_nobody_is_told_unless_it_is_wanted() -> None:
    threads = threading.active_count()

    telemetry = Telemetry(settings(None))

    assert len(telemetry.observers) == 1
    assert threading.active_count() == threads
    await telemetry.close()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def without(name: str, *args: object, **more: object) -> object:
        if name == "localfusion.telemetry.otel":
            raise ModuleNotFoundError("no", name="opentelemetry.sdk")
        return find(name, *args, **more)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(builtins, "__import__", without)

    async def build() -> None:
        Telemetry(settings("http://127.0.0.1:1"))

    with pytest.raises(
        ConfigError, match=r"opentelemetry\.sdk is not installed.*localfusion\[otel"
    ):
        asyncio.run(build())


@pytest.mark.parametrize(
    ("endpoint", "traces"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://localhost:4318/", "https://localhost:4318/v1/traces"),
        ("http://[::1]:4318/below", "http://[::1]:4318/below/v1/traces"),
    ],
)
def test_addresses_of_this_machine_are_taken(endpoint: str, traces: str) -> None:
    assert TelemetrySettings(otel_endpoint=endpoint).traces_url == traces


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://collector:4318",
        "http://10.0.0.1:4318",
        "http://0.0.0.0:4318",
        "http://127.0.0.1.elsewhere.example:4318",
        "http://127.0.0.1@elsewhere.example:4318",
        "http://localhost.example",
        "http://[::1",
        "ftp://127.0.0.1",
        "127.0.0.1:4318",
        "http://127.0.0.1:4318?x",
    ],
)
def test_addresses_elsewhere_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"allow_remote: true|should match pattern"):
        TelemetrySettings(otel_endpoint=endpoint)


def test_other_machines_are_told_where_that_is_wanted() -> None:
    endpoint = "https://collector.example:4318"

    telemetry = TelemetrySettings(otel_endpoint=endpoint, allow_remote=True)

    assert telemetry.traces_url == f"{endpoint}/v1/traces"
