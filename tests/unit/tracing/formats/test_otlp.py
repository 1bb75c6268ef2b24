import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from making import START_NS, TRACE, message, real, request, span, whole
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from hello_mesh.base.errors import PayloadError
from hello_mesh.tracing.formats import otlp
from hello_mesh.tracing.span import (
    MAX_ATTRIBUTES,
    MAX_EVENTS,
    MAX_TEXT,
    Event,
    Origin,
    Span,
    SpanKind,
    Status,
)


def attribute(key: str, **value: Any) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(**value))


def json_request(**fields: Any) -> dict[str, Any]:
    entry = {
        "traceId": TRACE,
        "spanId": "00f067aa0ba902b7",
        "name": "a call",
        "kind": 3,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1),
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "svc1"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [entry | fields]}]}]}


def test_spans_of_a_real_envoy_are_decoded() -> None:
    spans = sorted(real("whole", "otlp"), key=lambda each: each.start_ns)
    assert [(each.service, each.kind) for each in spans] == [
        ("istio-ingressgateway.istio-system", SpanKind.CLIENT),
        ("grpc-server-svc1.grpc-tracing", SpanKind.SERVER),
        ("grpc-server-svc1.grpc-tracing", SpanKind.CLIENT),
        ("grpc-server-svc2.grpc-tracing", SpanKind.SERVER),
        ("grpc-server-svc2.grpc-tracing", SpanKind.CLIENT),
        ("grpc-server-svc3.grpc-tracing", SpanKind.SERVER),
    ]
    assert spans[0].name == "grpc-server-svc1.grpc-tracing:9999/*"
    assert len({each.request_id for each in spans}) == len({each.trace_id for each in spans}) == 1
    assert {each.origin for each in spans} == {Origin.OTLP}


def test_a_failed_call_is_decoded_as_failed() -> None:
    assert {each.status for each in real("aborted-at-svc3", "otlp")} == {Status.ERROR}


@pytest.mark.parametrize("field", ["trace_id", "span_id"])
@pytest.mark.parametrize("value", [b"", b"\0" * 16, b"\0" * 8, b"\x01" * 7, b"\x01" * 17])
def test_a_span_with_an_invalid_id_is_rejected_and_the_others_are_kept(field: str, value: bytes) -> None:
    batch = otlp.from_protobuf(request(message(), message(**{field: value}), message()))
    assert (len(batch.spans), batch.rejected) == (2, 1)
    assert "hex digits" in batch.reason


@pytest.mark.parametrize("parent", [b"", b"\0" * 8])
def test_a_span_without_a_parent_or_with_a_parent_of_zeros_is_a_root(parent: bytes) -> None:
    (read,) = otlp.from_protobuf(request(message(parent_span_id=parent))).spans
    assert read.parent_id is None


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (0, START_NS), (START_NS, START_NS - 1), (2**64 - 1, 2**64 - 1), (1, 2**63)]
)
def test_invalid_times_are_rejected(start: int, end: int) -> None:
    batch = otlp.from_protobuf(request(message(start_time_unix_nano=start, end_time_unix_nano=end)))
    assert (batch.spans, batch.rejected) == ((), 1)


def test_an_unknown_kind_and_status_are_unspecified() -> None:
    odd = message(kind=77, status=trace_pb2.Status(code=9))  # type: ignore[arg-type]
    (read,) = otlp.from_protobuf(request(odd)).spans
    assert (read.kind, read.status, read.service) == (SpanKind.UNSPECIFIED, Status.UNSET, "unknown_service")


def test_long_attributes_are_cut_and_dropped_ones_are_counted() -> None:
    many = [attribute(f"key {number}", int_value=number) for number in range(500)]
    huge = attribute("k" * 10_000, string_value="v" * 1_000_000)
    (read,) = otlp.from_protobuf(request(message(attributes=[huge, *many]))).spans
    assert len(read.attributes) == MAX_ATTRIBUTES
    assert read.dropped == 501 - MAX_ATTRIBUTES
    assert max(map(len, read.attributes)) < 1000
    assert len(str(next(iter(read.attributes.values())))) == MAX_TEXT


def test_every_type_of_value_is_kept_in_a_form_of_json() -> None:
    values = [
        attribute("text", string_value="naïve"),
        attribute("yes", bool_value=True),
        attribute("number", int_value=-(2**63)),
        attribute("half", double_value=0.5),
        attribute("not a number", double_value=math.nan),
        attribute("bytes", bytes_value=b"\xff"),
        attribute(
            "list", array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(double_value=math.inf)])
        ),
        attribute("nothing"),
    ]
    (read,) = otlp.from_protobuf(request(message(attributes=values))).spans
    assert read.attributes == {
        "text": "naïve",
        "yes": True,
        "number": -(2**63),
        "half": 0.5,
        "not a number": "nan",
        "bytes": "/w==",
        "list": [1, "Infinity"],
        "nothing": "",
    }


