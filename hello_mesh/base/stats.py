"""Figures over many values."""

import math
from collections.abc import Iterable

_RANKS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max of at least one value, by nearest rank: each is a value that occurred."""
    ordered = sorted(values)
    return {name: ordered[math.ceil(rank * len(ordered)) - 1] for name, rank in _RANKS.items()}
