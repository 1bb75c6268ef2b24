from collections.abc import Sequence
from dataclasses import replace

import pytest
from making import HOPS, OTHER_TRACE, TRACE, real, span, whole

from hello_mesh.tracing.span import Origin, Span, SpanKind, Status
from hello_mesh.tracing.verdict.expect import Comparison, ExpectedSpan, MismatchKind, compare, expected_chain

EXPECTED = expected_chain(HOPS, gateway="gateway")


def without(*numbers: int) -> list[Span]:
    """Return a whole trace without some spans, counted from 1."""
    return [each for number, each in enumerate(whole(), start=1) if number not in numbers]


def detached(first: int, trace_id: str = OTHER_TRACE) -> tuple[list[Span], list[Span]]:
    """Return a whole trace in two fragments; the second starts with this span, counted from 1."""
    spans = whole()
    head, tail = spans[: first - 1], spans[first - 1 :]
    tail[0] = replace(tail[0], parent_id=None)
    return head, [replace(each, trace_id=trace_id) for each in tail]


def kinds(comparison: Comparison) -> list[tuple[MismatchKind, str | None]]:
    return [(mismatch.kind, mismatch.service) for mismatch in comparison.mismatches]


def text(comparison: Comparison) -> str:
    (mismatch,) = comparison.mismatches
    assert "\n" not in mismatch.text
    return mismatch.text


def test_a_chain_has_a_span_on_each_side_of_each_hop() -> None:
    expected: Sequence[ExpectedSpan] = [expected_chain(["a", "b"], gateway="gw", requestor="me")]
    seen = []
    while expected:
        (node,) = expected
        seen.append((node.service, set(node.kinds)))
        expected = node.children
    assert seen == [
        ("me", {SpanKind.CLIENT}),
        ("gw", set()),
        ("a", {SpanKind.SERVER}),
        ("a", {SpanKind.CLIENT}),
        ("b", {SpanKind.SERVER}),
    ]


def test_a_whole_trace_is_as_expected() -> None:
    comparison = compare(whole(), EXPECTED)
    assert (comparison.ok, comparison.complete, comparison.fragments) == (True, True, ())


@pytest.mark.parametrize("protocol", ["otlp", "zipkin"])
@pytest.mark.parametrize("name", ["whole", "aborted-at-svc3"])
def test_a_trace_of_a_real_envoy_is_as_expected(name: str, protocol: str) -> None:
    expected = expected_chain([f"grpc-server-svc{n}" for n in (1, 2, 3)], gateway="istio-ingressgateway")
    assert compare(real(name, protocol), expected).ok


def test_a_service_matches_in_full_or_without_its_namespace_only() -> None:
    full = expected_chain([f"{hop}.ns" for hop in HOPS], gateway="gateway.istio-system")
    assert compare(whole(), full).ok
    assert not compare(whole(), expected_chain(HOPS, gateway="gate")).ok


def test_the_callers_span_may_be_the_parent_of_the_expected_root() -> None:
    spans = [span("requestor", SpanKind.CLIENT, 99, at=0), *whole()]
    spans[1] = replace(spans[1], parent_id=spans[0].span_id)
    assert compare(spans, EXPECTED).ok
    assert compare(spans, expected_chain(HOPS, gateway="gateway", requestor="requestor")).ok


def test_the_name_of_a_span_can_be_expected() -> None:
    assert compare(whole()[:1], ExpectedSpan("gateway", operation="gateway*:9996/?")).ok
    assert not compare(whole()[:1], ExpectedSpan("gateway", operation="other/*")).ok


def test_a_trace_without_spans_is_reported() -> None:
    comparison = compare([], EXPECTED)
    assert kinds(comparison) == [(MismatchKind.NO_SPANS, None)]
    assert "not sampled" in text(comparison)


@pytest.mark.parametrize(
    ("origin", "headers"), [(Origin.OTLP, "traceparent"), (Origin.ZIPKIN, "the B3 headers")]
)
@pytest.mark.parametrize(("first", "hop"), [(3, "svc1"), (5, "svc2")])
def test_a_hop_that_does_not_propagate_is_named(origin: Origin, headers: str, first: int, hop: str) -> None:
    head, tail = ([replace(each, origin=origin) for each in fragment] for fragment in detached(first))
    comparison = compare(head, EXPECTED, [tail])
    assert kinds(comparison) == [(MismatchKind.NOT_FORWARDED, hop)]
    assert (
        text(comparison) == f"{hop} did not propagate {headers}: its outbound span starts a trace of its own"
    )
    assert (comparison.fragments, comparison.complete) == ((OTHER_TRACE,), True)


