"""Spans → trees. Nothing here recurses: a trace may be ten thousand spans deep."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hello_mesh.tracing.span import Span, SpanKind


@dataclass(frozen=True)
class Node:
    """A span in its tree."""

    index: int
    """Its position in `Tree.nodes`."""
    span: Span
    depth: int
    parent: int | None
    """The index of the parent node; None for a root."""


@dataclass(frozen=True)
class Tree:
    """The spans of one trace: each parent before its children, siblings by start time."""

    nodes: tuple[Node, ...]
    cut: frozenset[int] = frozenset()
    """The indexes of nodes that are their own ancestors: here they are roots."""

    @property
    def roots(self) -> tuple[Node, ...]:
        """The root nodes: one, if the trace is whole."""
        return tuple(node for node in self.nodes if node.parent is None)

    def parent(self, node: Node) -> Node | None:
        """Return the parent node; None for a root."""
        return None if node.parent is None else self.nodes[node.parent]

    def children(self) -> Mapping[int, Sequence[Node]]:
        """Return the child nodes of each index that has any."""
        children: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            if node.parent is not None:
                children[node.parent].append(node)
        return children


def build(spans: Sequence[Span]) -> Tree:
    """Return the tree, or the trees, of one trace. Every span is in it once."""
    ordered = sorted(dict.fromkeys(spans), key=lambda span: (span.start_ns, -span.end_ns, span.kind))
    parents, cut = _without_cycles(_parents(ordered))
    nodes, positions = _in_tree_order(ordered, parents)
    return Tree(tuple(nodes), frozenset(positions[index] for index in cut))


def shares_id(one: Span, other: Span) -> bool:
    """Return whether two spans with one id are the two sides of a call. Zipkin allows them to share it."""
    return {one.kind, other.kind} == {SpanKind.CLIENT, SpanKind.SERVER} and one.service != other.service


def _parents(spans: Sequence[Span]) -> list[int | None]:
    """Return the index of each span's parent."""
    by_id: dict[str, list[int]] = defaultdict(list)
    by_id_and_service: dict[tuple[str, str], int] = {}
    for index, span in enumerate(spans):
        by_id[span.span_id].append(index)
        by_id_and_service.setdefault((span.span_id, span.service), index)
    found: list[int | None] = []
    for index, span in enumerate(spans):
        first, *others = by_id[span.span_id]
        if len(others) == 1 and shares_id(spans[first], spans[others[0]]) and span.kind is SpanKind.SERVER:
            found.append(others[0] if index == first else first)
        else:
            parent = span.parent_id or ""
            # If two spans share the parent's id, the parent is the one of the child's own service.
            found.append(
                by_id_and_service.get((parent, span.service), next(iter(by_id.get(parent, ())), None))
            )
    return found


def _without_cycles(parents: Sequence[int | None]) -> tuple[list[int | None], list[int]]:
    """Return the parents with each cycle cut at its earliest span, and the indexes of these spans."""
    acyclic = list(parents)
    cut: list[int] = []
    done: set[int] = set()
    for start in range(len(acyclic)):
        path: dict[int, None] = {}
        index: int | None = start
        while index is not None and index not in done and index not in path:
            path[index] = None
            index = acyclic[index]
        if index is not None and index in path:
            steps = list(path)
            earliest = min(steps[steps.index(index) :])  # spans are ordered by start time
            acyclic[earliest] = None
            cut.append(earliest)
        done.update(path)
    return acyclic, cut


def _in_tree_order(spans: Sequence[Span], parents: Sequence[int | None]) -> tuple[list[Node], dict[int, int]]:
    """Return the nodes, each parent before its children, and the position of each span among them."""
    children: dict[int | None, list[int]] = defaultdict(list)
    for index, parent in enumerate(parents):
        children[parent].append(index)
    pending: list[tuple[int, int, int | None]] = [(index, 0, None) for index in reversed(children[None])]
    nodes: list[Node] = []
    positions: dict[int, int] = {}
    while pending:
        index, depth, parent = pending.pop()
        position = positions[index] = len(nodes)
        nodes.append(Node(position, spans[index], depth, parent))
        pending.extend((child, depth + 1, position) for child in reversed(children[index]))
    return nodes, positions
