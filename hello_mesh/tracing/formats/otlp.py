"""OTLP, the protocol of OpenTelemetry: decode spans from protobuf and JSON, and encode them."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from hello_mesh.base.errors import PayloadError, SpanError
from hello_mesh.base.text import excerpt, json_line
from hello_mesh.tracing.formats.batch import Batch, parse_json
from hello_mesh.tracing.span import (
    MAX_EVENTS,
    UNKNOWN_SERVICE,
    Event,
    Origin,
    Span,
    SpanKind,
    Status,
    Value,
    bounded_attributes,
    bounded_text,
)

TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
EXPORT_METHOD = "Export"
OTLP_PATH = "/v1/traces"

_OTLP_KINDS = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: SpanKind.INTERNAL,
    trace_pb2.Span.SPAN_KIND_SERVER: SpanKind.SERVER,
    trace_pb2.Span.SPAN_KIND_CLIENT: SpanKind.CLIENT,
    trace_pb2.Span.SPAN_KIND_PRODUCER: SpanKind.PRODUCER,
    trace_pb2.Span.SPAN_KIND_CONSUMER: SpanKind.CONSUMER,
}
_OTLP_KIND_NUMBERS = {kind: number for number, kind in _OTLP_KINDS.items()}
_STATUSES = {
    trace_pb2.Status.STATUS_CODE_OK: Status.OK,
    trace_pb2.Status.STATUS_CODE_ERROR: Status.ERROR,
}
_STATUS_NUMBERS = {status: number for number, status in _STATUSES.items()}

_ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
_DEEPEST_VALUE = 8


def from_protobuf(body: bytes) -> Batch:
    """Return the spans of a serialized ExportTraceServiceRequest.

    Raises:
        PayloadError: the body is not one.
    """
    try:
        return _batch(ExportTraceServiceRequest.FromString(body))
    except DecodeError as error:
        raise PayloadError("the body is not an ExportTraceServiceRequest in protobuf") from error


def from_json(body: bytes) -> Batch:
    """Return the spans of an ExportTraceServiceRequest in OTLP/JSON, where ids are hex.

    Raises:
        PayloadError: the body is not one.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise PayloadError("the body is not an ExportTraceServiceRequest in JSON: it is not an object")
    try:
        _rewrite_ids(document, _hex_to_base64)
        return _batch(ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True))
    except (ParseError, RecursionError, ValueError) as error:
        # The text of ParseError quotes the body.
        raise PayloadError(
            f"the body is not an ExportTraceServiceRequest in JSON: {excerpt(str(error), 200)}"
        ) from error


def to_protobuf(spans: Iterable[Span]) -> ExportTraceServiceRequest:
    """Return the request that exports `spans`, with one resource per sender."""
    request = ExportTraceServiceRequest()
    ordered = sorted(((_resource_key(span), span) for span in spans), key=lambda pair: pair[0])
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        members = [span for _, span in group]
        resource = request.resource_spans.add()
        name = {"service.name": members[0].service}
        resource.resource.attributes.extend(_key_values(name | dict(members[0].resource)))
        resource.scope_spans.add().spans.extend(_to_message(span) for span in members)
    return request


def to_json(spans: Iterable[Span]) -> str:
    """Return the request that exports `spans` in OTLP/JSON, on one line."""
    # OTLP/JSON allows no names of enum values, only their numbers.
    document = MessageToDict(to_protobuf(spans), use_integers_for_enums=True)
    _rewrite_ids(document, lambda value: base64.b64decode(value).hex())
    return json_line(document)


def _batch(request: ExportTraceServiceRequest) -> Batch:
    spans: list[Span] = []
    reasons: list[str] = []
    for resource_spans in request.resource_spans:
        resource, _ = bounded_attributes(_pairs(resource_spans.resource.attributes))
        service = bounded_text(str(resource.pop("service.name", "") or UNKNOWN_SERVICE))
        for scope_spans in resource_spans.scope_spans:
            for message in scope_spans.spans:
                try:
                    spans.append(_from_message(message, service, resource))
                except SpanError as error:
                    reasons.append(str(error))
    return Batch(tuple(spans), len(reasons), reasons[0] if reasons else "")


def _from_message(message: trace_pb2.Span, service: str, resource: Mapping[str, Value]) -> Span:
    attributes, dropped = bounded_attributes(_pairs(message.attributes))
    parent = message.parent_span_id.hex()
    return Span(
        trace_id=message.trace_id.hex(),
        span_id=message.span_id.hex(),
        parent_id=None if parent in ("", "0" * 16) else parent,  # some exporters write zeros for a root
        name=bounded_text(message.name),
        kind=_OTLP_KINDS.get(message.kind, SpanKind.UNSPECIFIED),
        service=service,
        start_ns=message.start_time_unix_nano,
        end_ns=message.end_time_unix_nano,
        status=_STATUSES.get(message.status.code, Status.UNSET),
        status_message=bounded_text(message.status.message),
        attributes=attributes,
        resource=resource,
        events=tuple(_otlp_event(event) for event in message.events[:MAX_EVENTS]),
        trace_state=bounded_text(message.trace_state),
        dropped=dropped + message.dropped_attributes_count + max(0, len(message.events) - MAX_EVENTS),
        origin=Origin.OTLP,
    )


def _otlp_event(event: trace_pb2.Span.Event) -> Event:
    attributes, _ = bounded_attributes(_pairs(event.attributes))
    return Event(min(event.time_unix_nano, 2**63 - 1), bounded_text(event.name), attributes)


def _pairs(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, Value]]:
    return ((pair.key, _value(pair.value)) for pair in attributes)


def _value(message: AnyValue, depth: int = 0) -> Value:
    which = message.WhichOneof("value")
    if which is None or depth == _DEEPEST_VALUE:
        return "" if which is None else "…"
    if which == "array_value":
        return [_value(item, depth + 1) for item in message.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in message.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(message.bytes_value).decode("ascii")
    value = getattr(message, which)
    return value if isinstance(value, str | bool | int | float) else str(value)


def _rewrite_ids(document: Any, rewrite: Callable[[Any], str]) -> None:
    """Rewrite the ids in place: OTLP/JSON writes hex, and protobuf's own JSON base64."""
    pending = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for key in _ID_KEYS & node.keys():
                node[key] = rewrite(node[key])
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _hex_to_base64(value: Any) -> str:
    return base64.b64encode(_id_bytes(value)).decode("ascii")


def _id_bytes(value: Any) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        return b"\0"  # an invalid length: only this span of the request is rejected


def _resource_key(span: Span) -> tuple[str, str]:
    return span.service, json.dumps(span.resource, sort_keys=True)


def _to_message(span: Span) -> trace_pb2.Span:
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id or ""),
        trace_state=span.trace_state,
        name=span.name,
        kind=_OTLP_KIND_NUMBERS.get(span.kind, trace_pb2.Span.SPAN_KIND_UNSPECIFIED),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_key_values(span.attributes),
        dropped_attributes_count=span.dropped,
        events=[
            trace_pb2.Span.Event(
                time_unix_nano=event.time_ns, name=event.name, attributes=_key_values(event.attributes)
            )
            for event in span.events
        ],
        status=trace_pb2.Status(
            code=_STATUS_NUMBERS.get(span.status, trace_pb2.Status.STATUS_CODE_UNSET),
            message=span.status_message,
        ),
    )


def _key_values(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: Value) -> AnyValue:
    message = AnyValue()
    if isinstance(value, bool):  # before int, its base class
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, list):
        message.array_value.values.extend(_any_value(item) for item in value)
    else:
        message.kvlist_value.values.extend(_key_values(value))
    return message