@pytest.mark.parametrize(("depth", "kept"), [(7, True), (8, False), (30, False)])
def test_deep_values_are_cut(depth: int, *, kept: bool) -> None:
    value = AnyValue(string_value="deep")
    for _ in range(depth):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    (read,) = otlp.from_protobuf(request(message(attributes=[KeyValue(key="deep", value=value)]))).spans
    assert ("deep" in str(read.attributes["deep"])) == kept


def test_events_above_the_limit_are_counted_as_dropped() -> None:
    events = [trace_pb2.Span.Event(time_unix_nano=2**64 - 1, name="e")] * (MAX_EVENTS + 2)
    (read,) = otlp.from_protobuf(request(message(events=events, dropped_attributes_count=3))).spans
    assert (len(read.events), read.dropped) == (MAX_EVENTS, 5)
    assert read.events[0].time_ns == 2**63 - 1


def test_the_reason_is_that_of_the_first_rejected_span() -> None:
    batch = otlp.from_protobuf(request(message(trace_id=b"\x01"), message(span_id=b"\x01")))
    assert (batch.rejected, batch.reason.startswith("invalid trace id")) == (2, True)


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff\xff\xff\x0f", request(message())[:-3]])
def test_truncated_protobuf_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="not an ExportTraceServiceRequest"):
        otlp.from_protobuf(body)


def test_an_empty_body_is_an_empty_request() -> None:
    assert otlp.from_protobuf(b"").spans == ()


def test_ids_in_json_are_hex() -> None:
    (read,) = otlp.from_json(json.dumps(json_request(parentSpanId="00F067AA0BA902B8")).encode()).spans
    assert (read.trace_id, read.span_id, read.parent_id) == (TRACE, "00f067aa0ba902b7", "00f067aa0ba902b8")
    assert (read.service, read.kind) == ("svc1", SpanKind.CLIENT)


def test_unknown_fields_in_json_are_ignored() -> None:
    assert otlp.from_json(json.dumps(json_request(tomorrow={"traceId": 5})).encode()).spans


@pytest.mark.parametrize("wrong", ["zz", "abc", 5, None, ["0"], "0af7651916cd43dd", "/" * 32])
def test_json_with_an_invalid_trace_id_is_rejected(wrong: Any) -> None:
    batch = otlp.from_json(json.dumps(json_request(traceId=wrong)).encode())
    assert (batch.spans, batch.rejected) == ((), 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"resourceSpans": 5}',
        b'{"resourceSpans": [5]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(json_request(name=5)).encode(),
        json.dumps(json_request(startTimeUnixNano="soon")).encode(),
        json.dumps(json_request(startTimeUnixNano=-1)).encode(),
        json.dumps(json_request(attributes={"key": "value"})).encode(),
    ],
)
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="the body is not"):
        otlp.from_json(body)


def test_lone_surrogates_are_replaced_or_refused() -> None:
    body = json.dumps(json_request(name="\ud800", traceState="\udfff"))
    try:
        batch = otlp.from_json(body.encode())
    except PayloadError:
        return
    assert all(each.name.encode() for each in batch.spans)


def detailed() -> Span:
    """Return a span with a value in every field that OTLP can hold."""
    return span(
        "svc1.ns",
        SpanKind.PRODUCER,
        7,
        3,
        status=Status.ERROR,
        status_message="no",
        attributes={"a": [1, {"b": True}], "c": 0.5, "d": "e"},
        resource={"k8s.pod.name": "pod-1"},
        events=(Event(START_NS, "retry", {"n": 1}),),
        trace_state="a=b",
        dropped=3,
    )


def test_spans_are_the_same_after_encoding_and_decoding() -> None:
    spans = (*whole(), detailed())
    decoded = otlp.from_protobuf(otlp.to_protobuf(spans).SerializeToString()).spans
    assert {each.span_id: each for each in decoded} == {each.span_id: each for each in spans}


def test_spans_are_the_same_after_encoding_and_decoding_as_json() -> None:
    spans = (*whole(), detailed())
    decoded = {each.span_id: each for each in otlp.from_json(otlp.to_json(spans).encode()).spans}
    assert decoded == {each.span_id: each for each in spans}


def test_json_has_hex_ids_and_numbers_for_enums_on_one_line() -> None:
    line = otlp.to_json([detailed()])
    assert len(line.splitlines()) == 1
    (resource_spans,) = json.loads(line)["resourceSpans"]
    (scope_spans,) = resource_spans["scopeSpans"]
    (encoded,) = scope_spans["spans"]
    assert {key: encoded[key] for key in ("traceId", "spanId", "parentSpanId")} == {
        "traceId": TRACE,
        "spanId": f"{7:016x}",
        "parentSpanId": f"{3:016x}",
    }
    assert (encoded["kind"], encoded["status"]) == (4, {"code": 2, "message": "no"})
    assert encoded["startTimeUnixNano"] == str(START_NS + 7_000_000)


def test_each_sender_has_one_resource() -> None:
    exported = MessageToDict(otlp.to_protobuf(whole()))
    assert len(exported["resourceSpans"]) == 4
