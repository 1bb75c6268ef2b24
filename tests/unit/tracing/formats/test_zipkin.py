import json
from typing import Any

import pytest
from making import START_NS, TRACE, real, zipkin_entry

from hello_mesh.base.errors import PayloadError
from hello_mesh.tracing.formats import zipkin
from hello_mesh.tracing.span import MAX_EVENTS, MAX_TEXT, Origin, Span, SpanKind, Status


def read(**fields: Any) -> Span:
    (span,) = zipkin.from_json(json.dumps([zipkin_entry(**fields)]).encode()).spans
    return span


def test_spans_of_a_real_envoy_are_decoded() -> None:
    spans = sorted(real("whole", "zipkin"), key=lambda each: each.start_ns)
    assert [(each.service.partition(".")[0], each.kind) for each in spans] == [
        ("istio-ingressgateway", SpanKind.CLIENT),
        ("grpc-server-svc1", SpanKind.SERVER),
        ("grpc-server-svc1", SpanKind.CLIENT),
        ("grpc-server-svc2", SpanKind.SERVER),
        ("grpc-server-svc2", SpanKind.CLIENT),
        ("grpc-server-svc3", SpanKind.SERVER),
    ]
    assert len({each.request_id for each in spans}) == len({each.trace_id for each in spans}) == 1
    assert {each.origin for each in spans} == {Origin.ZIPKIN}


def test_a_failed_call_is_decoded_as_failed() -> None:
    assert {each.status for each in real("aborted-at-svc3", "zipkin")} == {Status.ERROR}
    assert read(tags={"error": "false"}).status is Status.UNSET
    assert read(tags={"error": "no route"}).status_message == "no route"


def test_microseconds_become_nanoseconds() -> None:
    span = read(annotations=[{"timestamp": START_NS // 1000 + 5, "value": "ss"}])
    assert (span.start_ns, span.duration_ns) == (START_NS, 1_000_000)
    assert [(event.time_ns, event.name) for event in span.events] == [(START_NS + 5000, "ss")]


def test_a_short_trace_id_is_padded_and_lowercased() -> None:
    assert read(traceId=TRACE[16:].upper()).trace_id == "0" * 16 + TRACE[16:]


@pytest.mark.parametrize("parent", [None, "", "0" * 16])
def test_a_span_without_a_parent_or_with_a_parent_of_zeros_is_a_root(parent: str | None) -> None:
    assert read(parentId=parent).parent_id is None


@pytest.mark.parametrize(
    "fields",
    [
        {"traceId": ""},
        {"traceId": None},
        {"traceId": 5},
        {"traceId": "0" * 32},
        {"traceId": TRACE[1:]},
        {"traceId": "z" * 32},
        {"id": "0" * 16},
        {"id": "1"},
        {"parentId": "x"},
        {"parentId": ["x"]},
        {"timestamp": -1},
        {"timestamp": None},
        {"timestamp": 1.5},
        {"timestamp": "now"},
        {"timestamp": True},
        {"timestamp": 10**30},
        {"duration": -1},
        {"name": {}},
        {"kind": 3},
        {"tags": [1]},
        {"tags": {"a": {"b": "c"}}},
        {"localEndpoint": "svc"},
        {"localEndpoint": {"serviceName": 5}},
        {"annotations": {"a": 1}},
        {"annotations": ["ss"]},
    ],
)
def test_an_invalid_span_is_refused_with_its_number_in_the_list(fields: dict[str, Any]) -> None:
    body = json.dumps([zipkin_entry(), zipkin_entry(**fields)]).encode()
    with pytest.raises(PayloadError, match="span 1 of the list: "):
        zipkin.from_json(body)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'"spans"', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_not_a_list_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="the body is not"):
        zipkin.from_json(body)


def test_an_entry_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(PayloadError, match="span 0 of the list: it is not an object"):
        zipkin.from_json(b"[null]")


def test_long_tags_are_cut_and_an_unknown_kind_is_unspecified() -> None:
    span = read(tags={"big": "x" * 1_000_000, "surrogate": "\ud800"}, kind="SIDEWAYS", localEndpoint=None)
    assert len(str(span.attributes["big"])) == MAX_TEXT
    assert str(span.attributes["surrogate"]).encode() == b"?"
    assert (span.kind, span.service) == (SpanKind.UNSPECIFIED, "unknown_service")


def test_annotations_above_the_limit_are_counted_as_dropped() -> None:
    span = read(annotations=[{"timestamp": 1, "value": "ss"}] * (MAX_EVENTS + 2))
    assert (len(span.events), span.dropped) == (MAX_EVENTS, 2)
