"""Spans for tests, with valid defaults in every field that a test does not set."""

from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from hello_mesh.tracing.formats import otlp, zipkin
from hello_mesh.tracing.span import Span, SpanKind

PAYLOADS = Path(__file__).with_name("payloads")
TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER_TRACE = "1bf7651916cd43dd8448eb211c80319c"
START_NS = 1_795_000_000_000_000_000
HOPS = ("svc1", "svc2", "svc3")


def span(service: str, kind: SpanKind, number: int, parent: int | None = None, **rest: Any) -> Span:
    """Return a span with `number` as its id, which starts `at` ms after START_NS and takes `ms`."""
    at, ms = rest.pop("at", number), rest.pop("ms", max(1, 100 - 2 * number))
    start_ns = START_NS + at * 1_000_000
    values: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_id": None if parent is None else f"{parent:016x}",
        "name": f"{service}:9996/*",
        "kind": kind,
        "service": service,
        "start_ns": start_ns,
        "end_ns": start_ns + ms * 1_000_000,
    }
    return Span(**(values | rest))


def whole() -> list[Span]:
    """Return the spans of a call through a gateway and three hops, each with its sidecar."""
    return [
        span("gateway.istio-system", SpanKind.CLIENT, 1),
        span("svc1.ns", SpanKind.SERVER, 2, 1),
        span("svc1.ns", SpanKind.CLIENT, 3, 2),
        span("svc2.ns", SpanKind.SERVER, 4, 3),
        span("svc2.ns", SpanKind.CLIENT, 5, 4),
        span("svc3.ns", SpanKind.SERVER, 6, 5),
    ]


def real(name: str, protocol: str) -> tuple[Span, ...]:
    """Return the spans that a real Envoy exported in a scenario; `protocol` is otlp or zipkin."""
    if protocol == "otlp":
        return otlp.from_protobuf((PAYLOADS / f"envoy-{name}.otlp.binpb").read_bytes()).spans
    return zipkin.from_json((PAYLOADS / f"envoy-{name}.zipkin.json").read_bytes()).spans


def message(**fields: Any) -> trace_pb2.Span:
    """Return a span in OTLP's protobuf, valid except for `fields`."""
    values: dict[str, Any] = {
        "trace_id": bytes.fromhex(TRACE),
        "span_id": bytes.fromhex("00f067aa0ba902b7"),
        "name": "a call",
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 1_000_000,
    }
    return trace_pb2.Span(**(values | fields))


def request(*spans: trace_pb2.Span) -> bytes:
    """Return a serialized request that exports `spans`."""
    exported = ExportTraceServiceRequest()
    exported.resource_spans.add().scope_spans.add().spans.extend(spans)
    return exported.SerializeToString()


def zipkin_entry(**fields: Any) -> dict[str, Any]:
    """Return a span in Zipkin's JSON, valid except for `fields`."""
    values: dict[str, Any] = {
        "traceId": TRACE,
        "id": "00f067aa0ba902b7",
        "name": "a call",
        "kind": "CLIENT",
        "timestamp": START_NS // 1000,
        "duration": 1000,
        "localEndpoint": {"serviceName": "svc1.ns"},
        "tags": {"http.method": "POST"},
    }
    return values | fields
