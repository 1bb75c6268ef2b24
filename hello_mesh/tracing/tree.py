"""Spans → trees, and what is odd about them. Nothing recurses: a trace may be ten thousand spans deep."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hello_mesh.base.text import excerpt
from hello_mesh.tracing.span import Span, SpanKind


class FindingKind(StrEnum):
    """What can be odd about the tree of a trace."""

    ORPHAN = "orphan"
    SECOND_ROOT = "second-root"
    CYCLE = "cycle"
    GAP = "gap"
    DUPLICATE_ID = "duplicate-id"


@dataclass(frozen=True)
class Finding:
    """Something odd, at one span."""

    kind: FindingKind
    span: Span
    text: str
    """In one line, for people."""


@dataclass(frozen=True)
class Node:
    """A span in its place."""

    index: int
    """Its place in `Tree.nodes`."""
    span: Span
    depth: int
    parent: int | None
    """The index of the node above; None at the top."""


@dataclass(frozen=True)
class Tree:
    """The spans of one trace, each parent before its children, siblings by their start."""

    nodes: tuple[Node, ...]
    findings: tuple[Finding, ...]

    @property
    def roots(self) -> tuple[Node, ...]:
        """The nodes at the top: one, where the trace is whole."""
        return tuple(node for node in self.nodes if node.parent is None)

    def parent(self, node: Node) -> Node | None:
        """The node above."""
        return None if node.parent is None else self.nodes[node.parent]

    def children(self) -> Mapping[int, Sequence[Node]]:
        """The nodes below each index that has any."""
        below: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            if node.parent is not None:
                below[node.parent].append(node)
        return below


def build(spans: Sequence[Span]) -> Tree:
    """The tree, or the trees, of the spans of one trace; every span is in it once."""
    ordered = sorted(dict.fromkeys(spans), key=lambda span: (span.start_ns, -span.end_ns, span.kind))
    parents, duplicates = _parents(ordered)
    cut, cycles = _without_cycles(parents)
    nodes = tuple(_in_order(ordered, cut))
    findings = [*duplicates, *(_cycle(ordered[index]) for index in cycles)]
    findings += _loose_ends(nodes, set(map(id, (ordered[index] for index in cycles))))
    findings += _gaps(nodes)
    return Tree(nodes, tuple(findings))


def _parents(spans: Sequence[Span]) -> tuple[list[int | None], list[Finding]]:
    """For each span the index of its parent, and the ids that occur more than once without reason."""
    twins: dict[str, list[int]] = defaultdict(list)
    own: dict[tuple[str, str], int] = {}
    for index, span in enumerate(spans):
        twins[span.span_id].append(index)
        own.setdefault((span.span_id, span.service), index)
    found: list[int | None] = []
    duplicates: list[Finding] = []
    for index, span in enumerate(spans):
        first, *others = twins[span.span_id]
        shared = len(others) == 1 and _shares_id(spans[first], spans[others[0]])
        if index != first and not shared:
            duplicates.append(_duplicate(span, spans[first]))
        if shared and span.kind is SpanKind.SERVER:
            found.append(others[0] if index == first else first)
        else:
            parent = span.parent_id or ""
            # Where two spans share the parent's id, it is the one of the child's own service.
            found.append(own.get((parent, span.service), next(iter(twins.get(parent, ())), None)))
    return found, duplicates


def _shares_id(one: Span, other: Span) -> bool:
    """Whether two spans of one id are the two sides of a call, which Zipkin lets share it."""
    return {one.kind, other.kind} == {SpanKind.CLIENT, SpanKind.SERVER} and one.service != other.service


def _without_cycles(parents: Sequence[int | None]) -> tuple[list[int | None], list[int]]:
    """The same parents with each cycle cut open at its earliest span, and these spans."""
    cut = list(parents)
    cycles: list[int] = []
    done: set[int] = set()
    for start in range(len(cut)):
        path: dict[int, None] = {}
        index: int | None = start
        while index is not None and index not in done and index not in path:
            path[index] = None
            index = cut[index]
        if index is not None and index in path:
            steps = list(path)
            first = min(steps[steps.index(index) :])  # spans are in the order of their start
            cut[first] = None
            cycles.append(first)
        done.update(path)
    return cut, cycles


def _in_order(spans: Sequence[Span], parents: Sequence[int | None]) -> Iterator[Node]:
    below: dict[int | None, list[int]] = defaultdict(list)
    for index, parent in enumerate(parents):
        below[parent].append(index)
    pending: list[tuple[int, int, int | None]] = [(index, 0, None) for index in reversed(below[None])]
    count = 0
    while pending:
        index, depth, parent = pending.pop()
        yield Node(count, spans[index], depth, parent)
        pending.extend((child, depth + 1, count) for child in reversed(below[index]))
        count += 1


def _loose_ends(nodes: Sequence[Node], cycles: set[int]) -> Iterator[Finding]:
    first = True
    # Whoever began the trace before it met the mesh may record nothing: that is no break.
    caller = " (of the caller, who sent none)" if sum(node.parent is None for node in nodes) == 1 else ""
    for node in nodes:
        span = node.span
        if node.parent is not None or id(span) in cycles:
            continue
        if span.parent_id is not None:
            text = f"{where(span)}: its parent span {span.parent_id} is not there{caller}"
            yield Finding(FindingKind.ORPHAN, span, text)
        elif not first:
            yield Finding(FindingKind.SECOND_ROOT, span, f"{where(span)} is a second root of the trace")
        first = first and span.parent_id is not None


def _gaps(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Two spans of one side that follow each other across services: the other side's is missing between."""
    for node in nodes:
        above = nodes[node.parent].span if node.parent is not None else None
        if above is None or above.service == node.span.service or above.kind is not node.span.kind:
            continue
        if node.span.kind is SpanKind.SERVER:
            text = f"{where(node.span)} hangs under a server span: no client span of {excerpt(above.service, 80)}"
        elif node.span.kind is SpanKind.CLIENT and node.depth > 1:  # a gateway behind the caller has one span
            text = f"{where(node.span)} hangs under a client span: no server span of its own service"
        else:
            continue
        yield Finding(FindingKind.GAP, node.span, text)


def _cycle(span: Span) -> Finding:
    return Finding(FindingKind.CYCLE, span, f"{where(span)} is its own ancestor")


def _duplicate(span: Span, other: Span) -> Finding:
    text = f"{where(span)} has the id {span.span_id}, as has {where(other)}"
    return Finding(FindingKind.DUPLICATE_ID, span, text)


def where(span: Span) -> str:
    """A span as texts name it: its service and side."""
    return f"{excerpt(span.service, 80)} ({span.kind})"
