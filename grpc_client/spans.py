"""The client's own spans, one for each call that it began a trace with: where the tree of a call is rooted.

They go to a collector in OTLP over gRPC, behind the calls' back: a collector that
is away costs a call nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.net.channel import open_channel
from hello_mesh.net.rpc import LANDING_SERVICE
from hello_mesh.propagation.trace_context import TraceContext

SERVICE_NAME = "local-requestor"

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_DEFAULT_PORT = 4317

_PAUSE_SECONDS = 0.2
_TIMEOUT_SECONDS = 3.0
# Of spans that wait for a slow collector, so many are kept.
_MOST_WAITING = 100_000
_MOST_IN_REQUEST = 2_000


@dataclass(frozen=True)
class Endpoint:
    """A collector."""

    target: str
    secure: bool


@dataclass(frozen=True)
class CallSpan:
    """One call as its caller saw it."""

    context: TraceContext
    """Of the span itself: what the call's headers name."""
    rpc: str
    start_ns: int
    end_ns: int
    code: grpc.StatusCode
    details: str


def parse_endpoint(url: str) -> Endpoint:
    """Reads the address of a collector as `OTEL_EXPORTER_OTLP_ENDPOINT` writes it.

    Raises:
        UsageError: where it is none.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in {"http", "https"}:
        raise UsageError(f"{excerpt(url, 80)!r} is no collector: write http://HOST:PORT, or https:// for TLS")
    return Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme == "https")


class Sender:
    """Takes spans and sends them on, some at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # The response says nothing that is of use here.
        self._export: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_EXPORT)
        self._waiting: list[CallSpan] = []
        self._lost = 0
        self._problem = ""
        self._closed = asyncio.Event()

    def add(self, span: CallSpan) -> None:
        """Takes a span; at once."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(span)
        else:
            self._lost += 1

    def close(self) -> None:
        """Says that no more spans come."""
        self._closed.set()

    async def work(self) -> None:
        """Sends what is there every now and then, and the rest when no more spans come."""
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _PAUSE_SECONDS)
            if not self._closed.is_set():
                await self._flush()
        await self._flush()

    async def _flush(self) -> None:
        """Sends all that is there. What the collector does not take waits for the next time."""
        while self._waiting:
            some = self._waiting[:_MOST_IN_REQUEST]
            try:
                await self._export(request(some).SerializeToString(), timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                self._problem = f"{error.code().name}: {error.details()}"
                return
            del self._waiting[: len(some)]

    def complaint(self) -> str:
        """What became of the spans that are lost, in a line; "" where none is."""
        lost = self._lost + len(self._waiting)
        why = f"the collector says {excerpt(self._problem, 200)}" if self._problem else "too many at once"
        return f"lost spans: {lost}; {why}" if lost else ""


@asynccontextmanager
async def sending(url: str, on_problem: Callable[[str], None]) -> AsyncIterator[Sender]:
    """Sends spans to the collector at `url` until the context ends, and what is left then.

    Args:
        url: the collector.
        on_problem: called at the end with a line of text, where spans were lost.
    """
    async with _open(parse_endpoint(url)) as channel:
        sender = Sender(channel)
        worker = asyncio.create_task(sender.work())
        try:
            yield sender
        finally:
            sender.close()
            await worker
            if complaint := sender.complaint():
                on_problem(complaint)


def request(spans: Sequence[CallSpan]) -> ExportTraceServiceRequest:
    """The request that exports them."""
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    resource_spans.resource.attributes.append(_pair("service.name", SERVICE_NAME))
    resource_spans.scope_spans.add().spans.extend(_message(span) for span in spans)
    return message


def _message(span: CallSpan) -> trace_pb2.Span:
    number: int = span.code.value[0]
    failed = span.code is not grpc.StatusCode.OK
    status = trace_pb2.Status.STATUS_CODE_ERROR if failed else trace_pb2.Status.STATUS_CODE_UNSET
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.context.trace_id),
        span_id=bytes.fromhex(span.context.span_id),
        name=f"{LANDING_SERVICE.full_name}/{span.rpc}",
        kind=trace_pb2.Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=[
            _pair("rpc.system", "grpc"),
            _pair("rpc.service", LANDING_SERVICE.full_name),
            _pair("rpc.method", span.rpc),
            _pair("rpc.grpc.status_code", number),
        ],
        status=trace_pb2.Status(code=status, message=f"{span.code.name}: {span.details}" if failed else ""),
    )


def _pair(key: str, value: str | int) -> KeyValue:
    any_value = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    return KeyValue(key=key, value=any_value)


def _open(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.secure:
        return grpc.aio.secure_channel(endpoint.target, grpc.ssl_channel_credentials())
    return open_channel(endpoint.target)
