"""What the mesh's test makes of the client's output and of the traces: expectations, and the report."""

import json
from dataclasses import replace

import click
import pytest

from hello_mesh.local.check import (
    VerifiedCall,
    expected_trace,
    is_expected,
    parse_output,
    report_lines,
    suspect,
    traced_hops,
)
from hello_mesh.local.topology import Topology, hop_names, parse_fault
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.verdict import Verdict, VerdictKind
from hello_mesh.tracing.span import Span, SpanKind
from hello_mesh.tracing.verdict.expect import Comparison, MismatchKind, TraceMismatch
from hello_mesh.tracing.verdict.verify import TraceVerdict

TRACE = "1" * 32
CONNECTED = Verdict(VerdictKind.CONNECTED, "connected: one trace", TRACE)
RECORD = CallRecord(
    number=1,
    rpc="Talk",
    code="OK",
    status=0,
    details="",
    start_ns=1_700_000_000_000_000_000,
    duration_ns=5_000_000,
    hops=(),
    verdict=CONNECTED,
    sent_trace_id=TRACE,
    sent_span_id="2" * 16,
)
ABORTED = replace(
    RECORD,
    code="UNAVAILABLE",
    status=14,
    details="fault filter abort",
    mismatches=("failed with UNAVAILABLE: fault filter abort",),
)
MESH = Topology(hop_names(3))


def faulty(*faults: str) -> Topology:
    """Return three hops with these faults."""
    return replace(MESH, faults=tuple(map(parse_fault, faults)))


def reported(record: CallRecord, hops: int) -> CallRecord:
    """Return a call with a hop report of this length."""
    return replace(record, hops=tuple(Hop(name, Role.RELAY) for name in hop_names(hops)))


def trace(*, service: str | None = None, ok: bool = True) -> TraceVerdict:
    """Return the verdict on a trace of one span; a mismatch names `service`."""
    span = Span(TRACE, "2" * 16, None, "Talk", SpanKind.CLIENT, "local-requestor", 1, 2)
    mismatch = TraceMismatch(MismatchKind.NOT_FORWARDED, service, "differs")
    return TraceVerdict(TRACE, (span,), (), Comparison(() if ok else (mismatch,)))


