"""Counts the outcomes of many calls."""

from collections import Counter
from dataclasses import dataclass, field

from grpc_client.calls import Outcome
from hello_mesh.base.stats import percentiles
from hello_mesh.propagation.verdict import VerdictKind

# How many trace ids of each method the text output shows; JSON output has all of them.
_KEPT_TRACE_IDS = 5


@dataclass
class CallStats:
    """Counts over the calls of one spec."""

    codes: Counter[str] = field(default_factory=Counter)
    """Calls by the name of their status."""
    verdicts: Counter[VerdictKind] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """The duration of each call."""
    trace_ids: list[str] = field(default_factory=list)
    """The trace ids of the first calls."""

    def add(self, outcome: Outcome) -> None:
        """Count one call."""
        self.codes[outcome.code.name] += 1
        self.verdicts[outcome.verdict.kind] += 1
        self.milliseconds.append(outcome.duration_ns / 1e6)
        if outcome.verdict.trace_id is not None and len(self.trace_ids) < _KEPT_TRACE_IDS:
            self.trace_ids.append(outcome.verdict.trace_id)

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        return len(self.milliseconds)

    @property
    def errors(self) -> int:
        """How many calls have a status other than OK."""
        return self.calls - self.codes["OK"]

    def percentiles(self) -> dict[str, float]:
        """Return p50, p90, p99 and max of the durations, in milliseconds."""
        return percentiles(self.milliseconds)
