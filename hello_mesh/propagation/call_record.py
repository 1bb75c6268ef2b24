"""The record of one call: the client prints it as a JSON line, and the mesh's test reads it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hello_mesh.propagation.hop_report import Hop
from hello_mesh.propagation.verdict import Verdict, VerdictKind


@dataclass(frozen=True)
class CallRecord:
    """One call as its caller saw it."""

    number: int
    """Position of the call in the run, from 1."""
    rpc: str
    """The method: "Talk"."""
    code: str
    """The name of the gRPC status: "OK"."""
    status: int
    """Its number."""
    details: str
    """The status text, "" on success."""
    start_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int
    hops: tuple[Hop, ...]
    """The hop report, first hop first."""
    verdict: Verdict
    sent_trace_id: str | None = None
    """The trace that the client started with this call; None if it started none."""
    sent_span_id: str | None = None
    """The span that the client's headers named as the parent."""
    mismatches: tuple[str, ...] = ()
    """Deviations from what is expected of the call, one line each."""
    unreadable: tuple[str, ...] = ()
    """The reasons why parts of the hop report cannot be read."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys and values of the JSON line."""
        return {
            "call": self.number,
            "rpc": self.rpc,
            "code": self.code,
            "status": self.status,
            "details": self.details,
            "start_ns": self.start_ns,
            "ms": self.duration_ns / 1e6,
            "trace_id": self.verdict.trace_id,
            "sent_trace_id": self.sent_trace_id,
            "sent_span_id": self.sent_span_id,
            "verdict": {
                "kind": self.verdict.kind,
                "hop": self.verdict.hop,
                "text": self.verdict.text,
                "sampled": self.verdict.sampled,
                "same_parent": list(self.verdict.same_parent),
            },
            "hops": [hop.to_pairs() for hop in self.hops],
            "unreadable": list(self.unreadable),
            "mismatches": list(self.mismatches),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CallRecord":
        """Return the record of which `to_json` made `values`.

        Raises:
            KeyError, ValueError, HopReportError: `values` have another form.
        """
        verdict = values["verdict"]
        return cls(
            number=values["call"],
            rpc=values["rpc"],
            code=values["code"],
            status=values["status"],
            details=values["details"],
            start_ns=values["start_ns"],
            duration_ns=round(values["ms"] * 1e6),
            hops=tuple(Hop.from_pairs(pairs) for pairs in values["hops"]),
            verdict=Verdict(
                VerdictKind(verdict["kind"]),
                verdict["text"],
                values["trace_id"],
                verdict["hop"],
                verdict["sampled"],
                tuple(verdict["same_parent"]),
            ),
            sent_trace_id=values["sent_trace_id"],
            sent_span_id=values["sent_span_id"],
            mismatches=tuple(values["mismatches"]),
            unreadable=tuple(values["unreadable"]),
        )
