"""What can be wrong with a call, each thing with its own line."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation, looked_at, mismatches
from grpc_client.plan import PATTERNS, Talk
from hello_mesh.net.pb.landing_pb2 import FAIL, TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.verdict import Verdict, VerdictKind

HOPS = ("svc1", "svc2")
HELLO = {"idx": "0", "data": "Hello"}
BONJOUR = {"idx": "1", "data": "Bonjour"}

Make = Callable[..., Outcome]


def _answer(*kvs: dict[str, str], status: int = 200, **result: Any) -> TalkResponse:
    return TalkResponse(status=status, results=[TalkResult(kv=kv, **result) for kv in kvs])


def _texts(outcome: Outcome, hops: tuple[str, ...], *, sidecars: bool = False) -> list[str]:
    return [mismatch.text for mismatch in mismatches(outcome, Expectation(hops, sidecars))]


def test_a_call_without_fault_has_no_mismatch(make_outcome: Make) -> None:
    assert _texts(make_outcome(), HOPS) == []


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (("svc2", "svc1"), "went svc1 → svc2, expected svc2 → svc1"),
        (("svc1",), "went svc1 → svc2, expected svc1"),
        (("svc1", "svc2", "svc3"), "went svc1 → svc2, expected svc1 → svc2 → svc3"),
        ((), "went svc1 → svc2, expected nowhere"),
    ],
)
def test_another_way_is_told(make_outcome: Make, expected: tuple[str, ...], text: str) -> None:
    assert _texts(make_outcome(), expected) == [text]


def test_no_report_is_no_way(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(), verdict=Verdict(VerdictKind.NO_REPORT, "no report: none"))
    assert _texts(outcome, HOPS) == ["went nowhere, expected svc1 → svc2", "no report: none"]


@pytest.mark.parametrize("kind", [VerdictKind.BROKEN, VerdictKind.NOT_SAMPLED, VerdictKind.NO_REPORT])
def test_a_trace_that_is_not_whole_is_told(make_outcome: Make, kind: VerdictKind) -> None:
    verdict = Verdict(kind, f"{kind}: because", "1" * 32)
    assert _texts(make_outcome(verdict=verdict), HOPS) == [f"{kind}: because"]


def test_a_chain_without_sidecars_is_as_good(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_SIDECAR, "no sidecar before any of them", "1" * 32)
    assert _texts(make_outcome(verdict=verdict), HOPS) == []


def test_no_trace_at_all_is_told(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.NO_SIDECAR, "no trace: none")
    assert _texts(make_outcome(verdict=verdict), HOPS) == ["no trace: none"]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        pytest.param(
            (_answer(HELLO, status=500), _answer(BONJOUR)), ["a response has status 500"], id="status"
        ),
        pytest.param(
            (_answer(BONJOUR), _answer(HELLO)), ["asked for 0,1, was answered 1,0"], id="wrong order"
        ),
        pytest.param(
            (_answer(HELLO), _answer(HELLO)), ["asked for 0,1, was answered 0,0"], id="another index"
        ),
        pytest.param(
            (_answer(HELLO),),
            ["asked for 0,1, was answered 0", "1 responses came, expected 2"],
            id="one missing",
        ),
        pytest.param(
            (),
            ["asked for 0,1, was answered nothing", "0 responses came, expected 2"],
            id="all missing",
        ),
        pytest.param(
            (_answer(HELLO), _answer(BONJOUR), _answer(BONJOUR)),
            ["asked for 0,1, was answered 0,1,1", "3 responses came, expected 2"],
            id="one too many",
        ),
        pytest.param((_answer(HELLO, BONJOUR),), ["1 responses came, expected 2"], id="all in one"),
        pytest.param(
            (_answer(HELLO), _answer(BONJOUR, type=FAIL)), ["a result holds no greeting"], id="a FAIL"
        ),
        pytest.param(
            (_answer(HELLO), _answer({"idx": "1"})), ["a result holds no greeting"], id="no greeting"
        ),
        pytest.param(
            (_answer(HELLO), _answer({"data": "Bonjour"})),
            ["asked for 0,1, was answered 0,"],
            id="no index",
        ),
    ],
)
def test_a_wrong_answer_is_told(
    make_outcome: Make, answers: tuple[TalkResponse, ...], found: list[str]
) -> None:
    assert _texts(make_outcome(answers=answers), HOPS) == found


def test_many_requests_are_answered_in_one_response(make_outcome: Make) -> None:
    talk = Talk(PATTERNS[2], ("0", "1"), "PYTHON", 0.0)
    assert _texts(make_outcome(talk=talk, answers=(_answer(HELLO, BONJOUR),)), HOPS) == []
    assert _texts(make_outcome(talk=talk), HOPS) == ["2 responses came, expected 1"]


def test_of_a_call_that_failed_the_failure_is_all_that_is_told(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE, details="down\n\x1b", answers=(), hops=())
    assert _texts(outcome, HOPS) == ["ended UNAVAILABLE: down\\n\\x1b"]


def test_everything_that_is_wrong_is_told_at_once(make_outcome: Make) -> None:
    verdict = Verdict(VerdictKind.BROKEN, "broken at svc1", "1" * 32)
    outcome = make_outcome(verdict=verdict, answers=(_answer(HELLO, status=1), _answer(HELLO)))
    assert len(_texts(outcome, ("svc9",))) == 4


def test_what_is_told_holds_no_control_characters(make_outcome: Make) -> None:
    hostile = "\x1b[31m\n\x9b"
    outcome = make_outcome(
        hops=(Hop(hostile, Role.LAST),),
        verdict=Verdict(VerdictKind.BROKEN, f"broken at {hostile}"),
        answers=(_answer({"idx": hostile}),),
    )
    found = _texts(outcome, (hostile,))
    assert len(found) == 4
    assert all(text.isprintable() for text in found)


@pytest.mark.parametrize(
    ("expected", "fits"),
    [
        (("svc1", "svc2|svc2-v2"), True),
        (("svc1", "svc2-v2|svc2"), True),
        (("svc1|svc2", "svc1"), False),
        (("svc1", "svc2-v2"), False),
    ],
)
def test_a_hop_may_be_expected_under_several_names(
    make_outcome: Make, expected: tuple[str, ...], fits: bool
) -> None:
    assert (_texts(make_outcome(), expected) == []) is fits


CHECK_OF_KIND = {
    VerdictKind.BROKEN: Check.TRACE,
    VerdictKind.NOT_SAMPLED: Check.SAMPLED,
    VerdictKind.NO_SIDECAR: Check.SIDECARS,
    VerdictKind.NOT_TRACED: Check.SIDECARS,
    VerdictKind.NO_REPORT: Check.WAY,
}


@pytest.mark.parametrize("kind", CHECK_OF_KIND)
def test_each_verdict_that_is_no_good_fails_a_check_of_its_own(make_outcome: Make, kind: VerdictKind) -> None:
    outcome = make_outcome(verdict=Verdict(kind, "because", "1" * 32))
    (found,) = mismatches(outcome, Expectation(HOPS, sidecars=True))
    assert (found.check, found.text) == (CHECK_OF_KIND[kind], "because")


SEEN = [Check.ANSWERS, Check.WAY, Check.TRACE]


@pytest.mark.parametrize(
    ("verdict", "seen"),
    [
        (Verdict(VerdictKind.CONNECTED, "", "1" * 32, sampled=True), [*SEEN, Check.SIDECARS, Check.SAMPLED]),
        (Verdict(VerdictKind.CONNECTED, "", "1" * 32), [*SEEN, Check.SIDECARS]),
        (Verdict(VerdictKind.NO_SIDECAR, "", "1" * 32, sampled=True), [*SEEN, Check.SIDECARS, Check.SAMPLED]),
        (Verdict(VerdictKind.NO_SIDECAR, "no trace"), SEEN),
        (Verdict(VerdictKind.NOT_SAMPLED, "", "1" * 32, sampled=False), [*SEEN, Check.SAMPLED]),
        (Verdict(VerdictKind.BROKEN, "", "1" * 32), SEEN),
        (Verdict(VerdictKind.NO_REPORT, ""), [Check.ANSWERS, Check.WAY]),
    ],
)
def test_a_call_tells_something_of_some_checks_only(
    make_outcome: Make, verdict: Verdict, seen: list[Check]
) -> None:
    outcome = make_outcome(verdict=verdict)
    assert sorted(looked_at(outcome, Expectation(HOPS, sidecars=True))) == sorted(seen)
    assert Check.SIDECARS not in looked_at(outcome, Expectation(HOPS))


def test_a_call_that_failed_tells_nothing_of_its_trace(make_outcome: Make) -> None:
    outcome = make_outcome(code=grpc.StatusCode.UNAVAILABLE)
    assert looked_at(outcome, Expectation(HOPS, sidecars=True)) == {Check.ANSWERS}
