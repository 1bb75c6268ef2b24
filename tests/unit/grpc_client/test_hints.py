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
TLS = "failed to connect to all addresses; last error: … Tls handshake failed (TSI_PROTOCOL_FAILURE): …"
SENT = "1" * 32
OURS = TraceContext(SENT, "1" * 16)
ANOTHER = TraceContext("2" * 32, "2" * 16)
RELAY = Hop("svc1", Role.RELAY, OURS)
LAST = Hop("svc2", Role.LAST, OURS)


def _same_parent(kind: VerdictKind, *hops: str) -> Verdict:
    return Verdict(kind, "because", SENT, hops[0], same_parent=hops)


def _hints(outcome: Outcome) -> list[str]:
    """Return the hint for each mismatch."""
    return [hint(found.check, outcome, EXPECTED) for found in mismatches(outcome, EXPECTED)]


@pytest.mark.parametrize(
    ("details", "hops", "text"),
    [
        (
            "failed to connect to all addresses; last error: … Connection refused",
            (),
            "no process listens there: check the address; in a cluster",
        ),
        (
            "failed to connect to all addresses; last error: … Connection refused",
            (RELAY,),
            "check the path downstream of svc1, the last hop that reported; its next hop cannot be reached",
        ),
        (
            "upstream connect error … delayed connect error: Connection refused",
            (),
            "a proxy cannot reach its upstream",
        ),
        (
            "failed to connect to all addresses; last error: … Socket closed",
            (),
            "that the caller has a sidecar",
        ),
        ("recvmsg:Connection reset by peer", (), "that the caller has a sidecar"),
        ("recvmsg:Connection reset by peer", (RELAY,), "its next hop cannot be reached"),
        (f"{TLS} CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", (), "server has expired: renew it"),
        (f"{TLS} CERTIFICATE_VERIFY_FAILED: certificate is not yet valid", (), "is not valid yet"),
        (f"{TLS} CERTIFICATE_VERIFY_FAILED: self signed certificate", (), "is not trusted"),
        ("failed to connect …; Hostname Verification Check failed.", (), "issue it for hello.grpc.io"),
        (f"{TLS} WRONG_VERSION_NUMBER: Invalid certificate", (), "the server does not speak TLS"),
        (f"{TLS} something", (), "the TLS handshake failed: check the certificates"),
        (
            f"{TLS} certificate has expired",
            (RELAY,),
            "downstream of svc1, the last hop that reported; the cert",
        ),
        ("received metadata size exceeds hard limit (70000 vs. 65536)", (), "send less with --header"),
        ("Received http2 header with status: 431", (), "send less with --header"),
        ("Received message larger than max (300000 vs. 262144)", (), "send fewer indexes in one call"),
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
            "nothing serves LandingService there: check the address and, in a cluster, that Gateway",
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
    ],
)
def test_a_failed_call_has_a_hint_for_its_status_text(
    make_outcome: Make, details: str, hops: tuple[Hop, ...], text: str
) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE, details=details, hops=hops, responses=())
    (found,) = _hints(outcome)
    assert text in found


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "something else"),
        (grpc.StatusCode.UNKNOWN, ""),
        (grpc.StatusCode.INTERNAL, "invalid response: the bytes received are not a TalkResponse"),
        (grpc.StatusCode.INVALID_ARGUMENT, "something else"),
    ],
)
def test_without_a_known_cause_there_is_no_hint(
    make_outcome: Make, code: grpc.StatusCode, details: str
) -> None:
    assert _hints(make_outcome(code=code, details=details, hops=(), responses=())) == [""]


def test_an_invalid_index_is_not_the_fault_of_the_hop_that_refused_it(make_outcome: Make) -> None:
    details = 'invalid language index "9": use a number from 0 to 5'
    outcome = make_outcome(code=grpc.StatusCode.INVALID_ARGUMENT, details=details, hops=(RELAY, LAST))
    assert _hints(outcome) == ["an index is not valid: use a number from 0 to 5 in --data"]


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ("", "nothing serves LandingService there: check the address and, in a cluster, that Gateway"),
        ("unknown service org.feuyeux.grpc.LandingService", "the server there has no LandingService"),
        ("Method not found!", "the server there has no LandingService"),
    ],
)
def test_a_gateway_without_a_route_responds_without_a_status_text(
    make_outcome: Make, details: str, text: str
) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNIMPLEMENTED, details=details, hops=(), responses=())
    (found,) = _hints(outcome)
    assert found.startswith(text)


@pytest.mark.parametrize(
    ("different", "text"),
    [
        ({"verdict": _same_parent(VerdictKind.NOT_TRACED, "svc1", "svc2")}, "tracing is off"),
        (
            {"verdict": _same_parent(VerdictKind.HEADERS_IGNORED, "svc1", "svc2")},
            "send a valid traceparent of version 00, or none",
        ),
        (
            {"verdict": Verdict(VerdictKind.HEADERS_IGNORED, "no trace: invalid")},
            "send a valid traceparent of version 00, or none",
        ),
        ({"verdict": Verdict(VerdictKind.MIXED, "", SENT)}, "let all proxies trace with one header family"),
        ({"verdict": Verdict(VerdictKind.NOT_SAMPLED, "", SENT, "svc1")}, "sampling percentage"),
        (
            {"verdict": _same_parent(VerdictKind.NO_SIDECAR, "svc2")},
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
            {"verdict": Verdict(VerdictKind.BROKEN, "lost between svc1 and svc2", SENT)},
            "a proxy there, or a hop that does not report, dropped the trace headers: send both families",
        ),
        ({"responses": ()}, "check the last hop"),
        ({"unreadable": ("invalid hop report: x",)}, "the report of a hop cannot be read"),
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


def test_a_path_that_is_too_short_has_a_hop_without_a_next_hop(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(Hop("svc1", Role.LAST, OURS),))
    assert _hints(outcome) == ["svc1 has no next hop: set its GRPC_HELLO_BACKEND"]


def test_another_path_is_a_matter_of_names_and_routes(make_outcome: Make) -> None:
    (found,) = _hints(make_outcome(hops=(RELAY, Hop("svc9", Role.LAST, OURS))))
    assert "GRPC_HELLO_NAME" in found


def test_a_path_that_continues_without_reports_can_be_expected(make_outcome: Make) -> None:
    (found,) = _hints(make_outcome(hops=(RELAY,)))
    assert found == (
        "no hop downstream of svc1 reported: if it has another implementation, name it ? in --expect-hops"
    )
    expected = Expectation(("svc9", "?"))
    outcome = make_outcome(hops=(RELAY,))
    (found,) = (hint(each.check, outcome, expected) for each in mismatches(outcome, expected))
    assert "GRPC_HELLO_NAME" in found


def test_a_call_without_a_report_may_have_reached_another_service(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_REPORT, "no report")
    assert set(_hints(make_outcome(hops=(), verdict=verdict))) == {
        "look up the trace id in the spans of the mesh: servers of other implementations do not report"
    }


def test_a_hint_escapes_the_name_of_a_hop(make_outcome: Make) -> None:
    hostile = "\x1b[31m\n"
    for kind in (VerdictKind.BROKEN, VerdictKind.NO_SIDECAR):
        verdict = _same_parent(kind, hostile)
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
    outcome = make_outcome(verdict=_same_parent(kind, "svc1"))
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
