"""Who calls whom, how often, with how many errors and how fast, as spans tell it."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.tree import Node, Tree, build

# How Envoy names what it calls: the host that a mesh gives a service, its port, and a path.
_OPERATION = re.compile(r"(?P<service>[^:/\s]+):[0-9]+/.*")


@dataclass(frozen=True)
class Edge:
    """The calls from one service to another."""

    caller: str | None
    """None: from outside, no span of the caller came."""
    callee: str
    calls: int
    errors: int
    milliseconds: dict[str, float]
    """p50, p90, p99 and max, by nearest rank: as the caller saw it, where it recorded that."""


def service_graph(spans: Iterable[Span]) -> tuple[Edge, ...]:
    """The edges of the services' graph, by caller and callee, those from outside first.

    Args:
        spans: of any number of traces.
    """
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    calls: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for trace in traces.values():
        for caller, callee, span in _calls(build(trace)):
            calls[caller or "", callee].append(span)
    return tuple(_edge(caller or None, callee, calls[caller, callee]) for caller, callee in sorted(calls))


def percentiles(milliseconds: Iterable[float]) -> dict[str, float]:
    """p50, p90, p99 and max, by nearest rank: each is one that occurred."""
    ordered = sorted(milliseconds)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: ordered[math.ceil(rank * len(ordered)) - 1] for name, rank in ranks.items()}


def _calls(tree: Tree) -> Iterator[tuple[str | None, str, Span]]:
    """Caller, callee and the span that tells how a call between them went."""
    callers = {node.parent for node in tree.nodes if _crosses(tree, node)}
    for node in tree.nodes:
        parent = tree.parent(node)
        if parent is None:
            yield None, node.span.service, node.span
        elif _crosses(tree, node):
            told = parent.span if parent.span.kind is SpanKind.CLIENT else node.span
            yield parent.span.service, node.span.service, told
        if node.span.kind is SpanKind.CLIENT and node.index not in callers:
            # The other side recorded nothing, or was not reached: only the name tells who it was.
            named = _OPERATION.fullmatch(node.span.name)
            if named and named["service"] != node.span.service:
                yield node.span.service, named["service"], node.span


def _crosses(tree: Tree, node: Node) -> bool:
    """Whether a span is of another service than its parent."""
    parent = tree.parent(node)
    return parent is not None and parent.span.service != node.span.service


def _edge(caller: str | None, callee: str, spans: Sequence[Span]) -> Edge:
    errors = sum(span.failed for span in spans)
    return Edge(caller, callee, len(spans), errors, percentiles(span.duration_ns / 1e6 for span in spans))
