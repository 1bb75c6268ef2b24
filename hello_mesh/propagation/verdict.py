"""The verdict on a hop report: is this call one trace, and if not, where did it break?

- The same trace id at the hops that reported: the headers were propagated as far as they go.
- Another parent at each hop: something in front of each makes spans: a sidecar, or an agent in the caller.
- The same parent at two neighbours: no sidecar that makes spans between them.
- The caller's parent at every hop, and a request id that the caller did not send: proxies without tracing.

Hops of other languages do not report. Two neighbours in the report need not be neighbours on the path, so a
loss between them is blamed on the first one only if it reports that it sent no trace headers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from hello_mesh.base.text import count
from hello_mesh.propagation.hop_report import Hop, Role, open_end
from hello_mesh.propagation.trace_context import (
    Metadata,
    MetadataPairs,
    TraceContext,
    first_text,
    from_b3,
    from_w3c,
    header_problem,
)


class VerdictKind(StrEnum):
    """The kinds of verdict."""

    CONNECTED = "connected"
    PARTIAL = "partial"
    BROKEN = "broken"
    MIXED = "mixed"
    NOT_SAMPLED = "not-sampled"
    NO_SIDECAR = "no-sidecar"
    NOT_TRACED = "not-traced"
    HEADERS_IGNORED = "headers-ignored"
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
    """The hop that the verdict is on: it sent no trace headers, has no sidecar in front of it, and so on.
    None if the report does not show which one it is."""
    sampled: bool | None = None
    """True if every hop that reported saw a sampled trace; None if that is unknown."""
    same_parent: tuple[str, ...] = ()
    """The hops that saw the same parent as the hop upstream: no sidecar made a span in front of them."""


@dataclass(frozen=True)
class _PathStep:
    """The context of one header family at one point of the path."""

    place: str
    context: TraceContext | None
    sent: bool | None = None
    """Whether this hop put trace context on its outgoing call; None if that is unknown."""

    @property
    def trace_id(self) -> str | None:
        """The trace id; one of 64 bits (B3) as one of 128 bits, because they are the same trace."""
        return self.context.trace_id.rjust(32, "0") if self.context else None


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
        return _first_trace_id(*reversed(self.steps))

    @property
    def breaks(self) -> tuple[_PathStep, _PathStep | None] | None:
        """The first two neighbours in different traces, None if there are none.

        A client that sent no headers is no break: the trace then starts at the first proxy. The second of
        them is None if the last hop that reported sent no trace headers.
        """
        for before, after in pairwise(self.steps):
            begins = before is self.steps[0] and before.context is None and after.context is not None
            if not begins and before.trace_id != after.trace_id:
                return before, after
        last = self.steps[-1]
        return (last, None) if last.sent is False else None


def evaluate(
    hops: Sequence[Hop], sent: Metadata, unreadable: Sequence[str] = (), *, answered: bool = True
) -> Verdict:
    """Return the verdict on a call.

    Args:
        hops: its hop report, first hop first.
        sent: the metadata that the client sent.
        unreadable: the reasons why parts of the hop report cannot be read.
        answered: whether the call succeeded.
    """
    sent = tuple(sent)
    verdict = _evaluate_hops(hops, sent) if hops else _evaluate_no_report(sent, answered=answered)
    texts = [verdict.text, *unreadable[:1]]
    if end := open_end(hops):
        texts.insert(1, f"no hop downstream of {end} reported: check the mesh's spans")
    return replace(verdict, text="; ".join(texts))


def _evaluate_no_report(sent: MetadataPairs, *, answered: bool) -> Verdict:
    context = from_w3c(sent) or from_b3(sent)
    text = "no report: no hop reported what it saw"
    if answered:
        text = "no report: the call was answered, but no hop reported what it saw"
    if answered and context:
        text += ": look up the trace id in the mesh's spans"
    return Verdict(VerdictKind.NO_REPORT, text, context.trace_id if context else None)


def _evaluate_hops(hops: Sequence[Hop], sent: MetadataPairs) -> Verdict:
    trails = _trails(hops, sent)
    if not trails:
        return _evaluate_no_trace(hops, sent)
    # The verdict uses the family that the proxies rewrite: the mesh traces with that one.
    active = [trail for trail in trails if trail.active]
    broken = [trail for trail in active or trails if trail.breaks]
    whole = [trail for trail in active or trails if not trail.breaks]
    blamed = [trail for trail in broken if trail.breaks and trail.breaks[0].sent is False]
    if blamed:
        return _evaluate_broken(blamed[0])
    if mixed := _evaluate_mixed(active):
        return mixed
    # One whole family is enough in a mesh. Without a mesh, every family must be propagated.
    if whole and (active or not broken):
        return _evaluate_whole(whole[0], hops, sent)
    return _evaluate_broken(broken[0])


def _trails(hops: Sequence[Hop], sent: MetadataPairs) -> list[HeaderTrail]:
    """Return the header families that the client sent or a hop saw."""
    families = {
        "W3C": (from_w3c(sent), *(hop.w3c for hop in hops)),
        "B3": (from_b3(sent), *(hop.b3 for hop in hops)),
    }
    places = ("the client", *(hop.name for hop in hops))
    relays = (None, *(hop.sent if hop.role is Role.RELAY else None for hop in hops))
    return [
        HeaderTrail(family, tuple(map(_PathStep, places, contexts, relays)))
        for family, contexts in families.items()
        if any(contexts)
    ]


def _evaluate_no_trace(hops: Sequence[Hop], sent: MetadataPairs) -> Verdict:
    if problem := header_problem(sent):
        return Verdict(VerdictKind.HEADERS_IGNORED, f"no trace: {problem}, and no hop saw a trace")
    if _is_proxied(hops, sent):
        text = "not traced: the client sent no trace headers, and the proxies on the path started no trace"
        return Verdict(VerdictKind.NOT_TRACED, text)
    text = "no trace: the client sent no trace headers, and no sidecar added any"
    return Verdict(VerdictKind.NO_SIDECAR, text, hop=hops[0].name)


def _evaluate_mixed(active: Sequence[HeaderTrail]) -> Verdict | None:
    """Return a verdict if two families are rewritten, and not to the same ids.

    A tracer that writes both families writes one span id into both.
    """
    for w3c, b3 in zip(*(trail.steps[1:] for trail in active), strict=True) if len(active) > 1 else ():
        if w3c.context and b3.context and w3c.context.span_id != b3.context.span_id:
            text = (
                f"mixed: W3C and B3 headers were rewritten to different ids at {w3c.place}: tracers of two"
                " kinds are on the path, and their spans are not one tree"
            )
            return Verdict(VerdictKind.MIXED, text, active[0].trace_id)
    return None


def _evaluate_broken(trail: HeaderTrail) -> Verdict:
    assert trail.breaks is not None  # the caller checked it
    before, after = trail.breaks
    trace_id = _first_trace_id(before, after)
    if after is None:
        text = f"broken at {before.place}: it sent no trace headers"
        return Verdict(VerdictKind.BROKEN, text, trace_id, before.place)
    here, there = before.place, after.place
    saw = f"{there} saw {'another trace' if after.context else 'none'}"
    if before is trail.steps[0]:
        text = f"broken in front of {there}: the client started a trace, {saw}"
        return Verdict(VerdictKind.BROKEN, text, trail.trace_id)
    if before.context is None:
        text = f"broken in front of {here}: it saw no trace, {there} saw a new one"
        return Verdict(VerdictKind.BROKEN, text, trace_id)
    if before.sent is False:
        text = f"broken at {here}: trace headers not propagated, {saw}"
        return Verdict(VerdictKind.BROKEN, text, trace_id, here)
    text = f"lost between {here} and {there}: {here} {'sent' if before.sent else 'saw'} the trace, {saw}"
    return Verdict(VerdictKind.BROKEN, text, trace_id)


def _first_trace_id(*steps: _PathStep | None) -> str | None:
    return next((step.context.trace_id for step in steps if step and step.context), None)


def _evaluate_whole(trail: HeaderTrail, hops: Sequence[Hop], sent: MetadataPairs) -> Verdict:
    reported = [(step.place, step.context.sampled) for step in trail.steps[1:] if step.context]
    unsampled = [place for place, sampled in reported if sampled is False]
    if unsampled:
        text = f"not sampled: {unsampled[0]} received the trace without the sampled flag"
        return Verdict(VerdictKind.NOT_SAMPLED, text, trail.trace_id, unsampled[0], sampled=False)
    same_parent = tuple(
        after.place for before, after in pairwise(trail.steps) if before.context == after.context
    )
    path = f"one trace ({trail.family}) over {count(len(hops), 'hop')}"
    kind, text = _describe_whole(path, same_parent, hops, sent)
    sampled = True if all(sampled for _, sampled in reported) else None
    return Verdict(kind, text, trail.trace_id, next(iter(same_parent), None), sampled, same_parent)


def _describe_whole(
    path: str, same_parent: Sequence[str], hops: Sequence[Hop], sent: MetadataPairs
) -> tuple[VerdictKind, str]:
    if len(same_parent) == len(hops):
        if problem := header_problem(sent):
            return VerdictKind.HEADERS_IGNORED, f"not traced: {problem}, and no proxy made a span: {path}"
        if _is_proxied(hops, sent):
            text = f"not traced: a proxy passed the call on without a span: {path}"
            return VerdictKind.NOT_TRACED, text
    places = "any hop" if len(same_parent) == len(hops) > 1 else ", ".join(same_parent)
    seen = f"no sidecar in front of {places}" if same_parent else "a new parent at each"
    if end := open_end(hops):
        return VerdictKind.PARTIAL, f"whole as far as {end}: {path}, {seen}"
    if same_parent:
        return VerdictKind.NO_SIDECAR, f"{seen}: {path}"
    return VerdictKind.CONNECTED, f"connected: {path}, {seen}"


def _is_proxied(hops: Sequence[Hop], sent: MetadataPairs) -> bool:
    """Return True if a proxy added a request id, as every Envoy does if a call has none."""
    return not first_text(sent, "x-request-id") and any(hop.request for hop in hops)
