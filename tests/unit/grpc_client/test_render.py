"""Text and JSON lines made from values."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client import render
from grpc_client.calls import Outcome
from grpc_client.checks import Checks
from grpc_client.expectation import Expectation, mismatches
from grpc_client.plan import RPC_METHODS, CallSpec
from grpc_client.stats import CallStats
from hello_mesh.net.pb.landing_pb2 import FAIL, TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind

Make = Callable[..., Outcome]

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
W3C = TraceContext(TRACE, SPAN, sampled=True)
B3 = TraceContext("463ac35c9f6413ad48485a3953bb6124", "0020000000000001")
HOSTILE = "\x1b[31m\r\n\0\x7f\x9b\u2028\u202e"
UUID = "9c6f6f0e-0c7c-4b58-8d7b-4f6a5a7d8c11"


def test_the_path_is_an_aligned_table() -> None:
    hops = (
        Hop("grpc-server-svc1", Role.RELAY, W3C, B3),
        Hop("svc2", Role.RELAY, TraceContext(TRACE, SPAN, sampled=False)),
        Hop("svc3", Role.LAST, TraceContext(TRACE, SPAN)),
        Hop("svc4", Role.LAST),
    )
    assert render.hop_table(hops).splitlines() == [
        "hop               trace id                          parent span       sampled",
        "grpc-server-svc1  0af7651916cd43dd8448eb211c80319c  b7ad6b7169203331  yes",
        "                  463ac35c9f6413ad48485a3953bb6124  0020000000000001  - (B3)",
        "svc2              0af7651916cd43dd8448eb211c80319c  b7ad6b7169203331  no",
        "svc3              0af7651916cd43dd8448eb211c80319c  b7ad6b7169203331  -",
        "svc4              -                                 -                 -",
    ]


def test_the_table_of_the_demo_fits_a_terminal_of_80_columns() -> None:
    hops = [Hop(f"grpc-server-svc{number}", Role.RELAY, W3C, B3) for number in (1, 2, 3)]
    assert max(map(len, render.hop_table(hops).splitlines())) <= 80


def test_a_call_without_hops_has_no_table() -> None:
    assert render.hop_table(()) == ""


def test_a_response_is_a_line_for_each_result() -> None:
    kv = {"idx": "3", "data": "こんにちは", "meta": "PYTHON", "id": UUID}
    response = TalkResponse(status=200, results=[TalkResult(kv=kv), TalkResult(kv={"idx": "1"}, type=FAIL)])
    assert render.response_text(response).splitlines() == [
        f"  3  こんにちは  PYTHON  {UUID}",
        "  1        FAIL",
    ]
    assert render.response_text(TalkResponse()) == "  (an empty response)"


def test_the_longest_line_of_a_response_fits_a_terminal_of_80_columns() -> None:
    kv = {"idx": "0", "data": "Bonjour", "meta": "PYTHON", "id": UUID}
    assert len(render.response_text(TalkResponse(results=[TalkResult(kv=kv)]))) <= 80


def test_the_verdict_has_a_line_with_the_trace_id_and_the_duration(make_outcome: Make) -> None:
    assert render.outcome_verdict(make_outcome()) == f"connected: one trace\ntrace id: {TRACE} (1.5 ms)"
    silent = make_outcome(verdict=Verdict(VerdictKind.NO_REPORT, "no report: none"))
    assert render.outcome_verdict(silent) == "no report: none\n(1.5 ms)"


def test_the_trace_id_that_the_client_sent_is_shown_if_the_mesh_has_another(make_outcome: Make) -> None:
    assert render.outcome_verdict(make_outcome(sent=W3C)) == render.outcome_verdict(make_outcome())
    another = TraceContext("1" * 32, SPAN)
    assert render.outcome_verdict(make_outcome(sent=another)).splitlines()[1:] == [
        f"trace id that the client sent: {'1' * 32}",
        f"trace id: {TRACE} (1.5 ms)",
    ]


@pytest.mark.parametrize(
    ("hops", "where"),
    [
        ((), "before any hop reported"),
        ((Hop("svc1", Role.RELAY),), "downstream of svc1"),
        ((Hop("svc1", Role.RELAY), Hop("svc2", Role.RELAY)), "downstream of svc2"),
        ((Hop("svc1", Role.RELAY), Hop("svc2", Role.LAST)), "at svc2"),
    ],
)
def test_a_failure_is_one_line_that_names_the_hop(
    make_outcome: Make, hops: tuple[Hop, ...], where: str
) -> None:
    outcome = make_outcome(code=grpc.StatusCode.NOT_FOUND, details="gone", hops=hops)
    assert render.failure_text(outcome) == f"TalkOneAnswerMore failed {where}: NOT_FOUND: gone"


def test_a_failure_without_a_status_text_has_a_placeholder(make_outcome: Make) -> None:
    assert render.failure_text(make_outcome(code=grpc.StatusCode.UNKNOWN)).endswith("UNKNOWN: (no text)")


def test_control_characters_are_escaped(make_outcome: Make) -> None:
    context = TraceContext(HOSTILE, HOSTILE, sampled=True)
    outcome = make_outcome(
        code=grpc.StatusCode.UNKNOWN,
        details=HOSTILE,
        hops=(Hop(HOSTILE, Role.LAST, context, context, HOSTILE),),
        verdict=Verdict(VerdictKind.BROKEN, HOSTILE, HOSTILE, HOSTILE),
    )
    response = TalkResponse(results=[TalkResult(kv=dict.fromkeys(("idx", "data", "meta", "id"), HOSTILE))])
    rendered = [
        render.failure_text(outcome),
        render.outcome_verdict(outcome),
        render.hop_table(outcome.hops),
        render.response_text(response),
        render.call_json(outcome.record([HOSTILE])),
        render.response_json(1, outcome.spec, response),
    ]
    for text in rendered:
        assert text.replace("\n", "").isprintable()
    assert [text.count("\n") for text in rendered] == [0, 1, 2, 0, 0, 0]
    assert json.loads(rendered[4])["details"] == HOSTILE
    assert json.loads(rendered[5])["results"][0]["kv"]["data"] == HOSTILE


def test_long_values_are_cut(make_outcome: Make) -> None:
    long = "x" * 1_000_000
    outcome = make_outcome(
        code=grpc.StatusCode.UNKNOWN,
        details=long,
        hops=(Hop(long, Role.LAST, W3C),),
        verdict=Verdict(VerdictKind.BROKEN, long, long),
    )
    response = TalkResponse(results=[TalkResult(kv={"data": long})])
    for text in (
        render.failure_text(outcome),
        render.outcome_verdict(outcome),
        render.hop_table(outcome.hops),
        render.response_text(response),
    ):
        assert len(text) < 1000


def test_a_call_as_json_has_these_keys(make_outcome: Make) -> None:
    outcome = make_outcome(hops=(Hop("svc1", Role.LAST, W3C, B3, "r-1"),), sent=W3C)
    assert json.loads(render.call_json(outcome.record(["wrong"]))) == {
        "event": "call",
        "call": 1,
        "rpc": "TalkOneAnswerMore",
        "code": "OK",
        "status": 0,
        "details": "",
        "start_ns": 1_700_000_000_000_000_000,
        "ms": 1.5,
        "trace_id": TRACE,
        "sent_trace_id": TRACE,
        "sent_span_id": SPAN,
        "verdict": {
            "kind": "connected",
            "hop": None,
            "text": "connected: one trace",
            "sampled": None,
            "same_parent": [],
        },
        "unreadable": [],
        "hops": [
            {
                "name": "svc1",
                "role": "last",
                "trace": TRACE,
                "parent": SPAN,
                "sampled": "1",
                "b3-trace": B3.trace_id,
                "b3-parent": B3.span_id,
                "request": "r-1",
            }
        ],
        "mismatches": ["wrong"],
    }


def test_a_response_as_json_has_these_keys() -> None:
    results = [TalkResult(id=7, kv={"data": "Hola"}), TalkResult(type=FAIL)]
    results.append(TalkResult.FromString(b"\x10\x63"))  # a type that this version does not know
    line = render.response_json(
        3, CallSpec(RPC_METHODS[0], ("2",)), TalkResponse(status=200, results=results)
    )
    assert json.loads(line) == {
        "event": "answer",
        "call": 3,
        "rpc": "Talk",
        "status": 200,
        "results": [
            {"id": 7, "type": "OK", "kv": {"data": "Hola"}},
            {"id": 0, "type": "FAIL", "kv": {}},
            {"id": 0, "type": "99", "kv": {}},
        ],
    }


def test_a_summary_as_json_has_these_keys(make_outcome: Make) -> None:
    stats = CallStats()
    stats.add(make_outcome())
    stats.add(make_outcome(code=grpc.StatusCode.UNAVAILABLE, duration_ns=3_000_000))
    assert json.loads(render.stats_json(make_outcome().spec, stats, 1.23456)) == {
        "event": "summary",
        "rpc": "TalkOneAnswerMore",
        "calls": 2,
        "errors": 1,
        "seconds": 1.235,
        "ms": {"p50": 1.5, "p90": 3.0, "p99": 3.0, "max": 3.0},
        "verdicts": {"connected": 2},
        "codes": {"OK": 1, "UNAVAILABLE": 1},
    }


def test_a_summary_as_text_counts_statuses_only_if_there_are_errors(make_outcome: Make) -> None:
    stats = CallStats()
    stats.add(make_outcome())
    spec = make_outcome().spec
    assert render.stats_text(spec, stats, 0.5).splitlines() == [
        "TalkOneAnswerMore: 1 call, 0 errors, 2 calls/s",
        "  ms        p50 1.5  p90 1.5  p99 1.5  max 1.5",
        "  verdicts  connected 1",
        f"  traces    {TRACE}",
    ]
    stats.add(make_outcome(code=grpc.StatusCode.UNAVAILABLE))
    assert render.stats_text(spec, stats, 0.0).splitlines()[0] == "TalkOneAnswerMore: 2 calls, 1 error"
    assert render.stats_text(spec, stats, 0.0).splitlines()[3:] == [
        "  statuses  OK 1, UNAVAILABLE 1",
        f"  traces    {TRACE}",
        f"            {TRACE}",
    ]


def test_a_summary_has_some_trace_ids_and_where_to_find_the_others(make_outcome: Make) -> None:
    stats = CallStats()
    for number in range(1, 8):
        stats.add(make_outcome(verdict=Verdict(VerdictKind.CONNECTED, "", f"{number:032x}")))
    lines = render.stats_text(make_outcome().spec, stats, 1.0).splitlines()
    assert [line.split()[-1] for line in lines[3:8]] == [f"{number:032x}" for number in range(1, 6)]
    assert lines[8:] == ["            … --output json shows all 7 trace ids"]


def _checks(
    make_outcome: Make, *different: dict[str, Any], hops: tuple[str, ...] = ("svc1", "svc2")
) -> Checks:
    checks = Checks(Expectation(hops, sidecars=True))
    for values in different:
        outcome = make_outcome(**values)
        checks.add(outcome, mismatches(outcome, checks.expected))
    return checks


SAMPLED = {"verdict": Verdict(VerdictKind.CONNECTED, "connected", TRACE, sampled=True)}


def test_passed_checks_are_one_line_each(make_outcome: Make) -> None:
    assert render.checks_text(_checks(make_outcome, SAMPLED)).splitlines() == [
        "checks of 1 call",
        "  ok      answers   all responses complete, in order, with their greetings",
        "  ok      path      the expected path: reports of 2 of 2 hops, in order",
        "  ok      trace     one trace id at 2 of 2 hops",
        "  ok      sidecars  a new parent span at 2 of 2 hops",
        "  ok      sampled   the sampled flag at 2 of 2 hops",
    ]


def test_passed_checks_name_what_the_call_with_the_fewest_reports_covered(make_outcome: Make) -> None:
    partial = {"hops": (Hop("svc1", Role.RELAY, W3C, sent=True),)}
    failed = {"code": grpc.StatusCode.UNAVAILABLE, "hops": ()}
    checks = _checks(make_outcome, SAMPLED, SAMPLED | partial, SAMPLED, failed, hops=("svc1", "svc2|?"))
    texts = [line[20:] for line in render.checks_text(checks).splitlines()]
    assert texts[-4:] == [
        "the expected path: reports of 1 of 2 hops, in order",
        "one trace id at 1 of 2 hops",
        "a new parent span at 1 of 2 hops",
        "the sampled flag at 1 of 2 hops",
    ]
    assert json.loads(render.checks_json(checks))["covered"] == {"reported": 1, "hops": 2}


def test_a_failed_check_without_a_known_cause_has_no_hint(make_outcome: Make) -> None:
    failed = {"code": grpc.StatusCode.UNKNOWN, "details": "", "hops": (), "responses": ()}
    assert "→" not in render.checks_text(_checks(make_outcome, failed))


def test_a_failed_check_has_counts_a_reason_and_a_hint(make_outcome: Make) -> None:
    broken = {
        "verdict": Verdict(VerdictKind.BROKEN, "broken at svc1: trace headers not propagated", TRACE, "svc1")
    }
    lines = render.checks_text(_checks(make_outcome, SAMPLED, broken, broken)).splitlines()
    assert lines[0] == "checks of 3 calls"
    assert lines[3] == "  FAILED  trace     2 of 3: broken at svc1: trace headers not propagated"
    assert lines[4].startswith(f"{' ' * 20}→ svc1 does not propagate the trace headers")
    assert "  ok      sampled" in lines[-1]
    assert max(map(len, lines)) <= 80


def test_a_check_without_data_is_neither_passed_nor_failed(make_outcome: Make) -> None:
    failed = {"code": grpc.StatusCode.UNAVAILABLE, "details": "x" * 500, "hops": (), "responses": ()}
    lines = render.checks_text(_checks(make_outcome, failed)).splitlines()
    assert [line.split()[:2] for line in lines[-4:]] == [
        ["-", "path"],
        ["-", "trace"],
        ["-", "sidecars"],
        ["-", "sampled"],
    ]
    assert {line[20:] for line in lines[-4:]} == {"not checked: no successful call"}
    assert max(map(len, lines)) <= 80


def test_a_check_without_data_from_successful_calls_lacks_data_in_the_reports(make_outcome: Make) -> None:
    b3 = {"verdict": Verdict(VerdictKind.CONNECTED, "connected", TRACE)}
    lines = render.checks_text(_checks(make_outcome, b3)).splitlines()
    assert lines[-1] == "  -       sampled   not checked: no data in the hop reports"


def test_checks_as_json_have_these_keys(make_outcome: Make) -> None:
    values = json.loads(render.checks_json(_checks(make_outcome, SAMPLED, hops=("svc9", "svc2"))))
    assert (values["event"], values["calls"]) == ("checks", 1)
    assert values["checks"][0] == {"check": "answers", "calls": 1, "failed": 0, "text": "", "advice": ""}
    path = values["checks"][1]
    assert (path["check"], path["failed"]) == ("path", 1)
    assert path["text"] == "path svc1 → svc2, expected svc9 → svc2"
    assert "GRPC_HELLO_BACKEND" in path["advice"]
