"""Counting calls."""

import random
from collections.abc import Callable
from fractions import Fraction

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.stats import Tally
from hello_mesh.propagation.verdict import Verdict, VerdictKind


def test_calls_errors_and_verdicts_are_counted(make_outcome: Callable[..., Outcome]) -> None:
    tally = Tally()
    broken = Verdict(VerdictKind.BROKEN, "broken")
    for different in (
        {},
        {"verdict": broken},
        {"code": grpc.StatusCode.UNAVAILABLE, "verdict": broken},
        {"code": grpc.StatusCode.UNAVAILABLE},
        {"code": grpc.StatusCode.INTERNAL},
    ):
        tally.add(make_outcome(**different))
    assert (tally.calls, tally.errors) == (5, 3)
    assert tally.codes == {"OK": 2, "UNAVAILABLE": 2, "INTERNAL": 1}
    assert tally.verdicts == {VerdictKind.CONNECTED: 3, VerdictKind.BROKEN: 2}


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ([7], (7, 7, 7, 7)),
        ([1, 2], (1, 2, 2, 2)),
        ([1, 2, 3], (2, 3, 3, 3)),
        (range(1, 11), (5, 9, 10, 10)),
        (range(1, 101), (50, 90, 99, 100)),
        (range(1, 102), (51, 91, 100, 101)),
        (range(1, 1001), (500, 900, 990, 1000)),
    ],
)
def test_percentiles_are_values_that_occurred(
    milliseconds: list[int], expected: tuple[int, int, int, int]
) -> None:
    seconds = [value / 1000 for value in milliseconds]
    random.Random(1).shuffle(seconds)  # noqa: S311
    found = Tally(seconds=seconds).percentiles()
    assert list(found) == ["p50", "p90", "p99", "max"]
    assert tuple(found.values()) == pytest.approx(expected)


def test_no_rounding_error_moves_a_percentile() -> None:
    for count in range(1, 2000):
        ordered = [float(value) for value in range(1, count + 1)]
        found = Tally(seconds=ordered).percentiles()
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
            rank = -(-Fraction(percent, 100) * count // 1)
            assert found[name] == int(rank) * 1000, (name, count)