@pytest.mark.parametrize(("protocol", "headers"), [("otlp", "traceparent"), ("zipkin", "the B3 headers")])
def test_a_hop_with_a_real_envoy_that_does_not_propagate_is_named(protocol: str, headers: str) -> None:
    fragments: dict[str, list[Span]] = {}
    for each in real("dropped-at-svc2", protocol):
        fragments.setdefault(each.trace_id, []).append(each)
    head, tail = sorted(fragments.values(), key=len, reverse=True)
    expected = expected_chain([f"grpc-server-svc{n}" for n in (1, 2, 3)], gateway="istio-ingressgateway")
    assert text(compare(head, expected, [tail])) == (
        f"grpc-server-svc2 did not propagate {headers}: its outbound span starts a trace of its own"
    )


def test_every_hop_that_does_not_propagate_is_named() -> None:
    head, rest = detached(3)
    middle = rest[:2]
    end = [replace(each, trace_id="2" * 32) for each in detached(5)[1]]
    comparison = compare(head, EXPECTED, [end, middle])
    assert kinds(comparison) == [(MismatchKind.NOT_FORWARDED, "svc1"), (MismatchKind.NOT_FORWARDED, "svc2")]
    assert comparison.fragments == (OTHER_TRACE, "2" * 32)


def test_the_request_id_identifies_the_fragment_among_concurrent_calls() -> None:
    head, tail = detached(5)
    other = [replace(each, trace_id="3" * 32) for each in tail]
    tagged = {"guid:x-request-id": "r-1"}
    head = [replace(each, attributes=tagged) for each in head]
    tail = [replace(each, attributes=tagged) for each in tail]
    assert compare(head, EXPECTED, [other, tail]).fragments == (OTHER_TRACE,)


def test_without_a_request_id_the_fragment_within_the_hops_time_is_chosen() -> None:
    head, tail = detached(5)
    later = [
        replace(each, trace_id="3" * 32, start_ns=each.start_ns + 10**8, end_ns=each.end_ns + 10**8)
        for each in tail
    ]
    assert compare(head, EXPECTED, [later, tail]).fragments == (OTHER_TRACE,)


def test_a_trace_of_another_time_is_not_a_fragment() -> None:
    head, tail = detached(5)
    later = [replace(each, start_ns=each.start_ns + 10**9, end_ns=each.end_ns + 10**9) for each in tail]
    comparison = compare(head, EXPECTED, [later])
    assert kinds(comparison) == [(MismatchKind.MISSING, "svc2")]
    assert not comparison.complete


@pytest.mark.parametrize("gone", [1, 3, 5])
def test_a_lost_span_is_not_replaced_by_one_of_another_call(gone: int) -> None:
    other = [replace(whole()[gone - 1], trace_id=OTHER_TRACE, parent_id=None)]
    comparison = compare(without(gone), EXPECTED, [other])
    assert [kind for kind, _ in kinds(comparison)] == [MismatchKind.MISSING]
    assert comparison.fragments == ()


def test_proxies_with_different_header_families_are_named() -> None:
    head, tail = detached(4)
    comparison = compare(head, EXPECTED, [tail])
    assert kinds(comparison) == [(MismatchKind.NOT_CONTINUED, "svc2")]
    assert "W3C or B3" in text(comparison)


def test_a_gateway_that_does_not_continue_the_callers_trace_is_named() -> None:
    requestor = span("requestor", SpanKind.CLIENT, 99, at=0, ms=200)
    tail = [replace(each, trace_id=OTHER_TRACE) for each in whole()]
    comparison = compare([requestor], expected_chain(HOPS, gateway="gateway", requestor="requestor"), [tail])
    assert kinds(comparison) == [(MismatchKind.NOT_CONTINUED, "gateway")]


def test_a_hop_without_propagation_and_without_an_outbound_sidecar_is_named() -> None:
    head, tail = detached(6)
    comparison = compare(head[:-1], EXPECTED, [tail])
    assert (MismatchKind.NOT_FORWARDED, "svc2") in kinds(comparison)


