"""Compares an outcome with what is expected of every call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grpc_client.calls import Outcome
from grpc_client.plan import UNREPORTED
from hello_mesh.base.languages import HELLOS
from hello_mesh.base.text import count, excerpt
from hello_mesh.net.pb.landing_pb2 import OK, TalkResult
from hello_mesh.net.rpc import STATUS_ANSWERED
from hello_mesh.propagation.hop_report import open_end
from hello_mesh.propagation.verdict import VerdictKind

_HELLO_OF_INDEX = {str(index): hello for index, hello in enumerate(HELLOS)}

# The report says nothing about sidecars if the trace is not whole, or not sampled.
_WITHOUT_SIDECARS = (VerdictKind.BROKEN, VerdictKind.MIXED, VerdictKind.NOT_SAMPLED, VerdictKind.NO_REPORT)


class Check(StrEnum):
    """What is checked in each call, in the order in which failures should be fixed."""

    ANSWERS = "answers"
    PATH = "path"
    TRACE = "trace"
    SIDECARS = "sidecars"
    SAMPLED = "sampled"


@dataclass(frozen=True)
class Expectation:
    """What is expected of every call of a run."""

    hops: tuple[str, ...]
    """The names of the hops, first hop first. `a|b` accepts either; `?` is a hop that does not report."""
    sidecars: bool = False
    """Whether each hop that reports must have a sidecar in front of it."""


@dataclass(frozen=True)
class Mismatch:
    """One difference between a call and the expectation."""

    check: Check
    text: str
    """The difference in one line."""


def short_answer(outcome: Outcome) -> list[Mismatch]:
    """Return a mismatch if a call succeeded with fewer responses than the client asked for."""
    received, asked = len(outcome.responses), outcome.spec.expected_responses
    if not outcome.ok or received >= asked:
        return []
    return [Mismatch(Check.ANSWERS, f"received {count(received, 'response')}, expected {asked}")]


def mismatches(outcome: Outcome, expected: Expectation) -> list[Mismatch]:
    """Return all differences: in the hops and their order, in the trace, in the sidecars, in the responses.

    A failed call has one mismatch, its status.
    """
    if not outcome.ok:
        details = excerpt(outcome.details, 300)
        return [Mismatch(Check.ANSWERS, f"failed with {outcome.code.name}: {details}")]
    return [
        *(Mismatch(Check.PATH, text) for text in _path_mismatches(outcome, expected)),
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
    verdict = outcome.verdict
    if verdict.kind is not VerdictKind.NO_REPORT:
        found.add(Check.TRACE)
    if expected.sidecars and verdict.kind not in _WITHOUT_SIDECARS and verdict.trace_id is not None:
        found.add(Check.SIDECARS)
    if verdict.sampled is not None:
        found.add(Check.SAMPLED)
    return found


def coverage(outcome: Outcome, expected: Expectation) -> tuple[int, int]:
    """Return how many hops of a call reported, and how many there are at least."""
    reported = len(outcome.hops)
    return reported, max(len(expected.hops), reported + (open_end(outcome.hops) is not None))


def _path_mismatches(outcome: Outcome, expected: Expectation) -> Iterator[str]:
    if not _is_path(outcome, expected.hops):
        actual = [hop.name for hop in outcome.hops] + ([UNREPORTED] if open_end(outcome.hops) else [])
        yield f"path {_path_text(actual)}, expected {_path_text(expected.hops)}"
    elif outcome.unreadable and not any(UNREPORTED in names.split("|") for names in expected.hops):
        yield excerpt(outcome.unreadable[0], 300)


def _is_path(outcome: Outcome, expected: Sequence[str]) -> bool:
    """Return whether the hops that reported are the expected ones, in order.

    A hop that does not report has no place in the report. If it is the last hop, the report ends with a
    relay.
    """
    names = [hop.name for hop in outcome.hops]
    *others, last = [choices.split("|") for choices in expected] or [[]]
    lengths = {0}  # how many reports the expected hops so far can account for
    for choices in others:
        reported = {length + 1 for length in lengths if length < len(names) and names[length] in choices}
        lengths = reported | (lengths if UNREPORTED in choices else set())
    if open_end(outcome.hops):
        return UNREPORTED in last and len(names) in lengths
    return len(names) - 1 in lengths and names[-1] in last


def _trace_mismatches(outcome: Outcome, expected: Expectation) -> Iterator[Mismatch]:
    if check := _failed_check(outcome, expected):
        yield Mismatch(check, excerpt(outcome.verdict.text, 300))


def _failed_check(outcome: Outcome, expected: Expectation) -> Check | None:
    """Return the check that fails with the verdict on the trace."""
    verdict = outcome.verdict
    match verdict.kind:
        case VerdictKind.NO_REPORT:
            return Check.PATH
        case VerdictKind.BROKEN | VerdictKind.MIXED:
            return Check.TRACE
        case VerdictKind.NOT_SAMPLED:
            return Check.SAMPLED
    if verdict.trace_id is None:
        return Check.TRACE
    return Check.SIDECARS if expected.sidecars and verdict.same_parent else None


def _response_mismatches(outcome: Outcome) -> Iterator[str]:
    results = [result for response in outcome.responses for result in response.results]
    for response in outcome.responses:
        if response.status != STATUS_ANSWERED:
            yield f"a response has status {response.status}"
    indexes = [result.kv.get("idx", "") for result in results]
    if indexes != outcome.spec.indexes:
        yield f"sent indexes {_index_list(outcome.spec.indexes)}, received results for {_index_list(indexes)}"
    yield from filter(None, map(_greeting_mismatch, results))
    received, asked = len(outcome.responses), outcome.spec.expected_responses
    if received != asked:
        yield f"received {count(received, 'response')}, expected {asked}"


def _greeting_mismatch(result: TalkResult) -> str:
    """Return what is wrong with the greeting of a result, "" if nothing is."""
    index, hello = result.kv.get("idx", ""), result.kv.get("data", "")
    if result.type != OK or not hello:
        return "a result has no greeting"
    expected = _HELLO_OF_INDEX.get(index.lstrip("0") or "0")
    if not index or hello == expected:
        return ""  # a missing index is a mismatch of the indexes
    return f"index {excerpt(index)} has the greeting {excerpt(hello)}, expected {expected or 'an error'}"


def _path_text(names: Sequence[str]) -> str:
    return " → ".join(excerpt(name) for name in names) or "(no hops)"


def _index_list(indexes: Sequence[str]) -> str:
    return excerpt(",".join(indexes), 60) or "none"
