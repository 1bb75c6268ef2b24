"""Values → text for people, 80 columns wide, or JSON with stable keys. Prints nothing."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from hello_mesh.base.text import excerpt
from hello_mesh.tracing.service_graph import Edge
from hello_mesh.tracing.sources.sqlite import TraceSummary
from hello_mesh.tracing.span import Span
from hello_mesh.tracing.tree import Node, Tree, build
from hello_mesh.tracing.verdict.expect import TraceMismatch
from hello_mesh.tracing.verdict.verify import TraceVerdict

WIDTH = 80
_NUMBER_WIDTH = 10
_LABEL_WIDTH = WIDTH - 2 * _NUMBER_WIDTH

# Deeper spans are drawn at this depth, and say how deep they are.
_DEEPEST = 15

_GRPC_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_NAMED_CODES = {str(number): f"{number} {name}" for number, name in enumerate(_GRPC_CODES)}


def trace_text(spans: Sequence[Span]) -> str:
    """The tree of a trace, a line for each span: service, side, name, offset from the start, duration."""
    tree = build(spans)
    start = min(span.start_ns for span in spans)
    end = max(span.end_ns for span in spans)
    services = len({span.service for span in spans})
    lines = [
        f"trace {spans[0].trace_id}",
        _row(
            f"{_count(len(spans), 'span')}, {_count(services, 'service')}, {_ms(end - start)} ms in all",
            "at ms",
            "took ms",
        ),
        *_tree_lines(tree, start),
        *(f"! {finding.text}" for finding in tree.findings),
    ]
    return "\n".join(lines)


def trace_json(spans: Sequence[Span]) -> str:
    """The same as one JSON object on one line."""
    return _json(_trace(spans))


def list_text(summaries: Sequence[TraceSummary]) -> str:
    """A line for each trace: when, id, spans, errors, milliseconds; and below it what it began with."""
    lines = [f"{'started (UTC)':19}  {'trace id':32}  {'spans':>5}  {'errors':>6}  {'ms':>8}"]
    for each in summaries:
        moment = _time(each.start_ns)[:19].replace("T", " ")
        ms = _ms(each.end_ns - each.start_ns)
        lines.append(f"{moment}  {each.trace_id}  {each.spans:>5}  {each.errors:>6}  {ms:>8}")
        lines.append(_fit(f"  {excerpt(each.service, 70)}  {excerpt(each.name, 70)}", WIDTH).rstrip())
    return "\n".join(lines)


def list_json(summaries: Sequence[TraceSummary]) -> str:
    """The same, a JSON object a line."""
    return "\n".join(
        _json(
            {
                "trace_id": each.trace_id,
                "start": _time(each.start_ns),
                "duration_ms": (each.end_ns - each.start_ns) / 1e6,
                "spans": each.spans,
                "errors": each.errors,
                "service": each.service,
                "name": each.name,
            }
        )
        for each in summaries
    )


def verdict_text(verdict: TraceVerdict) -> str:
    """One line where a trace is as wanted; otherwise what is wrong with it, and all of its pieces."""
    count = _count(len(verdict.spans), "span")
    if verdict.comparison.ok:
        return f"trace {verdict.trace_id}: as wanted, {count} in one tree"
    lines = [f"trace {verdict.trace_id}: not as wanted, {count}"]
    lines += [f"  {mismatch.kind}: {mismatch.text}" for mismatch in verdict.comparison.mismatches]
    for piece in (verdict.spans, *verdict.pieces):
        lines += ["", trace_text(piece)] if piece else []
    return "\n".join(lines)


def verdict_json(verdict: TraceVerdict) -> str:
    """The same as one JSON object on one line."""
    return _json(
        {
            "trace_id": verdict.trace_id,
            "ok": verdict.comparison.ok,
            "mismatches": [_mismatch(mismatch) for mismatch in verdict.comparison.mismatches],
            "spans": len(verdict.spans),
            "pieces": [_trace(piece) for piece in (verdict.spans, *verdict.pieces) if piece],
        }
    )


def topology_text(edges: Sequence[Edge]) -> str:
    """A line for each edge: calls, errors, milliseconds; and above it who calls whom."""
    lines = []
    for edge in edges:
        lines.append(
            f"{excerpt(edge.caller, 36) if edge.caller else '(outside)'} → {excerpt(edge.callee, 36)}"
        )
        latencies = "  ".join(f"{name} {ms:.1f}" for name, ms in edge.milliseconds.items())
        lines.append(f"  {_count(edge.calls, 'call')}, {_count(edge.errors, 'error')}; ms: {latencies}")
    return "\n".join(lines)


def topology_json(edges: Sequence[Edge]) -> str:
    """The same, a JSON object a line."""
    return "\n".join(
        _json(
            {
                "caller": edge.caller,
                "callee": edge.callee,
                "calls": edge.calls,
                "errors": edge.errors,
                "ms": edge.milliseconds,
            }
        )
        for edge in edges
    )


def _tree_lines(tree: Tree, start_ns: int) -> Iterator[str]:
    last = _last_children(tree)
    open_levels: list[bool] = []  # of the levels above a node: whether more follows there
    for node in tree.nodes:
        del open_levels[max(0, node.depth - 1) :]
        rails = "".join("│ " if is_open else "  " for is_open in open_levels[:_DEEPEST])
        is_last = node.index in last
        branch = "" if node.depth == 0 else "└─" if is_last else "├─"
        if node.depth > _DEEPEST:
            branch = f"…{node.depth} "
        span = node.span
        yield _row(f"{rails}{branch}{_label(span)}", _ms(span.start_ns - start_ns), _ms(span.duration_ns))
        if node.depth:
            open_levels.append(not is_last)
        if span.failed:
            inner = "".join("│ " if is_open else "  " for is_open in open_levels[:_DEEPEST])
            yield _fit(f"{inner}  ✗ {_failure(span)}", WIDTH).rstrip()


def _last_children(tree: Tree) -> set[int]:
    last: dict[int | None, Node] = {}
    for node in tree.nodes:
        last[node.parent] = node
    return {node.index for node in last.values()}


def _label(span: Span) -> str:
    name = excerpt(span.name, 100) or "(no name)"
    return f"{excerpt(span.service, 60)} {span.kind} {name}"


def _failure(span: Span) -> str:
    """Why a span failed, as far as its status and the tags of gRPC and Envoy tell."""
    number = str(span.attributes.get("grpc.status_code", ""))
    code = _NAMED_CODES.get(number, number)
    message = span.status_message or str(span.attributes.get("grpc.message", ""))
    flags = str(span.attributes.get("response_flags", "-"))
    parts = [code, message, "" if flags == "-" else f"Envoy says {flags}"]
    return ": ".join(excerpt(part, 100) for part in parts if part) or "failed"


def _row(label: str, *numbers: str) -> str:
    return _fit(label, _LABEL_WIDTH) + "".join(f"{number:>{_NUMBER_WIDTH}}" for number in numbers)


def _fit(text: str, width: int) -> str:
    """`text` on exactly `width` columns of a terminal, where some characters take two and some none."""
    used = 0
    kept: list[str] = []
    for character in text:
        columns = _columns(character)
        if used + columns > width:
            while used >= width:
                used -= _columns(kept.pop())
            return "".join(kept) + "…" + " " * (width - used - 1)
        kept.append(character)
        used += columns
    return "".join(kept) + " " * (width - used)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _trace(spans: Sequence[Span]) -> dict[str, Any]:
    tree = build(spans)
    start = min(span.start_ns for span in spans)
    return {
        "trace_id": spans[0].trace_id,
        "start": _time(start),
        "duration_ms": (max(span.end_ns for span in spans) - start) / 1e6,
        "spans": [_span(node, start) for node in tree.nodes],
        "findings": [
            {"kind": finding.kind, "span_id": finding.span.span_id, "text": finding.text}
            for finding in tree.findings
        ],
    }


def _span(node: Node, start_ns: int) -> dict[str, Any]:
    span = node.span
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "depth": node.depth,
        "service": span.service,
        "kind": span.kind,
        "name": span.name,
        "offset_ms": (span.start_ns - start_ns) / 1e6,
        "duration_ms": span.duration_ns / 1e6,
        "status": span.status,
        "status_message": span.status_message,
        "attributes": span.attributes,
        "events": [
            {
                "offset_ms": (event.time_ns - start_ns) / 1e6,
                "name": event.name,
                "attributes": event.attributes,
            }
            for event in span.events
        ],
    }


def _mismatch(mismatch: TraceMismatch) -> dict[str, str | None]:
    return {"kind": mismatch.kind, "service": mismatch.service, "text": mismatch.text}


def _time(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