def test_a_hop_without_a_sidecar_is_named() -> None:
    spans = without(4, 5)
    spans[-1] = replace(spans[-1], parent_id=spans[-2].span_id)
    comparison = compare(spans, EXPECTED)
    assert kinds(comparison) == [(MismatchKind.NO_SIDECAR, "svc2")]
    assert text(comparison).startswith(
        "svc2 has no sidecar on this path: the inbound span of svc3 is a child of"
    )


@pytest.mark.parametrize(("gone", "hop"), [(4, "svc2"), (5, "svc2"), (3, "svc1")])
def test_a_sidecar_that_is_bypassed_on_one_side_is_named(gone: int, hop: str) -> None:
    spans = whole()
    spans[gone] = replace(spans[gone], parent_id=spans[gone - 1].parent_id)
    del spans[gone - 1]
    assert kinds(compare(spans, EXPECTED)) == [(MismatchKind.NO_SIDECAR, hop)]


@pytest.mark.parametrize("gone", [2, 3, 4, 5])
def test_a_recorded_span_that_was_not_exported_is_named(gone: int) -> None:
    comparison = compare(without(gone), EXPECTED)
    assert [kind for kind, _ in kinds(comparison)] == [MismatchKind.MISSING]
    assert "not exported yet, or lost" in text(comparison)


def test_a_last_hop_without_spans_is_named() -> None:
    comparison = compare(without(6), EXPECTED)
    assert kinds(comparison) == [(MismatchKind.MISSING, "svc3")]
    assert "svc3 has no sidecar" in text(comparison)


def test_everything_missing_downstream_of_a_hop_is_one_mismatch() -> None:
    comparison = compare(whole()[:2], EXPECTED)
    assert kinds(comparison) == [(MismatchKind.MISSING, "svc1")]
    assert "4 spans of svc1, svc2, svc3: missing" in text(comparison)


def test_a_missing_gateway_is_named() -> None:
    assert kinds(compare(whole()[1:], EXPECTED)) == [(MismatchKind.MISSING, "gateway")]


def test_a_call_that_failed_on_the_path_did_not_reach_the_rest() -> None:
    spans = whole()[:5]
    spans[-1] = replace(
        spans[-1], status=Status.ERROR, attributes={"grpc.status_code": "14", "grpc.message": "no route"}
    )
    comparison = compare(spans, EXPECTED)
    assert kinds(comparison) == [(MismatchKind.NOT_REACHED, "svc3")]
    assert "the call failed earlier: svc2.ns (client) (14: no route)" in text(comparison)


def test_a_span_with_the_wrong_parent_is_named() -> None:
    spans = whole()
    spans[4] = replace(spans[4], parent_id=spans[1].span_id)
    comparison = compare(spans, EXPECTED)
    assert kinds(comparison) == [(MismatchKind.WRONG_PARENT, "svc2")]
    assert "propagated other trace headers than it received" in text(comparison)


def test_a_span_with_a_missing_parent_is_named() -> None:
    spans = whole()
    spans[4] = replace(spans[4], parent_id="f" * 16)
    assert "is a child of a missing span (ffffffffffffffff)" in text(compare(spans, EXPECTED))


def test_spans_of_the_applications_are_allowed() -> None:
    spans = whole()
    inner = [
        span("svc2", SpanKind.SERVER, 20, 4, at=4, ms=80),
        span("svc2", SpanKind.CLIENT, 21, 20, at=4, ms=80),
        span("svc3", SpanKind.SERVER, 30, 6),
        span("svc3", SpanKind.INTERNAL, 31, 30),
    ]
    spans[4] = replace(spans[4], parent_id=inner[1].span_id)
    assert compare([*spans, *inner], EXPECTED).ok


def test_a_retry_is_named_and_the_attempt_with_descendants_is_the_expected_span() -> None:
    failed = span("svc2.ns", SpanKind.SERVER, 40, 3, at=3, ms=1, status=Status.ERROR)
    comparison = compare([failed, *whole()], EXPECTED)
    assert kinds(comparison) == [(MismatchKind.EXTRA, "svc2.ns")]
    assert "a repeated call, such as a retry" in text(comparison)


def test_an_unexpected_service_is_named() -> None:
    stray = [span("db.ns", SpanKind.CLIENT, 50, 6), span("db.ns", SpanKind.SERVER, 51, 50)]
    comparison = compare([*whole(), *stray], EXPECTED)
    assert kinds(comparison) == [(MismatchKind.UNEXPECTED_SERVICE, "db.ns")]
    assert "db.ns (client), with 1 descendant: an unexpected service" in text(comparison)


