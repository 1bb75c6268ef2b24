"""Reads a hop report: is this call one trace, and if not, where did it break?

What the contract says of the report carries every rule here: the same trace id at every hop means that the
headers were forwarded; another parent at each hop means that a sidecar stands before each; the same parent
at two hops means that none stands between them. Where no hop has another parent than the caller sent, and yet
a request id came up on the way, there are Envoys, and they do not trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import Metadata, TraceContext, first_text, from_b3, from_w3c


class VerdictKind(StrEnum):
    """The six verdicts."""

    CONNECTED = "connected"
    BROKEN = "broken"
    NOT_SAMPLED = "not-sampled"
    NO_SIDECAR = "no-sidecar"
    NOT_TRACED = "not-traced"
    NO_REPORT = "no-report"


@dataclass(frozen=True)
class Verdict:
    """What became of the trace of one call."""

    kind: VerdictKind
    text: str
    """The verdict in one line, for people."""
    trace_id: str | None = None
    """The trace id to look up: of the family that the mesh speaks."""
    hop: str | None = None
    """The hop to look at first: the one that dropped the headers, has no sidecar before it, …"""
    sampled: bool | None = None
    """Whether every hop saw that the trace is recorded. None where that is not told, as by B3."""


@dataclass(frozen=True)
class _Step:
    """What one place on the way saw of one header family."""

    place: str
    context: TraceContext | None


@dataclass(frozen=True)
class HeaderTrail:
    """One header family along the way: first what the client sent, then what each hop saw."""

    family: str
    steps: tuple[_Step, ...]

    @property
    def carried(self) -> bool:
        return any(step.context for step in self.steps)

    @property
    def active(self) -> bool:
        """Whether somebody on the way wrote the headers anew, as a sidecar does that speaks this family.
        One that does not lets them pass as they are."""
        return any(
            after.context and after.context != before.context for before, after in pairwise(self.steps)
        )

    @property
    def trace_id(self) -> str | None:
        """The trace of the last hop that saw one."""
        return next((step.context.trace_id for step in reversed(self.steps) if step.context), None)

    @property
    def breaks(self) -> tuple[_Step, _Step] | None:
        """The first two neighbours that are not in one trace; None where there are none.

        That the client sent nothing is no break: then a trace begins at its first proxy."""
        for before, after in pairwise(self.steps):
            begins = before is self.steps[0] and before.context is None and after.context is not None
            if not begins and _padded(_trace_id(before)) != _padded(_trace_id(after)):
                return before, after
        return None


def evaluate(hops: Sequence[Hop], sent: Metadata, unreadable: str = "") -> Verdict:
    """The verdict on a call.

    Args:
        hops: its hop report, first hop first.
        sent: the metadata that the client sent.
        unreadable: why the hop report could not be read, where it could not.
    """
    if not hops:
        return Verdict(VerdictKind.NO_REPORT, f"no report: {unreadable or 'no hop says what it saw'}")
    sent = tuple(sent)
    threads = [
        thread
        for thread in (
            HeaderTrail(
                "W3C", (_Step("the client", from_w3c(sent)), *(_Step(hop.name, hop.w3c) for hop in hops))
            ),
            HeaderTrail(
                "B3", (_Step("the client", from_b3(sent)), *(_Step(hop.name, hop.b3) for hop in hops))
            ),
        )
        if thread.carried
    ]
    if not threads:
        return Verdict(
            VerdictKind.NO_SIDECAR,
            "no trace: the client sent no trace headers, and no sidecar made any",
            hop=hops[0].name,
        )
    # A family that nobody writes says nothing about the mesh, where there is one that somebody writes.
    active = [thread for thread in threads if thread.active]
    broken = [thread for thread in active or threads if thread.breaks]
    whole = [thread for thread in active or threads if not thread.breaks]
    # Of the families that the mesh speaks, one whole is enough; without a mesh, each is to be forwarded.
    if whole and (active or not broken):
        return _judge_whole(whole[0], hops, proxied=_is_proxied(hops, sent))
    return _judge_broken(broken[0])


def _judge_broken(thread: HeaderTrail) -> Verdict:
    assert thread.breaks is not None  # the caller's choice
    before, after = thread.breaks
    saw = "none" if after.context is None else "another"
    if before is thread.steps[0]:
        text = f"broken before {after.place}: the client began a trace, it saw {saw}"
        return Verdict(VerdictKind.BROKEN, text, thread.trace_id, after.place)
    if before.context is None:
        text = f"broken at {before.place}: it saw no trace, {after.place} saw a new one"
    else:
        text = f"broken at {before.place}: headers not forwarded, {after.place} saw {saw}"
    return Verdict(VerdictKind.BROKEN, text, _trace_id(before) or _trace_id(after), before.place)


def _judge_whole(thread: HeaderTrail, hops: Sequence[Hop], *, proxied: bool) -> Verdict:
    told = [(step.place, step.context.sampled) for step in thread.steps[1:] if step.context]
    unsampled = [place for place, sampled in told if sampled is False]
    if unsampled:
        text = f"not sampled: from {unsampled[0]} on, the mesh records nothing of this trace"
        return Verdict(VerdictKind.NOT_SAMPLED, text, thread.trace_id, unsampled[0], sampled=False)
    sampled = True if told and all(sampled for _, sampled in told) else None
    length = "1 hop" if len(hops) == 1 else f"{len(hops)} hops"
    behind = "" if hops[-1].role is Role.LAST else f", as far as {hops[-1].name}, the last to report"
    way = f"one trace ({thread.family}) over {length}"
    direct = [after.place for before, after in pairwise(thread.steps) if before.context == after.context]
    if not direct:
        text = f"connected: {way}, a sidecar before each{behind}"
        return Verdict(VerdictKind.CONNECTED, text, thread.trace_id, sampled=sampled)
    if proxied and len(direct) == len(hops):
        text = f"not traced: a proxy passed the call on and made no span: {way}{behind}"
        return Verdict(VerdictKind.NOT_TRACED, text, thread.trace_id, direct[0], sampled)
    places = "any of them" if len(direct) == len(hops) > 1 else ", ".join(direct)
    text = f"no sidecar before {places}: {way}{behind}"
    return Verdict(VerdictKind.NO_SIDECAR, text, thread.trace_id, direct[0], sampled)


def _is_proxied(hops: Sequence[Hop], sent: Metadata) -> bool:
    """Whether somebody on the way gave the call a request id, as every Envoy does where it finds none."""
    return not first_text(sent, "x-request-id") and any(hop.request for hop in hops)


def _trace_id(step: _Step) -> str | None:
    return step.context.trace_id if step.context else None


def _padded(trace_id: str | None) -> str | None:
    """A B3 trace id of 64 bits is the same as one of 128 bits that begins with zeros."""
    return trace_id and trace_id.rjust(32, "0")
