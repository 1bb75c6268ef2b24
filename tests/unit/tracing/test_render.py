import json
import unicodedata
from dataclasses import replace

import pytest
from making import HOPS, OTHER_TRACE, START_NS, TRACE, real, span, whole

from hello_mesh.tracing import render
from hello_mesh.tracing.service_graph import service_graph
from hello_mesh.tracing.sources.sqlite import TraceSummary
from hello_mesh.tracing.span import Event, Span, SpanKind, Status
from hello_mesh.tracing.verdict.expect import compare, expected_chain
from hello_mesh.tracing.verdict.verify import TraceVerdict


def columns(line: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
    return len(line) + wide - sum(bool(unicodedata.combining(character)) for character in line)


def test_a_trace_is_drawn_as_a_tree_with_aligned_times() -> None:
    spans = [
        span("gateway", SpanKind.CLIENT, 1, at=0, ms=100),
        span("svc1", SpanKind.SERVER, 2, 1, at=1, ms=90),
        span("svc2", SpanKind.SERVER, 3, 2, at=2, ms=30),
        span("db", SpanKind.SERVER, 4, 3, at=3, ms=5),
        span("svc3", SpanKind.SERVER, 5, 2, at=40, ms=50, status=Status.ERROR, status_message="too late"),
    ]
    lines = render.trace_text(spans).splitlines()
    assert lines[0] == f"trace {TRACE}"
    assert [line.rstrip() for line in lines[1:]][:7] == [
        f"{'5 spans, 5 services, 100.0 ms total':60}     at ms   took ms",
        f"{'gateway client gateway:9996/*':60}       0.0     100.0",
        f"{'└─svc1 server svc1:9996/*':60}       1.0      90.0",
        f"{'  ├─svc2 server svc2:9996/*':60}       2.0      30.0",
        f"{'  │ └─db server db:9996/*':60}       3.0       5.0",
        f"{'  └─svc3 server svc3:9996/*':60}      40.0      50.0",
        "      ✗ too late",
    ]


@pytest.mark.parametrize("name", ["whole", "aborted-at-svc3"])
@pytest.mark.parametrize("protocol", ["otlp", "zipkin"])
def test_a_trace_of_a_real_envoy_fits_on_80_columns(name: str, protocol: str) -> None:
    text = render.trace_text(real(name, protocol))
    assert max(columns(line) for line in text.splitlines() if not line.startswith("!")) <= 80
    assert ("✗ 14 UNAVAILABLE: fault filter abort: Envoy: FI" in text) == (name != "whole")


def test_wide_characters_keep_the_columns_aligned() -> None:
    spans = [span("こんにちは" * 9, SpanKind.CLIENT, 1), span("naïve\u0301", SpanKind.SERVER, 2, 1)]
    lines = render.trace_text(spans).splitlines()[1:4]
    assert [columns(line) for line in lines] == [80, 80, 80]


def test_no_text_of_a_span_is_printed_raw() -> None:
    evil = "\x1b[2J\r\n\u202e"
    spans = [
        span(
            evil, SpanKind.CLIENT, 1, name=evil, status=Status.ERROR, status_message=evil, parent_id="f" * 16
        )
    ]
    comparison = compare(spans, expected_chain(HOPS))
    verdict = render.verdict_text(TraceVerdict(TRACE, tuple(spans), (), comparison))
    summary = TraceSummary(TRACE, START_NS, START_NS, 1, 0, evil, evil)
    texts = [
        render.trace_text(spans),
        verdict,
        render.list_text([summary]),
        render.topology_text(service_graph(spans)),
    ]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))


def test_a_trace_of_ten_thousand_levels_is_drawn() -> None:
    deep = [span("svc", SpanKind.INTERNAL, n + 1, n or None, at=n, ms=1) for n in range(10_000)]
    lines = render.trace_text(deep).splitlines()
    assert len(lines) == 10_002
    assert max(map(columns, lines)) <= 80
    assert "…9999 svc" in lines[-1]
    assert len(json.loads(render.trace_json(deep))["spans"]) == 10_000


def test_json_has_stable_keys() -> None:
    root = span("svc1", SpanKind.SERVER, 1, events=(Event(START_NS, "retry"),), attributes={"a": 1})
    value = json.loads(render.trace_json([root]))
    assert value == {
        "trace_id": TRACE,
        "start": "2026-11-18T11:06:40.001Z",
        "duration_ms": 98.0,
        "spans": [
            {
                "span_id": "0000000000000001",
                "parent_id": None,
                "depth": 0,
                "service": "svc1",
                "kind": "server",
                "name": "svc1:9996/*",
                "offset_ms": 0.0,
                "duration_ms": 98.0,
                "status": "unset",
                "status_message": "",
                "attributes": {"a": 1},
                "events": [{"offset_ms": -1.0, "name": "retry", "attributes": {}}],
            }
        ],
        "findings": [],
    }


def broken() -> TraceVerdict:
    head = whole()[:4]
    tail = [replace(each, trace_id=OTHER_TRACE) for each in whole()[4:]]
    tail[0] = replace(tail[0], parent_id=None)
    comparison = compare(head, expected_chain(HOPS, gateway="gateway"), [tail])
    return TraceVerdict(TRACE, tuple(head), (tuple(tail),), comparison)


def test_a_broken_trace_is_shown_with_its_cause_and_all_fragments() -> None:
    text = render.verdict_text(broken())
    assert text.startswith(f"trace {TRACE}: mismatch: 4 spans\n  not-forwarded: svc2 did not propagate")
    assert f"\ntrace {OTHER_TRACE}\n" in text
    value = json.loads(render.verdict_json(broken()))
    assert (value["ok"], value["mismatches"][0]["kind"]) == (False, "not-forwarded")
    assert [fragment["trace_id"] for fragment in value["pieces"]] == [TRACE, OTHER_TRACE]


def test_a_whole_trace_is_shown_in_one_line() -> None:
    spans: tuple[Span, ...] = tuple(whole())
    verdict = TraceVerdict(TRACE, spans, (), compare(spans, expected_chain(HOPS, gateway="gateway")))
    assert render.verdict_text(verdict) == f"trace {TRACE}: OK: 6 spans, one tree"
    assert json.loads(render.verdict_json(verdict))["ok"] is True


def test_lists_and_edges_are_shown_in_text_and_json() -> None:
    summary = TraceSummary(TRACE, START_NS, START_NS + 1_500_000, 6, 1, "gateway", "svc1:9999/*")
    lines = render.list_text([summary]).splitlines()
    assert max(map(columns, lines)) <= 80
    assert lines[1].split() == ["2026-11-18", "11:06:40", TRACE, "6", "1", "1.5"]
    assert json.loads(render.list_json([summary]))["errors"] == 1
    found = service_graph(whole())
    assert "svc1.ns → svc2.ns\n  1 call, 0 errors; ms: p50 94.0" in render.topology_text(found)
    assert json.loads(render.topology_json(found).splitlines()[0]) == {
        "caller": None,
        "callee": "gateway.istio-system",
        "calls": 1,
        "errors": 0,
        "ms": {"p50": 98.0, "p90": 98.0, "p99": 98.0, "max": 98.0},
    }


def test_findings_are_shown_in_text_and_json() -> None:
    orphan = [span("svc1", SpanKind.SERVER, 1, 9)]
    (finding,) = json.loads(render.trace_json(orphan))["findings"]
    assert (finding["kind"], finding["span_id"]) == ("orphan", f"{1:016x}")
    assert render.trace_text(orphan).splitlines()[-1] == f"! {finding['text']}"
