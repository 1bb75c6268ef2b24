"""Hints for calls that are not as expected."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.checks import Checks
from grpc_client.expectation import Check, Expectation, mismatches
from grpc_client.hints import hint
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


def _hints(outcome: Outcome) -> list[str]:
    """Return the hint for each mismatch."""
    return [hint(found.check, outcome, EXPECTED) for found in mismatches(outcome, EXPECTED)]


@pytest.mark.parametrize(
    ("details", "hops", "text"),
    [
        (
            "failed to connect to all addresses; last error: … Connection refused",
            (),
            "no process listens there",
        ),
        (
            "failed to connect to all addresses; last error: … Socket closed",
            (),
            "that the caller has a sidecar",
        ),
        ("recvmsg:Connection reset by peer", (RELAY,), "that the caller has a sidecar"),
        (
            "failed to connect to all addresses; last error: … timed out",
            (),
            "cannot connect: check the address",
        ),
        ("errors resolving svc1:9999: [… Domain name not found]", (), "the name cannot be resolved"),
        ("DNS resolution failed for svc1:9999", (), "the name cannot be resolved"),
        (
            "Received http2 header with status: 404",
            (),
            "the gateway has no route for LandingService: check that Gateway `tracing-gateway`",
        ),
        (
            "no healthy upstream",
            (RELAY,),
            "check the path downstream of svc1, the last hop that reported; a proxy has no ready pod",
        ),
        (
            "upstream connect error or disconnect/reset before headers",
            (),
            "a proxy cannot reach its upstream",
        ),
        ("fault filter abort", (RELAY,), "a fault is injected on purpose"),
        ("RBAC: access denied", (), "AuthorizationPolicy"),
        ("Deadline Exceeded", (), "no response in time: check the logs"),
        ("something else", (RELAY, LAST), "check svc2, the last hop that reported"),
        ("something else", (), "no hop reported: check whether a proxy"),
    ],
)
def test_a_failed_call_has_a_hint_for_its_status_text(
    make_outcome: Make, details: str, hops: tuple[Hop, ...], text: str
) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE, details=details, hops=hops, responses=())
    (found,) = _hints(outcome)
    assert text in found


def test_a_gateway_without_a_route_responds_without_a_status_text(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNIMPLEMENTED, details="", hops=(), responses=())
    (found,) = _hints(outcome)
    assert "the gateway has no route for LandingService: check that Gateway `tracing-gateway`" in found


@pytest.mark.parametrize(
    ("different", "text"),
    [
        ({"verdict": Verdict(VerdictKind.NOT_TRACED, "", SENT, "svc1")}, "tracing is off"),
        ({"verdict": Verdict(VerdictKind.NOT_SAMPLED, "", SENT, "svc1")}, "sampling percentage"),
        (
            {"verdict": Verdict(VerdictKind.NO_SIDECAR, "", SENT, "svc2")},
            "the pod of svc2 or the pod of its caller has no sidecar",
        ),
        (
            {"verdict": Verdict(VerdictKind.NO_SIDECAR, "no trace", hop="svc1")},
            "the pod of svc1 or the pod of its caller has no sidecar",
        ),
        (
            {"verdict": Verdict(VerdictKind.BROKEN, "", SENT, "svc1"), "hops": (RELAY, LAST)},
            "svc1 does not propagate the trace headers",
        ),
        (
            {
                "verdict": Verdict(VerdictKind.BROKEN, "", SENT, "svc1"),
                "hops": (Hop("svc1", Role.RELAY, ANOTHER), LAST),
            },
            "the client's trace did not reach svc1",
        ),
        ({"responses": ()}, "check the last hop"),
    ],
)
def test_a_successful_call_has_a_hint_for_its_verdict(
    make_outcome: Make, different: dict[str, Any], text: str
) -> None:
    outcome = make_outcome(sent=OURS, **different)
    assert all(text in found for found in _hints(outcome))
    assert _hints(outcome)


def test_a_hop_that_does_not_know_a_method_is_not_a_gateway_without_a_route(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNIMPLEMENTED, hops=(RELAY, LAST), responses=())
    assert _hints(outcome) == ["check svc2, the last hop that reported"]


def test_a_trace_that_arrives_in_b3_headers_is_not_lost_before_the_first_hop(make_outcome: Make) -> None:
    hops = (Hop("svc1", Role.RELAY, ANOTHER, OURS), LAST)
    outcome = make_outcome(sent=OURS, verdict=Verdict(VerdictKind.BROKEN, "", SENT, "svc1"), hops=hops)
    (found,) = _hints(outcome)
    assert found.startswith("svc1 does not propagate the trace headers")


def test_a_path_that_is_too_short_has_a_hop_without_a_next_hop(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(Hop("svc1", Role.LAST, OURS),))
    assert _hints(outcome) == ["svc1 has no next hop: set its GRPC_HELLO_BACKEND"]


def test_another_path_is_a_matter_of_names_and_routes(make_outcome: Make) -> None:
    (found,) = _hints(make_outcome(hops=(RELAY, Hop("svc9", Role.LAST, OURS))))
    assert "GRPC_HELLO_NAME" in found


def test_a_call_without_a_report_may_have_reached_another_service(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_REPORT, "no report")
    assert set(_hints(make_outcome(hops=(), verdict=verdict))) == {
        "no hop reported: check that the address is that of this demo"
    }


def test_a_hint_escapes_the_name_of_a_hop(make_outcome: Make) -> None:
    hostile = "\x1b[31m\n"
    for kind in (VerdictKind.BROKEN, VerdictKind.NO_SIDECAR):
        verdict = Verdict(kind, "", SENT, hostile)
        outcome = make_outcome(verdict=verdict, hops=(Hop(hostile, Role.LAST, OURS),), sent=OURS)
        assert all(found.isprintable() for found in _hints(outcome))


def test_the_text_of_a_check_is_its_most_frequent_mismatch(make_outcome: Make) -> None:
    checks = Checks(EXPECTED)
    for details in ("rare", "frequent", "frequent"):
        outcome = make_outcome(code=grpc.StatusCode.INTERNAL, details=details)
        checks.add(outcome, mismatches(outcome, EXPECTED))
    (result,) = (result for result in checks.results() if result.check is Check.ANSWERS)
    assert (result.calls, result.failed, result.text) == (3, 3, "failed with INTERNAL: frequent")


def test_a_thousand_different_mismatches_are_counted_but_not_all_kept(make_outcome: Make) -> None:
    checks = Checks(EXPECTED)
    for number in range(1000):
        outcome = make_outcome(code=grpc.StatusCode.INTERNAL, details=f"reason {number}")
        checks.add(outcome, mismatches(outcome, EXPECTED))
    assert checks.results()[0].failed == 1000
    assert len(checks._hints) == 100


@pytest.mark.parametrize("kind", [kind for kind in VerdictKind if kind is not VerdictKind.CONNECTED])
def test_a_failed_check_counts_as_evaluated(make_outcome: Make, kind: VerdictKind) -> None:
    checks = Checks(EXPECTED)
    outcome = make_outcome(verdict=Verdict(kind, "because", SENT))
    checks.add(outcome, mismatches(outcome, EXPECTED))
    (failed,) = (result for result in checks.results() if result.failed)
    assert (failed.calls, failed.failed, failed.text) == (1, 1, "because")


def test_a_call_with_two_mismatches_of_a_check_fails_it_once(make_outcome: Make) -> None:
    checks = Checks(EXPECTED)
    outcome = make_outcome(responses=())
    found = mismatches(outcome, EXPECTED)
    assert [mismatch.check for mismatch in found] == [Check.ANSWERS] * 2
    checks.add(outcome, found)
    assert checks.results()[0].failed == 1


def test_sidecars_are_checked_only_if_they_are_expected() -> None:
    assert [result.check for result in Checks(Expectation(("svc1",))).results()] == [
        Check.ANSWERS,
        Check.PATH,
        Check.TRACE,
        Check.SAMPLED,
    ]
