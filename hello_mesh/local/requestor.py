"""The requestor's spans, one for each call: made from the call records and sent to the mesh's collector."""

import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from urllib.error import HTTPError, URLError

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.base.extras import extra
from hello_mesh.net.rpc import LANDING_SERVICE
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import encode
from hello_mesh.tracing.span import Span, SpanKind, Status

REQUESTOR = "local-requestor"
"""The service of the requestor's spans."""

# A span with eight hop reports is about 2 KiB; the collector accepts bodies of up to 4 MiB.
_BATCH_SPANS = 1_000

_TIMEOUT_SECONDS = 10.0


def requestor_span(record: CallRecord) -> Span:
    """Return the span of a call: the root of its trace, with the hop report as an attribute.

    The client must have started the trace: the span has the ids that the client sent.
    """
    assert record.sent_trace_id is not None
    assert record.sent_span_id is not None
    failed = record.status != 0
    return Span(
        trace_id=record.sent_trace_id,
        span_id=record.sent_span_id,
        parent_id=None,
        name=f"{LANDING_SERVICE.full_name}/{record.rpc}",
        kind=SpanKind.CLIENT,
        service=REQUESTOR,
        start_ns=record.start_ns,
        end_ns=record.start_ns + record.duration_ns,
        status=Status.ERROR if failed else Status.UNSET,
        status_message=f"{record.code}: {record.details}" if failed else "",
        attributes={
            "rpc.system": "grpc",
            "rpc.service": LANDING_SERVICE.full_name,
            "rpc.method": record.rpc,
            "rpc.grpc.status_code": record.status,
            "hello.hops": [encode(hop) for hop in record.hops],
        },
    )


def export_spans(records: Sequence[CallRecord], collector: str) -> None:
    """Send the spans of all calls.

    Args:
        records: the calls.
        collector: `host:port` of a collector that accepts OTLP over HTTP.

    Raises:
        RuntimeEnvironmentError: the collector does not accept the spans.
    """
    with extra("mesh"):
        from hello_mesh.tracing.formats import otlp
    # A proxy from the environment is for the web, not for the collector.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for first in range(0, len(records), _BATCH_SPANS):
        spans = [requestor_span(record) for record in records[first : first + _BATCH_SPANS]]
        request = urllib.request.Request(
            f"http://{collector}{otlp.OTLP_PATH}",
            data=otlp.to_protobuf(spans).SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )
        try:
            opener.open(request, timeout=_TIMEOUT_SECONDS).close()
        except (OSError, HTTPException) as error:
            raise RuntimeEnvironmentError(
                f"the collector at {collector} does not accept spans: {_reason(error)};"
                " check its log with hello-grpc-mesh logs collector"
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
        return f"HTTP status {error.code}"
    return str(error.reason if isinstance(error, URLError) else error)
