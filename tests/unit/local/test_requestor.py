"""The requestor's spans: what they are made of, and how they reach a collector."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.requestor import export_spans, requestor_span
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import Hop, Role, decode
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind
from hello_mesh.tracing.formats import otlp
from hello_mesh.tracing.span import Span, SpanKind, Status

TRACE, SPAN = "1" * 32, "2" * 16
CONTEXT = TraceContext(TRACE, SPAN, sampled=True)
RECORD = CallRecord(
    number=1,
    rpc="TalkBidirectional",
    code="OK",
    status=0,
    details="",
    start_ns=1_700_000_000_000_000_000,
    duration_ns=5_000_000,
    hops=(Hop("svc1", Role.RELAY, CONTEXT), Hop("svc;2", Role.LAST, CONTEXT, CONTEXT, "r-1")),
    verdict=Verdict(VerdictKind.CONNECTED, "connected", TRACE),
    sent_trace_id=TRACE,
    sent_span_id=SPAN,
)


@dataclass
class Collector:
    """An HTTP server that keeps the bodies of its requests."""

    address: str = ""
    status: int = 200
    requests: list[tuple[str, str | None, bytes]] = field(default_factory=list)
    """Path, content type and body."""

    @property
    def spans(self) -> list[Span]:
        """Return all spans that were received."""
        return [span for *_, body in self.requests for span in otlp.from_protobuf(body).spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Start a collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests.append((self.path, self.headers["Content-Type"], body))
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def test_the_span_of_a_call_has_the_ids_that_the_client_sent() -> None:
    span = requestor_span(RECORD)
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE, SPAN, None)
    assert (span.service, span.kind) == ("local-requestor", SpanKind.CLIENT)
    assert span.name == "org.feuyeux.grpc.LandingService/TalkBidirectional"
    assert (span.start_ns, span.duration_ns) == (RECORD.start_ns, RECORD.duration_ns)
    assert (span.status, span.status_message) == (Status.UNSET, "")


def test_the_span_of_a_call_has_the_attributes_of_an_rpc_and_the_hop_report() -> None:
    attributes = dict(requestor_span(RECORD).attributes)
    hops = attributes.pop("hello.hops")
    assert isinstance(hops, list)
    assert tuple(decode(str(hop)) for hop in hops) == RECORD.hops
    assert attributes == {
        "rpc.system": "grpc",
        "rpc.service": "org.feuyeux.grpc.LandingService",
        "rpc.method": "TalkBidirectional",
        "rpc.grpc.status_code": 0,
    }


def test_the_span_of_a_failed_call_is_an_error() -> None:
    span = requestor_span(replace(RECORD, code="UNAVAILABLE", status=14, details="down", hops=()))
    assert (span.status, span.status_message) == (Status.ERROR, "UNAVAILABLE: down")
    assert (span.attributes["rpc.grpc.status_code"], span.attributes["hello.hops"]) == (14, [])


def test_spans_are_sent_as_otlp_over_http(collector: Collector) -> None:
    export_spans([RECORD], collector.address)
    assert [request[:2] for request in collector.requests] == [("/v1/traces", "application/x-protobuf")]
    assert collector.spans == [requestor_span(RECORD)]


def test_no_calls_are_no_request(collector: Collector) -> None:
    export_spans([], collector.address)
    assert collector.requests == []


def test_many_spans_are_sent_in_bodies_that_the_collector_accepts(collector: Collector) -> None:
    hops = tuple(
        Hop(f"grpc-server-svc{number}", Role.RELAY, CONTEXT, CONTEXT, "r" * 36) for number in range(8)
    )
    records = [replace(RECORD, hops=hops, sent_span_id=f"{number:016x}") for number in range(1, 2502)]
    export_spans(records, collector.address)
    assert [span.span_id for span in collector.spans] == [record.sent_span_id for record in records]
    assert len(collector.requests) == 3
    assert max(len(body) for *_, body in collector.requests) < 4 * 1024 * 1024


def test_a_proxy_of_the_environment_is_not_used(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    export_spans([RECORD], collector.address)
    assert len(collector.spans) == 1


@pytest.mark.parametrize("status", [400, 503])
def test_a_rejection_is_an_error_with_its_status(collector: Collector, status: int) -> None:
    collector.status = status
    with pytest.raises(RuntimeEnvironmentError) as caught:
        export_spans([RECORD], collector.address)
    text = str(caught.value)
    assert text.startswith(
        f"the collector at {collector.address} does not accept spans: HTTP status {status}; "
    )


def test_an_unreachable_collector_is_an_error_with_the_reason(free_port: int) -> None:
    with pytest.raises(RuntimeEnvironmentError, match=r"does not accept spans: .*[Cc]onnection refused"):
        export_spans([RECORD], f"127.0.0.1:{free_port}")
