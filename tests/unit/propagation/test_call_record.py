"""The record of a call as JSON: the mesh's test reads exactly what the client wrote."""

import json
from dataclasses import replace

import pytest

from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER_TRACE = "463ac35c9f6413ad48485a3953bb6124"
RECORD = CallRecord(
    number=7,
    rpc="Talk",
    code="UNAVAILABLE",
    status=14,
    details="no healthy upstream",
    start_ns=1_700_000_000_000_000_123,
    duration_ns=12_345_678,
    hops=(
        Hop("svc1", Role.RELAY, TraceContext(TRACE, PARENT, sampled=True), None, "5d1ac2f1", sent=True),
        Hop("a;b=ü", Role.LAST, None, TraceContext(PARENT, PARENT)),
    ),
    verdict=Verdict(
        VerdictKind.BROKEN, "broken at svc1", OTHER_TRACE, "svc1", sampled=True, same_parent=("svc1",)
    ),
    sent_trace_id=TRACE,
    sent_span_id=PARENT,
    mismatches=("went svc1, expected svc1 → svc2",),
    unreadable=("invalid hop report: x",),
)


def test_a_record_survives_json() -> None:
    assert _through_json(RECORD) == RECORD


@pytest.mark.parametrize("nanoseconds", [0, 249, 1_000_001, 3_600_000_000_123])
def test_a_duration_keeps_its_nanoseconds(nanoseconds: int) -> None:
    assert _through_json(replace(RECORD, duration_ns=nanoseconds)).duration_ns == nanoseconds


def _through_json(record: CallRecord) -> CallRecord:
    return CallRecord.from_json(json.loads(json.dumps(record.to_json())))


def test_the_json_keys_are_stable() -> None:
    values = RECORD.to_json()
    assert values.keys() == {
        *("call", "rpc", "code", "status", "details", "start_ns", "ms", "trace_id", "sent_trace_id"),
        *("sent_span_id", "verdict", "hops", "mismatches", "unreadable"),
    }
    assert values["ms"] == 12.345678
    assert (values["trace_id"], values["sent_trace_id"]) == (OTHER_TRACE, TRACE)
    assert values["verdict"].keys() == {"kind", "hop", "text", "sampled", "same_parent"}
    assert values["hops"][0] == {
        "name": "svc1",
        "role": "relay",
        "trace": TRACE,
        "parent": PARENT,
        "sampled": "1",
        "request": "5d1ac2f1",
        "sent": "1",
    }
