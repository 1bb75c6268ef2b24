"""Mismatches between a call and the expectation, each with its own line."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation, coverage, evaluated_checks, mismatches, short_answer
from grpc_client.plan import RPC_METHODS, CallSpec
from hello_mesh.net.pb.landing_pb2 import FAIL, TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.verdict import Verdict, VerdictKind

HOPS = ("svc1", "svc2")
HELLO = {"idx": "0", "data": "Hello"}
BONJOUR = {"idx": "1", "data": "Bonjour"}

Make = Callable[..., Outcome]


def _response(*kvs: dict[str, str], status: int = 200, **result: Any) -> TalkResponse:
    return TalkResponse(status=status, results=[TalkResult(kv=kv, **result) for kv in kvs])


def _texts(outcome: Outcome, hops: tuple[str, ...], *, sidecars: bool = False) -> list[str]:
    return [mismatch.text for mismatch in mismatches(outcome, Expectation(hops, sidecars))]


def test_a_call_as_expected_has_no_mismatch(make_outcome: Make) -> None:
    assert _texts(make_outcome(), HOPS) == []


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (("svc2", "svc1"), "path svc1 → svc2, expected svc2 → svc1"),
        (("svc1",), "path svc1 → svc2, expected svc1"),
        (("svc1", "svc2", "svc3"), "path svc1 → svc2, expected svc1 → svc2 → svc3"),
        ((), "path svc1 → svc2, expected (no hops)"),
    ],
)
def test_another_path_is_a_mismatch(make_outcome: Make, expected: tuple[str, ...], text: str) -> None:
    assert _texts(make_outcome(), expected) == [text]


def test_a_missing_report_is_a_mismatch_of_the_path(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(), verdict=Verdict(VerdictKind.NO_REPORT, "no report: none"))
    assert _texts(outcome, HOPS) == ["path (no hops), expected svc1 → svc2", "no report: none"]


@pytest.mark.parametrize("kind", [VerdictKind.BROKEN, VerdictKind.NOT_SAMPLED, VerdictKind.NO_REPORT])
def test_a_trace_that_is_not_connected_is_a_mismatch(make_outcome: Make, kind: VerdictKind) -> None:
    verdict = Verdict(kind, f"{kind}: because", "1" * 32)
    assert _texts(make_outcome(verdict=verdict), HOPS) == [f"{kind}: because"]


@pytest.mark.parametrize("kind", [VerdictKind.NO_SIDECAR, VerdictKind.NOT_TRACED])
def test_a_chain_without_tracing_sidecars_is_accepted_by_default(
    make_outcome: Make, kind: VerdictKind
) -> None:
    verdict = Verdict(kind, "no sidecar in front of any hop", "1" * 32)
    assert _texts(make_outcome(verdict=verdict), HOPS) == []


def test_a_call_without_a_trace_is_a_mismatch(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_SIDECAR, "no trace: none")
    assert _texts(make_outcome(verdict=verdict), HOPS) == ["no trace: none"]


@pytest.mark.parametrize(
    ("responses", "found"),
    [
        pytest.param(
            (_response(HELLO, status=500), _response(BONJOUR)), ["a response has status 500"], id="status"
        ),
        pytest.param(
            (_response(BONJOUR), _response(HELLO)),
            ["sent indexes 0,1, received results for 1,0"],
            id="wrong order",
        ),
        pytest.param(
            (_response(HELLO), _response({"idx": "1", "data": "Hello"})),
            ["index 1 has the greeting Hello, expected Bonjour"],
            id="another greeting",
        ),
        pytest.param(
            (_response(HELLO), _response(HELLO)),
            ["sent indexes 0,1, received results for 0,0"],
            id="another index",
        ),
        pytest.param(
            (_response(HELLO),),
            ["sent indexes 0,1, received results for 0", "received 1 response, expected 2"],
            id="one missing",
        ),
        pytest.param(
            (),
            ["sent indexes 0,1, received results for none", "received 0 responses, expected 2"],
            id="all missing",
        ),
        pytest.param(
            (_response(HELLO), _response(BONJOUR), _response(BONJOUR)),
            ["sent indexes 0,1, received results for 0,1,1", "received 3 responses, expected 2"],
            id="one too many",
        ),
        pytest.param((_response(HELLO, BONJOUR),), ["received 1 response, expected 2"], id="all in one"),
        pytest.param(
            (_response(HELLO), _response(BONJOUR, type=FAIL)), ["a result has no greeting"], id="a FAIL"
        ),
        pytest.param(
            (_response(HELLO), _response({"idx": "1"})), ["a result has no greeting"], id="no greeting"
        ),
        pytest.param(
            (_response(HELLO), _response({"data": "Bonjour"})),
            ["sent indexes 0,1, received results for 0,"],
            id="no index",
        ),
    ],
)
def test_a_wrong_response_is_a_mismatch(
    make_outcome: Make, responses: tuple[TalkResponse, ...], found: list[str]
) -> None:
    assert _texts(make_outcome(responses=responses), HOPS) == found


@pytest.mark.parametrize(
    ("index", "greeting", "text"),
    [
        ("00000003", "こんにちは", ""),
        ("6", "你好", "index 6 has the greeting 你好, expected an error"),
        ("x", "Hello", "index x has the greeting Hello, expected an error"),
        ("-1", "Hello", "index -1 has the greeting Hello, expected an error"),
    ],
)
def test_a_greeting_for_an_invalid_index_is_a_mismatch(
    make_outcome: Make, index: str, greeting: str, text: str
) -> None:
    """Servers of other implementations answer some of them."""
    spec = CallSpec(RPC_METHODS[0], (index,))
    response = _response({"idx": index, "data": greeting})
    assert _texts(make_outcome(spec=spec, responses=(response,)), HOPS) == [text] * bool(text)


@pytest.mark.parametrize(
    ("rpc", "indexes", "received", "found"),
    [
        (0, "0", 1, []),
        (1, "0,1", 2, []),
        (1, "0,1", 3, []),
        (1, "0,1", 1, ["received 1 response, expected 2"]),
        (1, "0,1", 0, ["received 0 responses, expected 2"]),
        (2, "0,1", 1, []),
    ],
)
def test_a_short_answer_is_a_mismatch_without_an_expectation(
    make_outcome: Make, rpc: int, indexes: str, received: int, found: list[str]
) -> None:
    spec = CallSpec(RPC_METHODS[rpc], (indexes,))
    outcome = make_outcome(spec=spec, responses=(_response(),) * received)
    assert [mismatch.text for mismatch in short_answer(outcome)] == found
    failed = make_outcome(spec=spec, responses=(), code=grpc.StatusCode.UNAVAILABLE)
    assert short_answer(failed) == [], "its status is enough"


def _hops(written: str) -> tuple[Hop, ...]:
    """Return hops by name; the last one is a relay if the text ends with "…"."""
    *relays, last = [None if name == "…" else name for name in written.split()]
    hops = [Hop(name or "", Role.RELAY) for name in relays]
    return tuple(hops if last is None else [*hops, Hop(last, Role.LAST)])


@pytest.mark.parametrize(
    ("reported", "expected", "accepted"),
    [
        ("svc1 svc3", "svc1,?,svc3", True),
        ("svc1 svc2 svc3", "svc1,?,svc3", False),
        ("svc1 …", "svc1,?,svc3", False),
        ("svc1 …", "svc1", False),
        ("svc1 …", "svc1,svc2", False),
        ("svc1 …", "svc1,?", True),
        ("svc1 …", "svc1,?,?", True),
        ("svc1 …", "svc1,svc2|?", True),
        ("svc1 svc2 …", "svc1,svc2|?", False),
        ("svc1 svc2", "svc1,svc2|?", True),
        ("svc1", "svc1,?", False),
        ("svc1", "svc1,?,svc1", False),
        ("svc1 svc1", "svc1,?,svc1", True),
        ("svc2 svc3", "?,svc2,svc3", True),
        ("svc3", "?,?,svc3", True),
        ("svc1 svc3", "svc1,svc2|?,svc3", True),
        ("svc1 svc2 svc3", "svc1,svc2|?,svc3", True),
        ("svc1 svc9 svc3", "svc1,svc2|?,svc3", False),
        ("svc1 svc2", "svc1|?,svc1|svc2", True),
        ("svc2", "svc1|?,svc1|svc2", True),
        ("svc2 …", "svc2,?|svc3,svc4", False),
    ],
)
def test_a_question_mark_is_a_hop_that_does_not_report(
    make_outcome: Make, reported: str, expected: str, accepted: bool
) -> None:
    outcome = make_outcome(hops=_hops(reported))
    texts = _texts(outcome, tuple(expected.split(",")))
    assert (texts == []) is accepted, texts


def test_a_path_that_continues_ends_with_a_question_mark(make_outcome: Make) -> None:
    assert _texts(make_outcome(hops=_hops("svc1 …")), ("svc1",)) == ["path svc1 → ?, expected svc1"]


def test_an_unreadable_report_is_a_mismatch_unless_a_hop_need_not_report(make_outcome: Make) -> None:
    outcome = make_outcome(unreadable=("invalid hop report: x\n",))
    assert _texts(outcome, HOPS) == ["invalid hop report: x\\n"]
    assert _texts(outcome, ("svc1", "?", "svc2")) == []


@pytest.mark.parametrize(
    ("reported", "expected", "covered"),
    [
        ("svc1 svc2 svc3", "svc1,svc2,svc3", (3, 3)),
        ("svc1 …", "svc1,?,?", (1, 3)),
        ("svc1 …", "svc1", (1, 2)),
        ("svc1 svc3", "svc1,?,svc3", (2, 3)),
    ],
)
def test_a_call_covers_the_hops_that_reported(
    make_outcome: Make, reported: str, expected: str, covered: tuple[int, int]
) -> None:
    outcome = make_outcome(hops=_hops(reported))
    assert coverage(outcome, Expectation(tuple(expected.split(",")))) == covered


def test_many_requests_have_one_response(make_outcome: Make) -> None:
    spec = CallSpec(RPC_METHODS[2], ("0", "1"))
    assert _texts(make_outcome(spec=spec, responses=(_response(HELLO, BONJOUR),)), HOPS) == []
    assert _texts(make_outcome(spec=spec), HOPS) == ["received 2 responses, expected 1"]


def test_a_failed_call_has_its_status_as_the_only_mismatch(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE, details="down\n\x1b", responses=(), hops=())
    assert _texts(outcome, HOPS) == ["failed with UNAVAILABLE: down\\n\\x1b"]


def test_all_mismatches_are_returned(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.BROKEN, "broken at svc1", "1" * 32)
    outcome = make_outcome(verdict=verdict, responses=(_response(HELLO, status=1), _response(HELLO)))
    assert len(_texts(outcome, ("svc9",))) == 4


def test_a_mismatch_has_no_control_characters(make_outcome: Make) -> None:
    hostile = "\x1b[31m\n\x9b"
    outcome = make_outcome(
        hops=(Hop(hostile, Role.LAST),),
        verdict=Verdict(VerdictKind.BROKEN, f"broken at {hostile}"),
        responses=(_response({"idx": hostile}),),
    )
    found = _texts(outcome, (hostile,))
    assert len(found) == 4
    assert all(text.isprintable() for text in found)


@pytest.mark.parametrize(
    ("expected", "accepted"),
    [
        (("svc1", "svc2|svc2-v2"), True),
        (("svc1", "svc2-v2|svc2"), True),
        (("svc1|svc2", "svc1"), False),
        (("svc1", "svc2-v2"), False),
    ],
)
def test_a_hop_can_have_alternative_names(
    make_outcome: Make, expected: tuple[str, ...], accepted: bool
) -> None:
    assert (_texts(make_outcome(), expected) == []) is accepted


CHECK_OF_KIND = {
    VerdictKind.PARTIAL: Check.SIDECARS,
    VerdictKind.BROKEN: Check.TRACE,
    VerdictKind.MIXED: Check.TRACE,
    VerdictKind.NOT_SAMPLED: Check.SAMPLED,
    VerdictKind.NO_SIDECAR: Check.SIDECARS,
    VerdictKind.NOT_TRACED: Check.SIDECARS,
    VerdictKind.HEADERS_IGNORED: Check.SIDECARS,
    VerdictKind.NO_REPORT: Check.PATH,
}


@pytest.mark.parametrize("kind", CHECK_OF_KIND)
def test_each_verdict_except_connected_fails_one_check(make_outcome: Make, kind: VerdictKind) -> None:
    outcome = make_outcome(verdict=Verdict(kind, "because", "1" * 32, same_parent=("svc1",)))
    (found,) = mismatches(outcome, Expectation(HOPS, sidecars=True))
    assert (found.check, found.text) == (CHECK_OF_KIND[kind], "because")


EVALUATED = [Check.ANSWERS, Check.PATH, Check.TRACE]


@pytest.mark.parametrize(
    ("verdict", "evaluated"),
    [
        (
            Verdict(VerdictKind.CONNECTED, "", "1" * 32, sampled=True),
            [*EVALUATED, Check.SIDECARS, Check.SAMPLED],
        ),
        (Verdict(VerdictKind.CONNECTED, "", "1" * 32), [*EVALUATED, Check.SIDECARS]),
        (
            Verdict(VerdictKind.NO_SIDECAR, "", "1" * 32, sampled=True),
            [*EVALUATED, Check.SIDECARS, Check.SAMPLED],
        ),
        (Verdict(VerdictKind.NOT_TRACED, "", "1" * 32), [*EVALUATED, Check.SIDECARS]),
        (Verdict(VerdictKind.NO_SIDECAR, "no trace"), EVALUATED),
        (Verdict(VerdictKind.NOT_SAMPLED, "", "1" * 32, sampled=False), [*EVALUATED, Check.SAMPLED]),
        (Verdict(VerdictKind.PARTIAL, "", "1" * 32), [*EVALUATED, Check.SIDECARS]),
        (Verdict(VerdictKind.HEADERS_IGNORED, "no trace"), EVALUATED),
        (Verdict(VerdictKind.BROKEN, "", "1" * 32), EVALUATED),
        (Verdict(VerdictKind.MIXED, "", "1" * 32), EVALUATED),
        (Verdict(VerdictKind.NO_REPORT, ""), [Check.ANSWERS, Check.PATH]),
    ],
)
def test_a_call_has_data_for_some_checks_only(
    make_outcome: Make, verdict: Verdict, evaluated: list[Check]
) -> None:
    outcome = make_outcome(verdict=verdict)
    assert sorted(evaluated_checks(outcome, Expectation(HOPS, sidecars=True))) == sorted(evaluated)
    assert Check.SIDECARS not in evaluated_checks(outcome, Expectation(HOPS))


def test_a_failed_call_has_no_data_on_its_trace(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE)
    assert evaluated_checks(outcome, Expectation(HOPS, sidecars=True)) == {Check.ANSWERS}
