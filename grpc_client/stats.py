"""Counts the outcomes of many calls."""

import math
from collections import Counter
from dataclasses import dataclass, field

from grpc_client.calls import Outcome
from hello_mesh.propagation.verdict import VerdictKind

# Of many calls, so many trace ids of each pattern are kept; the client's record has them all.
_KEPT_TRACE_IDS = 5


@dataclass
class Tally:
    """What is kept of the calls of one pattern."""

    codes: Counter[str] = field(default_factory=Counter)
    """How many calls ended with which status, by its name."""
    verdicts: Counter[VerdictKind] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """How long each call took."""
    trace_ids: list[str] = field(default_factory=list)
    """Of the first calls, those to look up."""

    def add(self, outcome: Outcome) -> None:
        """Counts one more."""
        self.codes[outcome.code.name] += 1
        self.verdicts[outcome.verdict.kind] += 1
        self.seconds.append(outcome.seconds)
        if outcome.verdict.trace_id is not None and len(self.trace_ids) < _KEPT_TRACE_IDS:
            self.trace_ids.append(outcome.verdict.trace_id)

    @property
    def calls(self) -> int:
        """How many were made."""
        return len(self.seconds)

    @property
    def errors(self) -> int:
        """How many did not end OK."""
        return self.calls - self.codes["OK"]

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 and max of the calls' milliseconds, by nearest rank: each is one that occurred."""
        ordered = sorted(self.seconds)
        ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {name: ordered[math.ceil(rank * len(ordered)) - 1] * 1000 for name, rank in ranks.items()}
