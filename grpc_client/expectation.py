"""Holds an outcome against what was expected of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grpc_client.calls import Outcome
from hello_mesh.base.text import excerpt
from hello_mesh.net.pb.landing_pb2 import OK
from hello_mesh.net.rpc import STATUS_ANSWERED
from hello_mesh.propagation.verdict import VerdictKind

_CONTINUOUS = (VerdictKind.CONNECTED, VerdictKind.NO_SIDECAR, VerdictKind.NOT_TRACED)


class Check(StrEnum):
    """What is looked at in each call, in the order in which a user should mend it."""

    ANSWERS = "answers"
    WAY = "way"
    TRACE = "trace"
    SIDECARS = "sidecars"
    SAMPLED = "sampled"


# Which check a verdict on the trace fails.
_FAILED_BY = {
    VerdictKind.BROKEN: Check.TRACE,
    VerdictKind.NOT_SAMPLED: Check.SAMPLED,
    VerdictKind.NO_SIDECAR: Check.SIDECARS,
    VerdictKind.NOT_TRACED: Check.SIDECARS,
    VerdictKind.NO_REPORT: Check.WAY,
}


@dataclass(frozen=True)
class Expectation:
    """What every call of a run is expected to be."""

    hops: tuple[str, ...]
    """The names of the hops that it takes, first hop first; `a|b` where either will do."""
    sidecars: bool = False
    """Whether a sidecar stands before each of them."""


@dataclass(frozen=True)
class Mismatch:
    """One thing that is wrong with a call."""

    check: Check
    text: str
    """In one line."""


def mismatches(outcome: Outcome, expected: Expectation) -> list[Mismatch]:
    """What is wrong with a call that should have taken exactly the expected hops, in this order, on one
    trace, and, where they are expected, a sidecar before each. None means that all is well."""
    if not outcome.ok:
        return [Mismatch(Check.ANSWERS, f"ended {outcome.code.name}: {excerpt(outcome.details, 200)}")]
    return [
        *(Mismatch(Check.WAY, text) for text in _wrong_way(outcome, expected.hops)),
        *_wrong_trace(outcome, expected),
        *(Mismatch(Check.ANSWERS, text) for text in _wrong_answers(outcome)),
    ]


def looked_at(outcome: Outcome, expected: Expectation) -> set[Check]:
    """Of which checks a call tells anything: one that failed tells nothing of its trace, and a trace that is
    broken nothing of sidecars."""
    if not outcome.ok:
        return {Check.ANSWERS}
    found = {Check.ANSWERS, Check.WAY}
    kind = outcome.verdict.kind
    if kind is not VerdictKind.NO_REPORT:
        found.add(Check.TRACE)
    if expected.sidecars and kind in _CONTINUOUS and outcome.verdict.trace_id is not None:
        found.add(Check.SIDECARS)
    if outcome.verdict.sampled is not None:
        found.add(Check.SAMPLED)
    return found


def _wrong_way(outcome: Outcome, expected: Sequence[str]) -> Iterator[str]:
    taken = [hop.name for hop in outcome.hops]
    same_length = len(taken) == len(expected)
    if not (
        same_length and all(name in wanted.split("|") for name, wanted in zip(taken, expected, strict=True))
    ):
        yield f"went {_way(taken)}, expected {_way(expected)}"


def _wrong_trace(outcome: Outcome, expected: Expectation) -> Iterator[Mismatch]:
    verdict = outcome.verdict
    wanted = (VerdictKind.CONNECTED,) if expected.sidecars else _CONTINUOUS
    if verdict.kind in wanted and verdict.trace_id is not None:
        return
    check = (
        _FAILED_BY[verdict.kind] if verdict.trace_id or verdict.kind is VerdictKind.NO_REPORT else Check.TRACE
    )
    yield Mismatch(check, excerpt(verdict.text, 300))


def _wrong_answers(outcome: Outcome) -> list[str]:
    results = [result for answer in outcome.answers for result in answer.results]
    found = [
        f"a response has status {answer.status}"
        for answer in outcome.answers
        if answer.status != STATUS_ANSWERED
    ]
    answered = [result.kv.get("idx", "") for result in results]
    if answered != outcome.talk.indexes:
        found.append(f"asked for {_listed(outcome.talk.indexes)}, was answered {_listed(answered)}")
    found += [
        "a result holds no greeting" for result in results if result.type != OK or not result.kv.get("data")
    ]
    expected = len(outcome.talk.indexes) if outcome.talk.pattern.streams_answers else 1
    if len(outcome.answers) != expected:
        found.append(f"{len(outcome.answers)} responses came, expected {expected}")
    return found


def _way(names: Sequence[str]) -> str:
    return " → ".join(excerpt(name) for name in names) or "nowhere"


def _listed(indexes: Sequence[str]) -> str:
    return excerpt(",".join(indexes), 60) or "nothing"
