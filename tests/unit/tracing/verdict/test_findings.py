"""Findings about a tree: orphans, second roots, cycles, gaps, duplicate ids."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from making import real, span, whole

from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.tree import Tree, build
from hello_mesh.tracing.verdict.findings import FindingKind, find_unusual


def findings(tree: Tree) -> Counter[FindingKind]:
    return Counter(finding.kind for finding in find_unusual(tree))


@pytest.mark.parametrize("seed", range(5))
def test_spans_in_any_order_are_one_tree(seed: int) -> None:
    spans = whole()
    random.Random(seed).shuffle(spans)  # noqa: S311
    tree = build(spans)
    assert [node.span for node in tree.nodes] == whole()
    assert [node.depth for node in tree.nodes] == list(range(6))
    assert not find_unusual(tree)


@pytest.mark.parametrize(("protocol", "loose"), [("otlp", {FindingKind.ORPHAN: 1}), ("zipkin", {})])
def test_a_trace_of_a_real_envoy_is_one_tree(protocol: str, loose: dict[FindingKind, int]) -> None:
    # With W3C headers the client started the trace and recorded no span.
    tree = build(real("whole", protocol))
    assert [node.depth for node in tree.nodes] == list(range(6))
    assert findings(tree) == loose
    assert all("the caller's, if it records none" in finding.text for finding in find_unusual(tree))


def test_a_span_without_its_parent_is_an_orphan() -> None:
    spans = whole()
    del spans[2]
    tree = build(spans)
    assert findings(tree) == {FindingKind.ORPHAN: 1}
    assert "svc2.ns (server): its parent span 0000000000000003 is missing" in find_unusual(tree)[0].text
    assert len(tree.roots) == 2


def test_a_second_root_is_found() -> None:
    tree = build([*whole(), span("svc9", SpanKind.CLIENT, 9)])
    assert findings(tree) == {FindingKind.SECOND_ROOT: 1}


def test_both_sides_of_a_call_may_share_an_id() -> None:
    shared = [
        span("svc1", SpanKind.CLIENT, 1),
        span("svc2", SpanKind.SERVER, 1, at=2),
        span("svc2", SpanKind.CLIENT, 3, 1),
        span("svc3", SpanKind.SERVER, 3, 1, at=4),
    ]
    tree = build(shared)
    assert not find_unusual(tree)


def test_an_id_of_two_unrelated_spans_is_found() -> None:
    tree = build(
        [span("a", SpanKind.SERVER, 1), span("b", SpanKind.SERVER, 1, at=2), span("c", SpanKind.CLIENT, 2, 1)]
    )
    assert findings(tree)[FindingKind.DUPLICATE_ID] == 1
    assert len(tree.nodes) == 3


@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_a_cycle_is_cut_at_its_earliest_span(length: int) -> None:
    ring = [span("ring", SpanKind.INTERNAL, n, n % length + 1, at=n, ms=1) for n in range(1, length + 1)]
    tail = span("tail", SpanKind.INTERNAL, 5000, 1, ms=1)
    tree = build([*ring, tail])
    assert findings(tree) == {FindingKind.CYCLE: 1}
    assert find_unusual(tree)[0].span.span_id == f"{1:016x}"
    assert len(tree.nodes) == length + 1
    assert len(tree.roots) == 1


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CLIENT])
def test_two_spans_of_one_kind_in_a_row_are_a_gap(kind: SpanKind) -> None:
    tree = build([span("caller", SpanKind.INTERNAL, 1), span("svc1", kind, 2, 1), span("svc2", kind, 3, 2)])
    assert findings(tree) == {FindingKind.GAP: 1}


def test_a_gateway_with_one_span_below_the_callers_is_not_a_gap() -> None:
    assert not find_unusual(build([span("caller", SpanKind.CLIENT, 10, at=0), *_below(10)]))


def test_ten_thousand_spans_with_one_id_are_found() -> None:
    spans = [span(f"svc{n}", SpanKind.SERVER, 1, 1, at=n, ms=1) for n in range(10_000)]
    assert findings(build(spans))[FindingKind.DUPLICATE_ID] == 9_999


def _below(parent: int) -> list[Span]:
    first, *others = whole()
    return [replace(first, parent_id=f"{parent:016x}"), *others]


def test_two_spans_of_one_service_may_not_share_an_id() -> None:
    spans = [span("a", SpanKind.CLIENT, 1), span("a", SpanKind.SERVER, 1, at=2)]
    (finding,) = (each for each in find_unusual(build(spans)) if each.kind is FindingKind.DUPLICATE_ID)
    assert finding.text.startswith("a (server) has the same id 0000000000000001 as a (client)")


def test_the_first_root_after_an_orphan_is_not_a_second_root() -> None:
    tree = build([span("lost", SpanKind.SERVER, 9, 8, at=0), *whole()])
    assert findings(tree) == {FindingKind.ORPHAN: 1}
    assert "the caller's" not in find_unusual(tree)[0].text


def test_two_spans_of_one_service_in_a_row_are_not_a_gap() -> None:
    assert not find_unusual(build([span("a", SpanKind.SERVER, 1), span("a", SpanKind.SERVER, 2, 1)]))