def test_the_first_of_many_extra_spans_are_named_and_the_rest_counted() -> None:
    stray = [span("db", SpanKind.SERVER, 100 + n, 6, ms=1) for n in range(500)]
    comparison = compare([*whole(), *stray], EXPECTED)
    assert len(comparison.mismatches) == 11
    assert comparison.mismatches[-1].text == "and 490 more unexpected spans"


def test_the_trace_of_another_call_is_named() -> None:
    comparison = compare([span("db", SpanKind.SERVER, 1)], EXPECTED)
    assert "this trace may be of another call" in comparison.mismatches[0].text


def test_a_tree_may_branch() -> None:
    expected = ExpectedSpan(
        "a", children=(ExpectedSpan("b", children=(ExpectedSpan("d"),)), ExpectedSpan("c"))
    )
    spans = [
        span("a", SpanKind.SERVER, 1),
        span("b", SpanKind.SERVER, 2, 1),
        span("c", SpanKind.SERVER, 3, 1),
    ]
    assert compare([*spans, span("d", SpanKind.SERVER, 4, 2)], expected).ok
    assert kinds(compare(spans, expected)) == [(MismatchKind.MISSING, "d")]
    misplaced = compare([*spans, span("d", SpanKind.SERVER, 4, 3)], expected)
    assert kinds(misplaced) == [(MismatchKind.WRONG_PARENT, "d")]


def test_a_hostile_service_name_is_escaped_and_cut() -> None:
    stray = span("evil\x1b[2J\n" * 50, SpanKind.SERVER, 50, 6)
    shown = text(compare([*whole(), stray], EXPECTED))
    assert shown.isprintable()
    assert len(shown) < 300


def test_a_trace_of_ten_thousand_levels_is_compared() -> None:
    stray = [span("db", SpanKind.INTERNAL, 100 + n, 99 + n if n else 6, ms=1) for n in range(10_000)]
    comparison = compare([*whole(), *stray], EXPECTED)
    assert kinds(comparison) == [(MismatchKind.UNEXPECTED_SERVICE, "db")]
    assert TRACE not in comparison.fragments


def test_of_two_equal_attempts_the_first_is_the_expected_span() -> None:
    spans = [*whole(), span("svc3.other", SpanKind.SERVER, 60, 5, at=6, ms=1)]
    assert kinds(compare(spans, EXPECTED)) == [(MismatchKind.EXTRA, "svc3.other")]


def test_a_descendant_of_the_found_parent_is_the_expected_span() -> None:
    expected = ExpectedSpan("r", children=(ExpectedSpan("a", children=(ExpectedSpan("b"),)),))
    spans = [
        span("r", SpanKind.SERVER, 1),
        span("a", SpanKind.SERVER, 2, 1),
        span("a", SpanKind.INTERNAL, 3, 2),
        span("b", SpanKind.SERVER, 4, 3),
        span("b.other", SpanKind.SERVER, 5, 1),
        span("b.other", SpanKind.INTERNAL, 6, 5),
    ]
    assert kinds(compare(spans, expected)) == [(MismatchKind.EXTRA, "b.other")]


def test_a_fragment_may_start_earlier_if_the_clocks_differ() -> None:
    head, tail = detached(5)
    early = [replace(each, start_ns=each.start_ns - 8 * 10**7) for each in tail]
    assert compare(head, EXPECTED, [early]).fragments == (OTHER_TRACE,)
    in_time = [replace(each, trace_id="3" * 32) for each in tail]
    assert compare(head, EXPECTED, [early, in_time]).fragments == ("3" * 32,)


def test_descendants_of_an_extra_span_are_counted_and_not_named() -> None:
    names = ("db", "cache", "disk")
    stray = [span(name, SpanKind.SERVER, 50 + n, 49 + n if n else 6) for n, name in enumerate(names)]
    assert (
        text(compare([*whole(), *stray], EXPECTED))
        == "db (server), with 2 descendants: an unexpected service"
    )


def test_an_extra_span_of_another_kind_is_not_a_repeated_call() -> None:
    extra = span("svc3.ns", SpanKind.CLIENT, 60, 6)
    assert text(compare([*whole(), extra], EXPECTED)) == "svc3.ns (client): unexpected here"
