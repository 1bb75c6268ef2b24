import pytest
from making import OTHER_TRACE, real, span, whole

from hello_mesh.base.stats import percentiles
from hello_mesh.tracing.service_graph import Edge, service_graph
from hello_mesh.tracing.span import SpanKind, Status


def brief(found: tuple[Edge, ...]) -> list[tuple[str | None, str, int, int]]:
    return [(edge.caller, edge.callee, edge.calls, edge.errors) for edge in found]


def test_calls_are_counted_from_service_to_service() -> None:
    assert brief(service_graph(whole())) == [
        (None, "gateway.istio-system", 1, 0),
        ("gateway.istio-system", "svc1.ns", 1, 0),
        ("svc1.ns", "svc2.ns", 1, 0),
        ("svc2.ns", "svc3.ns", 1, 0),
    ]


@pytest.mark.parametrize("protocol", ["otlp", "zipkin"])
def test_failed_calls_of_a_real_envoy_are_counted_as_errors(protocol: str) -> None:
    found = service_graph([*real("whole", protocol), *real("aborted-at-svc3", protocol)])
    assert ("grpc-server-svc2.grpc-tracing", "grpc-server-svc3.grpc-tracing", 2, 1) in brief(found)


def test_the_duration_of_a_call_is_the_callers() -> None:
    (_, edge) = service_graph([span("a", SpanKind.CLIENT, 1, ms=50), span("b", SpanKind.SERVER, 2, 1, ms=10)])
    assert edge.milliseconds == {"p50": 50, "p90": 50, "p99": 50, "max": 50}


def test_a_call_without_a_span_of_the_callee_is_named_by_its_operation() -> None:
    lost = span("a", SpanKind.CLIENT, 1, name="b.ns:9996/*", status=Status.ERROR)
    assert brief(service_graph([lost])) == [(None, "a", 1, 1), ("a", "b.ns", 1, 1)]
    assert brief(service_graph([span("a", SpanKind.CLIENT, 1, name="GET")])) == [(None, "a", 1, 0)]


def test_traces_do_not_mix() -> None:
    found = service_graph(
        [span("a", SpanKind.CLIENT, 1), span("b", SpanKind.SERVER, 2, 1, trace_id=OTHER_TRACE)]
    )
    assert brief(found)[:2] == [(None, "a", 1, 0), (None, "b", 1, 0)]


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert percentiles([7.0]) == {"p50": 7, "p90": 7, "p99": 7, "max": 7}


def test_the_duration_of_a_call_without_a_span_of_the_caller_is_the_callees() -> None:
    (_, edge) = service_graph([span("a", SpanKind.SERVER, 1, ms=50), span("b", SpanKind.SERVER, 2, 1, ms=10)])
    assert edge.milliseconds["max"] == 10


def test_an_operation_with_the_callers_own_name_is_not_a_call() -> None:
    assert brief(service_graph([span("a", SpanKind.CLIENT, 1, name="a:9996/*")])) == [(None, "a", 1, 0)]


def test_edges_are_ordered_by_caller_and_callee() -> None:
    roots = [span(name, SpanKind.SERVER, number) for number, name in enumerate("cab", start=1)]
    assert [edge.callee for edge in service_graph(roots)] == ["a", "b", "c"]
