"""The graph of services: calls, errors and durations on each edge, from spans."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hello_mesh.base.stats import percentiles
from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.tree import Node, Tree, build

# Envoy names an operation by the host of the called service, its port, and a path.
_OPERATION = re.compile(r"(?P<service>[^:/\s]+):[0-9]+/.*")


@dataclass(frozen=True)
class Edge:
    """The calls from one service to another."""

    caller: str | None
    """None: the caller recorded no span."""
    callee: str
    calls: int
    errors: int
    milliseconds: dict[str, float]
    """p50, p90, p99 and max of the durations, as the caller recorded them if it did."""


def service_graph(spans: Iterable[Span]) -> tuple[Edge, ...]:
    """Return the edges of the graph, by caller and callee; edges without a caller first.

    Args:
        spans: the spans of any number of traces.
    """
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    calls: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for trace in traces.values():
        for caller, callee, span in _calls(build(trace)):
            calls[caller or "", callee].append(span)
    return tuple(_edge(caller or None, callee, calls[caller, callee]) for caller, callee in sorted(calls))


def _calls(tree: Tree) -> Iterator[tuple[str | None, str, Span]]:
    """Yield caller, callee and the span that describes the call."""
    callers = {node.parent for node in tree.nodes if _crosses(tree, node)}
    for node in tree.nodes:
        parent = tree.parent(node)
        if parent is None:
            yield None, node.span.service, node.span
        elif _crosses(tree, node):
            recorded = parent.span if parent.span.kind is SpanKind.CLIENT else node.span
            yield parent.span.service, node.span.service, recorded
        if node.span.kind is SpanKind.CLIENT and node.index not in callers:
            # The called service recorded no span, or was not reached: only the span's name shows it.
            named = _OPERATION.fullmatch(node.span.name)
            if named and named["service"] != node.span.service:
                yield node.span.service, named["service"], node.span


def _crosses(tree: Tree, node: Node) -> bool:
    """Return whether a span's service differs from its parent's."""
    parent = tree.parent(node)
    return parent is not None and parent.span.service != node.span.service


def _edge(caller: str | None, callee: str, spans: Sequence[Span]) -> Edge:
    errors = sum(span.failed for span in spans)
    return Edge(caller, callee, len(spans), errors, percentiles(span.duration_ns / 1e6 for span in spans))
