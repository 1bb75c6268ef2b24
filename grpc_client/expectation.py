"""Compares an outcome with what is expected of every call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grpc_client.calls import Outcome
from hello_mesh.base.text import count, excerpt
from hello_mesh.net.pb.landing_pb2 import OK
from hello_mesh.net.rpc import STATUS_ANSWERED
from hello_mesh.propagation.verdict import VerdictKind

_CONTINUOUS = (VerdictKind.CONNECTED, VerdictKind.NO_SIDECAR, VerdictKind.NOT_TRACED)


class Check(StrEnum):
    """What is checked in each call, in the order in which failures should be fixed."""

    ANSWERS = "answers"
    PATH = "path"
    TRACE = "trace"
    SIDECARS = "sidecars"
    SAMPLED = "sampled"


# The check that fails with each verdict on the trace.
_FAILED_BY = {
    VerdictKind.BROKEN: Check.TRACE,
    VerdictKind.NOT_SAMPLED: Check.SAMPLED,
    VerdictKind.NO_SIDECAR: Check.SIDECARS,
    VerdictKind.NOT_TRACED: Check.SIDECARS,
    VerdictKind.NO_REPORT: Check.PATH,
}


@dataclass(frozen=True)
class Expectation:
    """What is expected of every call of a run."""

    hops: tuple[str, ...]
    """The names of the hops, first hop first; `a|b` accepts either name."""
    sidecars: bool = False
    """Whether each hop must have a sidecar in front of it."""


@dataclass(frozen=True)
class Mismatch:
    """One difference between a call and the expectation."""

    check: Check
    text: str
    """The difference in one line."""


def mismatches(outcome: Outcome, expected: Expectation) -> list[Mismatch]:
    """Return all differences: in the hops and their order, in the trace, in the sidecars, in the responses.

    A failed call has one mismatch, its status.
    """
    if not outcome.ok:
        details = excerpt(outcome.details, 200)
        return [Mismatch(Check.ANSWERS, f"failed with {outcome.code.name}: {details}")]
    return [
        *(Mismatch(Check.PATH, text) for text in _path_mismatches(outcome, expected.hops)),
        *_trace_mismatches(outcome, expected),
        *(Mismatch(Check.ANSWERS, text) for text in _response_mismatches(outcome)),
    ]


def evaluated_checks(outcome: Outcome, expected: Expectation) -> set[Check]:
    """Return the checks for which a call has data.

    A failed call has none on its trace. A broken trace has none on sidecars.
    """
    if not outcome.ok:
        return {Check.ANSWERS}
    found = {Check.ANSWERS, Check.PATH}
    kind = outcome.verdict.kind
    if kind is not VerdictKind.NO_REPORT:
        found.add(Check.TRACE)
    if expected.sidecars and kind in _CONTINUOUS and outcome.verdict.trace_id is not None:
        found.add(Check.SIDECARS)
    if outcome.verdict.sampled is not None:
        found.add(Check.SAMPLED)
    return found


def _path_mismatches(outcome: Outcome, expected: Sequence[str]) -> Iterator[str]:
    actual = [hop.name for hop in outcome.hops]
    same_length = len(actual) == len(expected)
    if not (
        same_length and all(name in names.split("|") for name, names in zip(actual, expected, strict=True))
    ):
        yield f"path {_path_text(actual)}, expected {_path_text(expected)}"


def _trace_mismatches(outcome: Outcome, expected: Expectation) -> Iterator[Mismatch]:
    verdict = outcome.verdict
    accepted = (VerdictKind.CONNECTED,) if expected.sidecars else _CONTINUOUS
    if verdict.kind in accepted and verdict.trace_id is not None:
        return
    check = (
        _FAILED_BY[verdict.kind] if verdict.trace_id or verdict.kind is VerdictKind.NO_REPORT else Check.TRACE
    )
    yield Mismatch(check, excerpt(verdict.text, 300))


def _response_mismatches(outcome: Outcome) -> list[str]:
    results = [result for response in outcome.responses for result in response.results]
    found = [
        f"a response has status {response.status}"
        for response in outcome.responses
        if response.status != STATUS_ANSWERED
    ]
    indexes = [result.kv.get("idx", "") for result in results]
    if indexes != outcome.spec.indexes:
        found.append(
            f"sent indexes {_index_list(outcome.spec.indexes)}, received results for {_index_list(indexes)}"
        )
    found += [
        "a result has no greeting" for result in results if result.type != OK or not result.kv.get("data")
    ]
    expected = len(outcome.spec.indexes) if outcome.spec.method.streams_responses else 1
    if len(outcome.responses) != expected:
        found.append(f"received {count(len(outcome.responses), 'response')}, expected {expected}")
    return found


def _path_text(names: Sequence[str]) -> str:
    return " → ".join(excerpt(name) for name in names) or "(no hops)"


def _index_list(indexes: Sequence[str]) -> str:
    return excerpt(",".join(indexes), 60) or "none"
