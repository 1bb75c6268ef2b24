"""Percentiles by nearest rank."""

import random
from collections.abc import Iterable
from fractions import Fraction

import pytest

from hello_mesh.base.stats import percentiles


@pytest.mark.parametrize(
    ("values", "expected"),
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
    values: Iterable[int], expected: tuple[int, int, int, int]
) -> None:
    shuffled = list(values)
    random.Random(1).shuffle(shuffled)  # noqa: S311
    found = percentiles(shuffled)
    assert list(found) == ["p50", "p90", "p99", "max"]
    assert tuple(found.values()) == expected


def test_no_rounding_error_shifts_a_percentile() -> None:
    for count in range(1, 2000):
        found = percentiles(range(1, count + 1))
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
            rank = -(-Fraction(percent, 100) * count // 1)
            assert found[name] == int(rank), (name, count)
