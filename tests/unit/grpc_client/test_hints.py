"""What is advised about a call that is not as expected, by what it looks like."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.checks import Checks
from grpc_client.expectation import Check, Expectation, mismatches
from grpc_client.hints import advise
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind

Make = Callable[..., Outcome]

EXPECTED = Expectation(("svc1", "svc2"), sidecars=True)
SENT = "1" * 32
OURS = TraceContext(SENT, "1" * 16)
ANOTHER = TraceContext("2" * 32, "2" * 16)
RELAY = Hop("svc1", Role.RELAY, OURS)
LAST = Hop("svc2", Role.LAST, OURS)


def _advice(outcome: Outcome) -> list[str]:
    """On each thing that is wrong with it."""
    return [advise(found.check, outcome, EXPECTED) for found in mismatches(outcome, EXPECTED)]


@pytest.mark.parametrize(
    ("details", "hops", "advice"),
    [
        ("failed to connect to all addresses; last error: … Connection refused", (), "nothing listens there"),
        ("failed to connect to all addresses; last error: … Socket closed", (), "has the caller a sidecar?"),
        ("recvmsg:Connection reset by peer", (RELAY,), "has the caller a sidecar?"),
        ("failed to connect to all addresses; last error: … timed out", (), "does it speak HTTP/2"),
        ("errors resolving svc1:9999: [… Domain name not found]", (), "the name is not known here"),
        ("DNS resolution failed for svc1:9999", (), "the name is not known here"),
        ("Received http2 header with status: 404", (), "a gateway answers that has no route"),
        (
            "no healthy upstream",
            (RELAY,),
            "look behind svc1, the last to report; a proxy answers, and no pod",
        ),
        ("upstream connect error or disconnect/reset before headers", (), "cannot reach what stands behind"),
        ("fault filter abort", (RELAY,), "a fault is injected on purpose"),
        ("RBAC: access denied", (), "AuthorizationPolicy"),
        ("Deadline Exceeded", (), "did not answer in time"),
        ("something else", (RELAY, LAST), "look at svc2, the last to report"),
        ("something else", (), "no hop reported"),
    ],
)
def test_a_call_that_failed(make_outcome: Make, details: str, hops: tuple[Hop, ...], advice: str) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE, details=details, hops=hops, answers=())
    (found,) = _advice(outcome)
    assert advice in found


def test_a_gateway_that_knows_no_way_answers_without_a_word(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNIMPLEMENTED, details="", hops=(), answers=())
    (found,) = _advice(outcome)
    assert "a gateway answers that has no route" in found


@pytest.mark.parametrize(
    ("different", "advice"),
    [
        ({"verdict": Verdict(VerdictKind.NOT_TRACED, "", SENT, "svc1")}, "tracing is off"),
        ({"verdict": Verdict(VerdictKind.NOT_SAMPLED, "", SENT, "svc1")}, "sampling percentage"),
        ({"verdict": Verdict(VerdictKind.NO_SIDECAR, "", SENT, "svc2")}, "the pod of svc2 has no sidecar"),
        (
            {"verdict": Verdict(VerdictKind.NO_SIDECAR, "no trace", hop="svc1")},
            "the pod of svc1 has no sidecar",
        ),
        (
            {"verdict": Verdict(VerdictKind.BROKEN, "", SENT, "svc1"), "hops": (RELAY, LAST)},
            "svc1 does not forward the trace headers",
        ),
        (
            {
                "verdict": Verdict(VerdictKind.BROKEN, "", SENT, "svc1"),
                "hops": (Hop("svc1", Role.RELAY, ANOTHER), LAST),
            },
            "the proxy before svc1 begins a trace of its own",
        ),
        ({"answers": ()}, "look at the last hop"),
    ],
)
def test_a_call_that_went_well_and_is_not_as_expected(
    make_outcome: Make, different: dict[str, Any], advice: str
) -> None:
    outcome = make_outcome(sent_trace_id=SENT, **different)
    assert all(advice in found for found in _advice(outcome))
    assert _advice(outcome)


def test_a_way_that_ends_too_early(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(Hop("svc1", Role.LAST, OURS),))
    assert _advice(outcome) == ["svc1 has no next hop: set its GRPC_HELLO_BACKEND"]


def test_another_way(make_outcome: Make) -> None:
    (found,) = _advice(make_outcome(hops=(RELAY, Hop("svc9", Role.LAST, OURS))))
    assert "GRPC_HELLO_NAME" in found


def test_no_report_at_all(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_REPORT, "no report")
    assert set(_advice(make_outcome(hops=(), verdict=verdict))) == {
        "no hop of this demo answered: is it another service that was called?"
    }


def test_what_a_hop_is_called_cannot_harm_a_terminal(make_outcome: Make) -> None:
    hostile = "\x1b[31m\n"
    for kind in (VerdictKind.BROKEN, VerdictKind.NO_SIDECAR):
        verdict = Verdict(kind, "", SENT, hostile)
        outcome = make_outcome(verdict=verdict, hops=(Hop(hostile, Role.LAST, OURS),), sent_trace_id=SENT)
        assert all(found.isprintable() for found in _advice(outcome))


def test_the_reason_that_is_told_is_the_most_frequent_one(make_outcome: Make) -> None:
    checks = Checks(EXPECTED)
    for details in ("rare", "frequent", "frequent"):
        outcome = make_outcome(code=grpc.StatusCode.INTERNAL, details=details)
        checks.add(outcome, mismatches(outcome, EXPECTED))
    (row,) = (row for row in checks.rows() if row.check is Check.ANSWERS)
    assert (row.calls, row.failed, row.text) == (3, 3, "ended INTERNAL: frequent")


def test_a_thousand_different_reasons_are_counted_and_not_all_kept(make_outcome: Make) -> None:
    checks = Checks(EXPECTED)
    for number in range(1000):
        outcome = make_outcome(code=grpc.StatusCode.INTERNAL, details=f"reason {number}")
        checks.add(outcome, mismatches(outcome, EXPECTED))
    assert checks.rows()[0].failed == 1000
    assert len(checks._advice) == 100


def test_sidecars_are_a_check_only_where_they_are_expected() -> None:
    assert [row.check for row in Checks(Expectation(("svc1",))).rows()] == [
        Check.ANSWERS,
        Check.WAY,
        Check.TRACE,
        Check.SAMPLED,
    ]
