"""Find what is unusual in the tree of a trace, independent of the expected tree."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hello_mesh.base.text import excerpt
from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.tree import Tree, shares_id


class FindingKind(StrEnum):
    """The kinds of findings."""

    ORPHAN = "orphan"
    SECOND_ROOT = "second-root"
    CYCLE = "cycle"
    GAP = "gap"
    DUPLICATE_ID = "duplicate-id"


@dataclass(frozen=True)
class Finding:
    """One unusual thing, at one span."""

    kind: FindingKind
    span: Span
    text: str
    """In one line."""


def find_unusual(tree: Tree) -> tuple[Finding, ...]:
    """Return the findings about a tree."""
    return (*_duplicate_ids(tree), *_cycles(tree), *_loose_ends(tree), *_gaps(tree))


def span_label(span: Span) -> str:
    """Return a span as texts name it: its service and kind."""
    return f"{excerpt(span.service, 80)} ({span.kind})"


def _duplicate_ids(tree: Tree) -> Iterator[Finding]:
    by_id: dict[str, list[Span]] = defaultdict(list)
    for span in sorted((node.span for node in tree.nodes), key=lambda span: span.start_ns):
        by_id[span.span_id].append(span)
    for first, *others in by_id.values():
        if len(others) == 1 and shares_id(first, others[0]):
            continue
        for other in others:
            text = f"{span_label(other)} has the same id {other.span_id} as {span_label(first)}"
            yield Finding(FindingKind.DUPLICATE_ID, other, text)


def _cycles(tree: Tree) -> Iterator[Finding]:
    for node in tree.nodes:
        if node.index in tree.cut:
            yield Finding(FindingKind.CYCLE, node.span, f"{span_label(node.span)} is its own ancestor")


def _loose_ends(tree: Tree) -> Iterator[Finding]:
    first = True
    # A caller outside the mesh may start the trace without recording a span: that is no break.
    caller = " (the caller's, if it records none)" if len(tree.roots) == 1 else ""
    for node in tree.roots:
        span = node.span
        if node.index in tree.cut:
            continue
        if span.parent_id is not None:
            text = f"{span_label(span)}: its parent span {span.parent_id} is missing{caller}"
            yield Finding(FindingKind.ORPHAN, span, text)
        elif not first:
            text = f"{span_label(span)} is a second root of the trace"
            yield Finding(FindingKind.SECOND_ROOT, span, text)
        first = first and span.parent_id is not None


def _gaps(tree: Tree) -> Iterator[Finding]:
    """Find spans of one kind that follow each other across services: one of the other kind is missing."""
    for node in tree.nodes:
        span, parent = node.span, tree.parent(node)
        above = parent.span if parent is not None else None
        if above is None or above.service == span.service or above.kind is not span.kind:
            continue
        if span.kind is SpanKind.SERVER:
            missing = f"no client span of {excerpt(above.service, 80)}"
        elif span.kind is SpanKind.CLIENT and node.depth > 1:  # a gateway after the caller has one span
            missing = "no server span of its own service"
        else:
            continue
        text = f"{span_label(span)} is a child of a {above.kind} span: {missing}"
        yield Finding(FindingKind.GAP, span, text)