def shown(*calls: VerifiedCall, hints: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the report, without colors."""
    return click.unstyle("\n".join(report_lines(calls, hints or {}))).splitlines()


def test_the_output_of_the_client_is_read_in_the_order_of_the_calls() -> None:
    records = [replace(RECORD, number=number) for number in (2, 1)]
    checks = [
        {"check": "answers", "calls": 2, "failed": 0, "text": "", "advice": ""},
        {"check": "path", "calls": 2, "failed": 1, "text": "path svc1", "advice": "check svc1"},
    ]
    lines = [
        json.dumps({"event": "answer", "call": 1}),
        *(json.dumps({"event": "call", **record.to_json()}) for record in records),
        json.dumps({"event": "summary"}),
        json.dumps({"event": "checks", "calls": 2, "checks": checks}),
    ]
    output = parse_output(lines)
    assert output.records == tuple(reversed(records))
    assert output.hints == {"path svc1": "check svc1"}


def test_the_output_of_a_client_that_made_no_call_is_empty() -> None:
    output = parse_output([])
    assert (output.records, output.hints) == ((), {})


@pytest.mark.parametrize(
    ("topology", "record", "hops", "expected"),
    [
        pytest.param(MESH, RECORD, 3, True, id="a call without mismatches"),
        pytest.param(MESH, replace(RECORD, mismatches=("wrong",)), 3, False, id="a mismatch"),
        pytest.param(MESH, ABORTED, 1, False, id="a failure without a fault"),
        pytest.param(faulty("svc2=abort:14"), ABORTED, 1, True, id="a failure at the fault"),
        pytest.param(faulty("svc2=abort:14"), ABORTED, 0, False, id="a failure before the fault"),
        pytest.param(faulty("svc2=abort:14"), ABORTED, 2, False, id="a failure after the fault"),
        pytest.param(faulty("svc2=abort:14"), ABORTED, 3, False, id="a failure at no fault"),
        pytest.param(faulty("svc2=abort:7"), ABORTED, 1, False, id="another status than the fault"),
        pytest.param(faulty("svc2=delay:1s"), ABORTED, 1, False, id="a delay fails no call"),
        pytest.param(faulty("svc2=delay:1s"), RECORD, 3, True, id="a delayed call"),
        pytest.param(faulty("svc2=abort:14"), RECORD, 3, False, id="a success in spite of the fault"),
        pytest.param(faulty("svc2=abort:14@99%"), RECORD, 3, True, id="a success of a partial fault"),
        pytest.param(faulty("svc1=abort:7", "svc2=abort:14"), ABORTED, 1, True, id="the second fault"),
    ],
)
def test_a_fault_decides_which_result_is_expected(
    topology: Topology, record: CallRecord, hops: int, expected: bool
) -> None:
    assert is_expected(topology, reported(record, hops)) is expected


@pytest.mark.parametrize(
    ("topology", "record", "hops", "traced"),
    [
        (MESH, RECORD, 3, 3),
        (MESH, ABORTED, 1, 3),
        (faulty("svc1=abort:14"), ABORTED, 0, 1),
        (faulty("svc2=abort:14"), ABORTED, 1, 2),
        (faulty("svc2=abort:14"), ABORTED, 0, 3),
    ],
)
def test_a_trace_is_expected_up_to_the_sidecar_with_the_fault(
    topology: Topology, record: CallRecord, hops: int, traced: int
) -> None:
    assert traced_hops(topology, reported(record, hops)) == traced


def test_the_expected_trace_starts_with_the_requestor_and_the_gateway() -> None:
    span = expected_trace(MESH, 2)
    services = [span.service]
    while span.children:
        (span,) = span.children
        services.append(span.service)
    assert services == [
        "local-requestor",
        "istio-ingressgateway.istio-system",
        "grpc-server-svc1.grpc-tracing",
        "grpc-server-svc1.grpc-tracing",
        "grpc-server-svc2.grpc-tracing",
    ]


def test_a_method_has_a_title_the_verdict_and_the_tree_of_its_trace() -> None:
    title, verdict, head, *_ = shown(VerifiedCall(RECORD, expected=True, trace=trace()))
    assert title == "Talk: 1 call, 1 OK trace"
    assert verdict == "connected: one trace"
    assert head == f"trace {TRACE}"


def test_of_many_calls_the_slowest_is_the_example() -> None:
    def call(number: int, duration_ns: int) -> VerifiedCall:
        verdict = replace(CONNECTED, text=f"connected: call {number}")
        record = replace(RECORD, number=number, duration_ns=duration_ns, verdict=verdict)
        return VerifiedCall(record, expected=True, trace=trace())

    lines = shown(call(1, 10), call(2, 30), call(3, 20))
    assert lines[:3] == ["Talk: 3 calls, 3 OK traces", "connected: call 2", f"slowest: trace {TRACE}"]
    assert not any("call 1" in line or "call 3" in line for line in lines)


def test_calls_that_failed_as_expected_have_an_example_too() -> None:
    succeeded = VerifiedCall(RECORD, expected=True, trace=trace())
    failed = VerifiedCall(ABORTED, expected=True, trace=trace())
    assert f"one of 2 calls that failed as expected: trace {TRACE}" in shown(succeeded, failed, failed)
    assert f"trace {TRACE}" in shown(failed)


def test_each_method_has_its_own_title() -> None:
    other = replace(RECORD, rpc="TalkBidirectional")
    calls = [VerifiedCall(record, expected=True, trace=trace()) for record in (RECORD, other, RECORD)]
    titles = [line for line in shown(*calls) if line.startswith("Talk")]
    assert titles == ["Talk: 2 calls, 2 OK traces", "TalkBidirectional: 1 call, 1 OK trace"]


def test_a_failed_call_has_its_mismatches_and_their_hints() -> None:
    record = replace(RECORD, number=7, mismatches=("path svc1", "broken at svc1"))
    call = VerifiedCall(record, expected=False, trace=trace())
    title, *lines = shown(call, hints={"broken at svc1": "check svc1", "another": "check others"})
    assert title == "Talk: 1 call, 1 OK trace"
    assert lines[:3] == ["call 7: path svc1", "call 7: broken at svc1", "→ check svc1"]
    assert lines[3].startswith(f"trace {TRACE}")


def test_a_hint_is_shown_once() -> None:
    call = VerifiedCall(replace(RECORD, mismatches=("wrong",)), expected=False, trace=trace())
    hints = {"wrong": "check it"}
    assert shown(call, call, hints=hints).count("→ check it") == 1
    assert hints == {"wrong": "check it"}


def test_only_three_failed_calls_of_a_method_are_shown() -> None:
    calls = [
        VerifiedCall(replace(RECORD, number=number, mismatches=("wrong",)), expected=False, trace=trace())
        for number in range(1, 6)
    ]
    lines = shown(*calls)
    assert [line for line in lines if line.startswith("call ")] == [f"call {n}: wrong" for n in (1, 2, 3)]
    assert "… and 2 more failed calls" in lines
    assert "… and 1 more failed call" in shown(*calls[:4])
    assert not any("more failed" in line for line in shown(*calls[:3]))


def test_a_trace_that_is_not_as_expected_is_shown_with_the_verdict_on_the_hop_report() -> None:
    lines = shown(VerifiedCall(RECORD, expected=True, trace=trace(ok=False)))
    assert lines[:2] == ["Talk: 1 call, 0 OK traces", "call 1: connected: one trace"]
    assert any("not-forwarded: differs" in line for line in lines)


def test_a_success_in_spite_of_a_fault_is_a_failed_call() -> None:
    lines = shown(VerifiedCall(RECORD, expected=False, trace=trace()))
    assert lines[1] == "call 1: succeeded, but --fault fails every call"


def test_the_report_fits_80_columns_and_escapes_control_characters() -> None:
    hostile = "\x1b[31m " + "word " * 50
    record = replace(RECORD, mismatches=(hostile,), verdict=replace(CONNECTED, text=hostile))
    for call in (
        VerifiedCall(record, expected=False, trace=trace()),
        VerifiedCall(replace(record, mismatches=()), expected=True, trace=trace()),
    ):
        lines = "\n".join(report_lines([call], {hostile: hostile})).splitlines()[1:]
        assert max(map(len, lines)) <= 80
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("traces", "text"),
    [
        ([trace(ok=False, service="svc2"), trace(ok=False, service="svc1")] * 2, "; check svc2"),
        ([trace(ok=False, service="svc2"), *[trace(ok=False, service="svc1")] * 2], "; check svc1"),
        ([trace(ok=False)], ""),
        ([trace()], ""),
    ],
)
def test_the_service_that_most_traces_name_is_the_suspect(traces: list[TraceVerdict], text: str) -> None:
    assert suspect(VerifiedCall(RECORD, expected=False, trace=each) for each in traces) == text
