"""The verdict on a hop report: is this call one trace, and if not, where did it break?

- The same trace id at every hop: the headers were propagated.
- Another parent at each hop: a sidecar in front of each.
- The same parent at two neighbours: no sidecar between them.
- The caller's parent at every hop, and a request id that the caller did not send: proxies without tracing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from hello_mesh.base.text import count
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import Metadata, TraceContext, first_text, from_b3, from_w3c


class VerdictKind(StrEnum):
    """The kinds of verdict."""

    CONNECTED = "connected"
    BROKEN = "broken"
    NOT_SAMPLED = "not-sampled"
    NO_SIDECAR = "no-sidecar"
    NOT_TRACED = "not-traced"
    NO_REPORT = "no-report"


@dataclass(frozen=True)
class Verdict:
    """The verdict on the trace of one call."""

    kind: VerdictKind
    text: str
    """The verdict in one line."""
    trace_id: str | None = None
    """The trace id to look up, of the header family that the mesh traces with."""
    hop: str | None = None
    """The hop to check first: it dropped the headers, has no sidecar in front of it, and so on."""
    sampled: bool | None = None
    """True if every hop saw a sampled trace; None if that is unknown, as with B3."""


@dataclass(frozen=True)
class _PathStep:
    """The context of one header family at one point of the path."""

    place: str
    context: TraceContext | None


@dataclass(frozen=True)
class HeaderTrail:
    """One header family along the path: what the client sent, then what each hop saw."""

    family: str
    steps: tuple[_PathStep, ...]

    @property
    def active(self) -> bool:
        """True if a proxy on the path rewrote the headers, because it traces with this family.

        Other proxies pass them on unchanged.
        """
        return any(
            after.context and after.context != before.context for before, after in pairwise(self.steps)
        )

    @property
    def trace_id(self) -> str | None:
        """The trace id at the last hop that saw one."""
        return next((step.context.trace_id for step in reversed(self.steps) if step.context), None)

    @property
    def breaks(self) -> tuple[_PathStep, _PathStep] | None:
        """The first two neighbours in different traces, None if there are none.

        A client that sent no headers is no break: the trace then starts at the first proxy.
        """
        for before, after in pairwise(self.steps):
            begins = before is self.steps[0] and before.context is None and after.context is not None
            if not begins and _as_128_bits(_step_trace_id(before)) != _as_128_bits(_step_trace_id(after)):
                return before, after
        return None


def evaluate(hops: Sequence[Hop], sent: Metadata, unreadable: str = "") -> Verdict:
    """Return the verdict on a call.

    Args:
        hops: its hop report, first hop first.
        sent: the metadata that the client sent.
        unreadable: the reason why the hop report could not be read, if it could not.
    """
    if not hops:
        return Verdict(VerdictKind.NO_REPORT, f"no report: {unreadable or 'no hop reported what it saw'}")
    sent = tuple(sent)
    families = {
        "W3C": (from_w3c(sent), *(hop.w3c for hop in hops)),
        "B3": (from_b3(sent), *(hop.b3 for hop in hops)),
    }
    places = ("the client", *(hop.name for hop in hops))
    trails = [
        HeaderTrail(family, tuple(map(_PathStep, places, contexts)))
        for family, contexts in families.items()
        if any(contexts)
    ]
    if not trails:
        return Verdict(
            VerdictKind.NO_SIDECAR,
            "no trace: the client sent no trace headers, and no sidecar added any",
            hop=hops[0].name,
        )
    # The verdict uses the family that the proxies rewrite: the mesh traces with that one.
    active = [trail for trail in trails if trail.active]
    broken = [trail for trail in active or trails if trail.breaks]
    whole = [trail for trail in active or trails if not trail.breaks]
    # One whole family is enough in a mesh. Without a mesh, every family must be propagated.
    if whole and (active or not broken):
        return _evaluate_whole(whole[0], hops, proxied=_is_proxied(hops, sent))
    return _evaluate_broken(broken[0])


def _evaluate_broken(trail: HeaderTrail) -> Verdict:
    assert trail.breaks is not None  # the caller checked it
    before, after = trail.breaks
    saw = "none" if after.context is None else "another trace"
    if before is trail.steps[0]:
        text = f"broken in front of {after.place}: the client started a trace, {after.place} saw {saw}"
        return Verdict(VerdictKind.BROKEN, text, trail.trace_id, after.place)
    if before.context is None:
        text = f"broken at {before.place}: it saw no trace, {after.place} saw a new one"
    else:
        text = f"broken at {before.place}: trace headers not propagated, {after.place} saw {saw}"
    return Verdict(VerdictKind.BROKEN, text, _step_trace_id(before) or _step_trace_id(after), before.place)


def _evaluate_whole(trail: HeaderTrail, hops: Sequence[Hop], *, proxied: bool) -> Verdict:
    reported = [(step.place, step.context.sampled) for step in trail.steps[1:] if step.context]
    unsampled = [place for place, sampled in reported if sampled is False]
    if unsampled:
        text = f"not sampled: {unsampled[0]} received the trace without the sampled flag"
        return Verdict(VerdictKind.NOT_SAMPLED, text, trail.trace_id, unsampled[0], sampled=False)
    sampled = True if reported and all(sampled for _, sampled in reported) else None
    up_to = "" if hops[-1].role is Role.LAST else f", as far as {hops[-1].name}, the last hop that reported"
    path = f"one trace ({trail.family}) over {count(len(hops), 'hop')}"
    direct = [after.place for before, after in pairwise(trail.steps) if before.context == after.context]
    if not direct:
        text = f"connected: {path}, a sidecar in front of each{up_to}"
        return Verdict(VerdictKind.CONNECTED, text, trail.trace_id, sampled=sampled)
    if proxied and len(direct) == len(hops):
        text = f"not traced: a proxy passed the call on without a span: {path}{up_to}"
        return Verdict(VerdictKind.NOT_TRACED, text, trail.trace_id, direct[0], sampled)
    places = "any hop" if len(direct) == len(hops) > 1 else ", ".join(direct)
    text = f"no sidecar in front of {places}: {path}{up_to}"
    return Verdict(VerdictKind.NO_SIDECAR, text, trail.trace_id, direct[0], sampled)


def _is_proxied(hops: Sequence[Hop], sent: Metadata) -> bool:
    """Return True if a proxy added a request id, as every Envoy does if a call has none."""
    return not first_text(sent, "x-request-id") and any(hop.request for hop in hops)


def _step_trace_id(step: _PathStep) -> str | None:
    return step.context.trace_id if step.context else None


def _as_128_bits(trace_id: str | None) -> str | None:
    """Return a B3 trace id of 64 bits as one of 128 bits: they are the same trace."""
    return trace_id and trace_id.rjust(32, "0")
