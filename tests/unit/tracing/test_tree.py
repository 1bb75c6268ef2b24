"""The tree of spans: parents, order, cycles."""

import pytest
from making import span, whole

from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.tree import Tree, build


def shape(tree: Tree) -> list[tuple[int, str, SpanKind]]:
    return [(node.depth, node.span.service, node.span.kind) for node in tree.nodes]


def many(parents: list[int | None]) -> list[Span]:
    return [span("svc", SpanKind.INTERNAL, number + 1, parent, ms=1) for number, parent in enumerate(parents)]


def test_siblings_are_ordered_by_start_time() -> None:
    spans = [
        span("a", SpanKind.SERVER, 1),
        span("c", SpanKind.SERVER, 3, 1, at=30),
        span("b", SpanKind.SERVER, 2, 1, at=20),
        span("d", SpanKind.INTERNAL, 4, 2, at=40),
    ]
    tree = build(spans)
    assert [node.span.service for node in tree.nodes] == ["a", "b", "d", "c"]
    assert [child.span.service for child in tree.children()[0]] == ["b", "c"]


def test_the_same_span_twice_is_one() -> None:
    assert len(build([*whole(), *whole()]).nodes) == 6


@pytest.mark.parametrize(
    "parents",
    [
        [None, *range(1, 10_000)],
        [None, *[1] * 9_999],
        [None] * 10_000,
        [77_777] * 10_000,
        [10_000, *range(1, 10_000)],
    ],
    ids=["a chain", "a star", "all roots", "all orphans", "a ring"],
)
def test_ten_thousand_spans_of_any_shape_are_all_in_the_tree(parents: list[int | None]) -> None:
    tree = build(many(parents))
    assert len(tree.nodes) == 10_000
    assert {node.index for node in tree.nodes} == set(range(10_000))


def test_no_spans_are_no_tree() -> None:
    assert build([]).nodes == ()


def test_both_sides_of_a_call_that_share_an_id_are_parent_and_child() -> None:
    shared = [
        span("svc1", SpanKind.CLIENT, 1),
        span("svc2", SpanKind.SERVER, 1, at=2),
        span("svc2", SpanKind.CLIENT, 3, 1),
        span("svc3", SpanKind.SERVER, 3, 1, at=4),
    ]
    tree = build(shared)
    assert shape(tree) == [
        (0, "svc1", SpanKind.CLIENT),
        (1, "svc2", SpanKind.SERVER),
        (2, "svc2", SpanKind.CLIENT),
        (3, "svc3", SpanKind.SERVER),
    ]


def test_of_two_spans_with_one_start_time_the_longer_is_first() -> None:
    spans = [span("short", SpanKind.SERVER, 1, at=0, ms=1), span("long", SpanKind.SERVER, 2, at=0, ms=9)]
    assert [node.span.service for node in build(spans).nodes] == ["long", "short"]


def test_the_cut_of_a_cycle_is_the_index_of_its_node() -> None:
    spans = [
        span("root", SpanKind.SERVER, 1, at=0),
        span("ring", SpanKind.INTERNAL, 2, 2, at=1),
        span("child", SpanKind.SERVER, 3, 1, at=2),
    ]
    tree = build(spans)
    assert [node.span.service for node in tree.nodes] == ["root", "child", "ring"]
    assert tree.cut == {2}
