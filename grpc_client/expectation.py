"""Holds an outcome against what was expected of it."""

from collections.abc import Sequence

from grpc_client.calls import Outcome
from grpc_client.verdict import Kind
from landing.pb.landing_pb2 import OK
from landing.text import shown
from landing.wire import STATUS_ANSWERED

_CONTINUOUS = (Kind.CONNECTED, Kind.NO_SIDECAR)


def mismatches(outcome: Outcome, expected_hops: Sequence[str], *, sidecars: bool = False) -> list[str]:
    """What is wrong with a call that should have taken exactly `expected_hops`, in this order, on one trace,
    and, with `sidecars`, a sidecar before each.

    Each is one line; none means that all is well.
    """
    if not outcome.ok:
        return [f"ended {outcome.code.name}: {shown(outcome.details, 200)}"]
    found = []
    taken = [hop.name for hop in outcome.hops]
    if taken != list(expected_hops):
        found.append(f"went {_way(taken)}, expected {_way(expected_hops)}")
    wanted = (Kind.CONNECTED,) if sidecars else _CONTINUOUS
    if outcome.verdict.kind not in wanted or outcome.verdict.trace_id is None:
        found.append(shown(outcome.verdict.text, 300))
    return found + _wrong_answers(outcome)


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
    return " → ".join(shown(name) for name in names) or "nowhere"


def _listed(indexes: Sequence[str]) -> str:
    return shown(",".join(indexes), 60) or "nothing"
