"""Spans, traces and verdicts as text of 80 columns, or as JSON with stable keys. Prints nothing."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from hello_mesh.base.text import LINE_WIDTH, count, excerpt, json_line, utc_time
from hello_mesh.tracing.service_graph import Edge
from hello_mesh.tracing.sources.sqlite import TraceSummary
from hello_mesh.tracing.span import Span
from hello_mesh.tracing.tree import Node, Tree, build
from hello_mesh.tracing.verdict.expect import TraceMismatch
from hello_mesh.tracing.verdict.findings import find_unusual
from hello_mesh.tracing.verdict.verify import TraceVerdict

_NUMBER_WIDTH = 10
_LABEL_WIDTH = LINE_WIDTH - 2 * _NUMBER_WIDTH

# Deeper spans are drawn at this depth, with their depth as a number.
_MAX_DEPTH = 15

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
    """Return the tree of a trace, one line per span: service, kind, name, offset, duration."""
    tree = build(spans)
    start = min(span.start_ns for span in spans)
    end = max(span.end_ns for span in spans)
    services = len({span.service for span in spans})
    lines = [
        f"trace {spans[0].trace_id}",
        _columns_row(
            f"{count(len(spans), 'span')}, {count(services, 'service')}, {_ms(end - start)} ms total",
            "at ms",
            "took ms",
        ),
        *_tree_lines(tree, start),
        *(f"! {finding.text}" for finding in find_unusual(tree)),
    ]
    return "\n".join(lines)


def trace_json(spans: Sequence[Span]) -> str:
    """Return the same as one JSON object on one line."""
    return json_line(_trace_values(spans))


def list_text(summaries: Sequence[TraceSummary]) -> str:
    """Return two lines per trace: start time, id, spans, errors, milliseconds; its first span."""
    lines = [f"{'started (UTC)':19}  {'trace id':32}  {'spans':>5}  {'errors':>6}  {'ms':>8}"]
    for each in summaries:
        moment = utc_time(each.start_ns)[:19].replace("T", " ")
        ms = _ms(each.end_ns - each.start_ns)
        lines.append(f"{moment}  {each.trace_id}  {each.spans:>5}  {each.errors:>6}  {ms:>8}")
        lines.append(_fit(f"  {excerpt(each.service, 70)}  {excerpt(each.name, 70)}", LINE_WIDTH).rstrip())
    return "\n".join(lines)


def list_json(summaries: Sequence[TraceSummary]) -> str:
    """Return the same as JSON, one object per line."""
    return "\n".join(
        json_line(
            {
                "trace_id": each.trace_id,
                "start": utc_time(each.start_ns),
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
    """Return one line for a trace as expected; otherwise its mismatches and all fragments."""
    spans = count(len(verdict.spans), "span")
    if verdict.comparison.ok:
        return f"trace {verdict.trace_id}: OK: {spans}, one tree"
    lines = [f"trace {verdict.trace_id}: mismatch: {spans}"]
    lines += [f"  {mismatch.kind}: {mismatch.text}" for mismatch in verdict.comparison.mismatches]
    for fragment in (verdict.spans, *verdict.fragments):
        lines += ["", trace_text(fragment)] if fragment else []
    return "\n".join(lines)


def verdict_json(verdict: TraceVerdict) -> str:
    """Return the same as one JSON object on one line."""
    return json_line(
        {
            "trace_id": verdict.trace_id,
            "ok": verdict.comparison.ok,
            "mismatches": [_mismatch_values(mismatch) for mismatch in verdict.comparison.mismatches],
            "spans": len(verdict.spans),
            "pieces": [_trace_values(each) for each in (verdict.spans, *verdict.fragments) if each],
        }
    )


def topology_text(edges: Sequence[Edge]) -> str:
    """Return two lines per edge: caller and callee; calls, errors and milliseconds."""
    lines = []
    for edge in edges:
        lines.append(
            f"{excerpt(edge.caller, 36) if edge.caller else '(outside)'} → {excerpt(edge.callee, 36)}"
        )
        latencies = "  ".join(f"{name} {ms:.1f}" for name, ms in edge.milliseconds.items())
        lines.append(f"  {count(edge.calls, 'call')}, {count(edge.errors, 'error')}; ms: {latencies}")
    return "\n".join(lines)


def topology_json(edges: Sequence[Edge]) -> str:
    """Return the same as JSON, one object per line."""
    return "\n".join(
        json_line(
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
    open_levels: list[bool] = []  # whether a sibling follows at each level above a node
    for node in tree.nodes:
        del open_levels[max(0, node.depth - 1) :]
        rails = "".join("│ " if is_open else "  " for is_open in open_levels[:_MAX_DEPTH])
        is_last = node.index in last
        branch = "" if node.depth == 0 else "└─" if is_last else "├─"
        if node.depth > _MAX_DEPTH:
            branch = f"…{node.depth} "
        span = node.span
        yield _columns_row(
            f"{rails}{branch}{_label(span)}", _ms(span.start_ns - start_ns), _ms(span.duration_ns)
        )
        if node.depth:
            open_levels.append(not is_last)
        if span.failed:
            inner = "".join("│ " if is_open else "  " for is_open in open_levels[:_MAX_DEPTH])
            yield _fit(f"{inner}  ✗ {_span_failure(span)}", LINE_WIDTH).rstrip()


def _last_children(tree: Tree) -> set[int]:
    last: dict[int | None, Node] = {}
    for node in tree.nodes:
        last[node.parent] = node
    return {node.index for node in last.values()}


def _label(span: Span) -> str:
    name = excerpt(span.name, 100) or "(no name)"
    return f"{excerpt(span.service, 60)} {span.kind} {name}"


def _span_failure(span: Span) -> str:
    """Return why a span failed, from its status and the tags of gRPC and Envoy."""
    number = str(span.attributes.get("grpc.status_code", ""))
    code = _NAMED_CODES.get(number, number)
    message = span.status_message or str(span.attributes.get("grpc.message", ""))
    flags = str(span.attributes.get("response_flags", "-"))
    parts = [code, message, "" if flags == "-" else f"Envoy: {flags}"]
    return ": ".join(excerpt(part, 100) for part in parts if part) or "failed"


def _columns_row(label: str, *numbers: str) -> str:
    return _fit(label, _LABEL_WIDTH) + "".join(f"{number:>{_NUMBER_WIDTH}}" for number in numbers)


def _fit(text: str, width: int) -> str:
    """Return `text` on exactly `width` columns of a terminal; characters take none, one or two."""
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


def _trace_values(spans: Sequence[Span]) -> dict[str, Any]:
    tree = build(spans)
    start = min(span.start_ns for span in spans)
    return {
        "trace_id": spans[0].trace_id,
        "start": utc_time(start),
        "duration_ms": (max(span.end_ns for span in spans) - start) / 1e6,
        "spans": [_span_values(node, start) for node in tree.nodes],
        "findings": [
            {"kind": finding.kind, "span_id": finding.span.span_id, "text": finding.text}
            for finding in find_unusual(tree)
        ],
    }


def _span_values(node: Node, start_ns: int) -> dict[str, Any]:
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


def _mismatch_values(mismatch: TraceMismatch) -> dict[str, str | None]:
    return {"kind": mismatch.kind, "service": mismatch.service, "text": mismatch.text}


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.1f}"
