"""Counts over many calls."""

from collections.abc import Callable

import grpc

from grpc_client.calls import Outcome
from grpc_client.stats import CallStats
from hello_mesh.propagation.verdict import Verdict, VerdictKind


def test_calls_errors_and_verdicts_are_counted(make_outcome: Callable[..., Outcome]) -> None:
    stats = CallStats()
    broken = Verdict(VerdictKind.BROKEN, "broken")
    for different in (
        {},
        {"verdict": broken},
        {"code": grpc.StatusCode.UNAVAILABLE, "verdict": broken},
        {"code": grpc.StatusCode.UNAVAILABLE},
        {"code": grpc.StatusCode.INTERNAL},
    ):
        stats.add(make_outcome(**different))
    assert (stats.calls, stats.errors) == (5, 3)
    assert stats.codes == {"OK": 2, "UNAVAILABLE": 2, "INTERNAL": 1}
    assert stats.verdicts == {VerdictKind.CONNECTED: 3, VerdictKind.BROKEN: 2}


def test_percentiles_are_in_milliseconds(make_outcome: Callable[..., Outcome]) -> None:
    stats = CallStats()
    for milliseconds in (3, 1, 2):
        stats.add(make_outcome(duration_ns=milliseconds * 1_000_000))
    assert stats.percentiles() == {"p50": 2, "p90": 3, "p99": 3, "max": 3}


def test_only_the_first_five_trace_ids_are_kept(make_outcome: Callable[..., Outcome]) -> None:
    stats = CallStats()
    for trace_id in (None, *"abcdefg"):
        stats.add(make_outcome(verdict=Verdict(VerdictKind.CONNECTED, "", trace_id)))
    assert stats.trace_ids == [*"abcde"]
