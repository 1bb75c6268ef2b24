"""The wanted tree as data, held against the spans that came: what differs, and what is likely to cause it.

A hop that does not forward the trace headers breaks a trace in two: its outbound span begins a trace of its
own. So the rest of a broken trace is sought among the other traces, by the x-request-id, where that was
forwarded, and otherwise by time: it begins while the span from which it was torn off was running.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from hello_mesh.base.text import excerpt
from hello_mesh.tracing.span import Origin, Span, SpanKind
from hello_mesh.tracing.tree import Node, Tree, build, where

CLOCKS_NS = 100_000_000
"""How far apart the clocks of two machines may be."""

# Of many surplus spans, so many are told one by one.
_TOLD_EXTRAS = 10


class MismatchKind(StrEnum):
    """How a trace can differ from the wanted tree."""

    NO_SPANS = "no-spans"
    NOT_FORWARDED = "not-forwarded"
    NOT_CONTINUED = "not-continued"
    NO_SIDECAR = "no-sidecar"
    NOT_REACHED = "not-reached"
    MISSING = "missing"
    WRONG_PARENT = "wrong-parent"
    EXTRA = "extra"
    UNEXPECTED_SERVICE = "unexpected-service"


@dataclass(frozen=True)
class TraceMismatch:
    """One difference."""

    kind: MismatchKind
    service: str | None
    """The service to look at first."""
    text: str
    """What differs and what is likely to cause it, in one line."""


@dataclass(frozen=True)
class ExpectedSpan:
    """A span that a trace should have, and those below it."""

    service: str
    """In full (`grpc-server-svc2.grpc-tracing`), or without the namespace."""
    kinds: frozenset[SpanKind] = frozenset()
    """Which side of a call it may describe; empty: any."""
    operation: str = "*"
    """A pattern for its name, as of file names."""
    children: tuple["ExpectedSpan", ...] = ()

    def fits(self, span: Span) -> bool:
        """Whether `span`, by itself, can be this one."""
        return (
            _is_of(span, self.service)
            and (not self.kinds or span.kind in self.kinds)
            and fnmatchcase(span.name, self.operation)
        )

    @property
    def label(self) -> str:
        """As texts name it: its service and side."""
        sides = {SpanKind.SERVER: "inbound ", SpanKind.CLIENT: "outbound "}
        side = "".join(sides.get(kind, "") for kind in self.kinds) if len(self.kinds) == 1 else ""
        return f"the {side}span of {excerpt(self.service, 80)}"


@dataclass(frozen=True)
class Comparison:
    """What came of holding spans against a wanted tree."""

    mismatches: tuple[TraceMismatch, ...]
    pieces: tuple[str, ...] = ()
    """Other traces in which the rest of a broken one was found. Where no x-request-id tells, it may be that
    of another call that ran at the same moment and broke at the same hop."""
    complete: bool = False
    """Whether each wanted span was found, be it in the wrong place."""

    @property
    def ok(self) -> bool:
        """Whether the trace is as wanted."""
        return not self.mismatches


def expected_chain(
    hops: Sequence[str], *, gateway: str | None = None, requestor: str | None = None
) -> ExpectedSpan:
    """The tree that sidecars make of a chain of hops.

    Args:
        hops: the services, first hop first; at least one.
        gateway: the service before them, where there is one.
        requestor: the service that sends the first span, where the caller itself does.
    """
    way = [] if requestor is None else [(requestor, frozenset({SpanKind.CLIENT}))]
    way += [] if gateway is None else [(gateway, frozenset())]  # which side its span shows is its setting
    for hop in hops:
        way += [(hop, frozenset({SpanKind.SERVER})), (hop, frozenset({SpanKind.CLIENT}))]
    way.pop()  # the last hop calls nobody
    wanted: tuple[ExpectedSpan, ...] = ()
    for service, kinds in reversed(way):
        wanted = (ExpectedSpan(service, kinds, children=wanted),)
    return wanted[0]


def compare(
    found: Sequence[Span], wanted: ExpectedSpan, related: Iterable[Sequence[Span]] = ()
) -> Comparison:
    """Holds the spans of a trace against the tree that it should be.

    What is above the wanted root is not judged: it belongs to the caller.

    Args:
        found: the spans that came under the trace's id.
        wanted: the tree.
        related: other traces, in which the rest of this one may be.
    """
    if not found:
        text = (
            "no span came under this trace id: it is not sampled, tracing is off, the mesh reads other"
            " headers than the caller sent (W3C or B3), or its spans go elsewhere"
        )
        return Comparison((TraceMismatch(MismatchKind.NO_SPANS, None, text),))
    return TraceMatcher(found, wanted, related).result()


@dataclass(frozen=True)
class _Place:
    """Where a wanted span was found."""

    tree: Tree
    node: Node

    @property
    def span(self) -> Span:
        return self.node.span

    @property
    def key(self) -> tuple[int, int]:
        return id(self.tree), self.node.index


@dataclass(frozen=True)
class _Step:
    """A wanted span and the number of the one above it."""

    wanted: ExpectedSpan
    above: int | None


class TraceMatcher:
    """One comparison: first every wanted span gets a place where there is one, then places are judged."""

    def __init__(
        self, found: Sequence[Span], wanted: ExpectedSpan, related: Iterable[Sequence[Span]]
    ) -> None:
        self._tree = build(found)
        self._pieces = [build(spans) for spans in related if spans]
        self._steps = list(_flattened(wanted))
        self._below = {id(tree): _counts_below(tree) for tree in (self._tree, *self._pieces)}
        self._request_ids = {node.span.request_id for node in self._tree.nodes if node.span.request_id}
        self._used: set[tuple[int, int]] = set()
        self._places: list[_Place | None] = []

    def result(self) -> Comparison:
        for number, step in enumerate(self._steps):
            place = self._find(number, step)
            self._places.append(place)
            if place:
                self._used.add(place.key)
        mismatches = [*self._misplaced(), *self._missing(), *self._surplus()]
        pieces = dict.fromkeys(
            place.span.trace_id for place in self._places if place and place.tree is not self._tree
        )
        return Comparison(tuple(mismatches), tuple(pieces), all(self._places))

    # Finding places

    def _find(self, number: int, step: _Step) -> _Place | None:
        anchor = self._anchor(number)
        tree = anchor.tree if anchor else self._tree
        candidates = [node for node in tree.nodes if self._is_free(tree, node, step.wanted)]
        if candidates:
            return _Place(tree, max(candidates, key=lambda node: self._rank(tree, node, anchor)))
        if self._goes_on_in(tree, number):
            return None  # only this span is missing: what comes behind it is of this very trace
        torn = [_Place(piece, node) for piece in self._pieces for node in self._torn(piece, step, anchor)]
        return max(torn, key=lambda place: self._likelihood(place, anchor), default=None)

    def _goes_on_in(self, tree: Tree, number: int) -> bool:
        """Whether a wanted span below this one is in the tree."""
        below = {number}
        for other in range(number + 1, len(self._steps)):
            step = self._steps[other]
            if step.above in below:
                below.add(other)
                if any(self._is_free(tree, node, step.wanted) for node in tree.nodes):
                    return True
        return False

    def _anchor(self, number: int) -> _Place | None:
        """Where the nearest span above a wanted one was found."""
        above = self._steps[number].above
        while above is not None and self._places[above] is None:
            above = self._steps[above].above
        return None if above is None else self._places[above]

    def _is_free(self, tree: Tree, node: Node, wanted: ExpectedSpan) -> bool:
        return wanted.fits(node.span) and (id(tree), node.index) not in self._used

    def _rank(self, tree: Tree, node: Node, anchor: _Place | None) -> tuple[bool, bool, int, int]:
        """The greater, the better a place: below the anchor, best right below; of several, as after a
        retry, the one with most below it; else the first."""
        counts = self._below[id(tree)]
        above = anchor.node.index if anchor else -1
        near = anchor is not None and node.parent == above
        # A node's descendants follow it without a break.
        below = anchor is not None and above < node.index <= above + counts[above]
        return near, below, counts[node.index], -node.index

    def _torn(self, piece: Tree, step: _Step, anchor: _Place | None) -> Iterator[Node]:
        """The roots of another trace that can be a wanted span which was torn off this one."""
        spans = [anchor.span] if anchor else [root.span for root in self._tree.roots]
        for node in piece.roots:
            begins = node.span.parent_id is None and any(_starts_within(node.span, span) for span in spans)
            if self._is_free(piece, node, step.wanted) and (
                begins or node.span.request_id in self._request_ids
            ):
                yield node

    def _likelihood(self, place: _Place, anchor: _Place | None) -> tuple[bool, int]:
        """The greater, the likelier a torn-off span is this trace's. The request id names the right one; by
        time alone it may be that of a call that ran at the same moment."""
        frame = anchor.span if anchor else self._tree.nodes[0].span
        early = max(0, frame.start_ns - place.span.start_ns)
        late = max(0, place.span.end_ns - frame.end_ns)
        return place.span.request_id in self._request_ids, -early - late

    # Judging places

    def _misplaced(self) -> Iterator[TraceMismatch]:
        for number, (step, place) in enumerate(zip(self._steps, self._places, strict=True)):
            anchor = self._anchor(number)
            tree = anchor.tree if anchor else self._tree
            if place is None:
                continue
            if place.tree is not tree:
                yield self._torn_off(step, anchor)
            elif anchor and self._places[step.above or 0] is anchor and not self._hangs_right(place, anchor):
                yield _wrong_parent(step.wanted, place, anchor)

    def _torn_off(self, step: _Step, anchor: _Place | None) -> TraceMismatch:
        above = None if step.above is None else self._steps[step.above].wanted
        begins = f"{step.wanted.label} starts a trace of its own"
        if above is None or anchor is None:
            text = f"{begins}: it does not continue the caller's ({_SPEAK})"
            return TraceMismatch(MismatchKind.NOT_CONTINUED, step.wanted.service, text)
        service = excerpt(above.service, 80)
        if above.service == step.wanted.service:
            begins = "its outbound span starts a trace of its own"
        elif self._places[step.above or 0]:
            text = f"{begins}: it does not continue that of {service} ({_SPEAK})"
            return TraceMismatch(MismatchKind.NOT_CONTINUED, step.wanted.service, text)
        # An application stands between two proxies. Where its own proxy's outbound span is missing as well,
        # the next proxy's is the first to show what the application sent.
        text = f"{service} did not forward {_headers(anchor.span)}: {begins}"
        return TraceMismatch(MismatchKind.NOT_FORWARDED, above.service, text)

    def _hangs_right(self, place: _Place, anchor: _Place) -> bool:
        """Whether a span hangs under its anchor, spans of the application between them let pass."""
        hops = {_hop(place.span), _hop(anchor.span)}
        node = place.tree.parent(place.node)
        between: list[Node] = []
        while node is not None and node is not anchor.node:
            if _hop(node.span) not in hops:
                return False
            between.append(node)
            node = place.tree.parent(node)
        self._used.update((id(place.tree), inner.index) for inner in between)
        return node is not None

    # Judging what is missing

    def _missing(self) -> Iterator[TraceMismatch]:
        for number, place in enumerate(self._places):
            above = self._steps[number].above
            begins = above is None or self._places[above] is not None
            if place is None and begins:
                yield _missing(self._hole(number))

    def _run(self, number: int) -> list[int]:
        """The wanted spans that are missing together: this one, and those below it without a found one
        between."""
        run = [number]
        for other in range(number + 1, len(self._steps)):
            if self._steps[other].above in run and self._places[other] is None:
                run.append(other)
        return run

    def _first_behind(self, run: Sequence[int]) -> int | None:
        """The first wanted span below a missing run that was found."""
        behind = (
            number for number, step in enumerate(self._steps) if step.above in run and number not in run
        )
        return next(behind, None)

    def _hole(self, number: int) -> "_Hole":
        run = self._run(number)
        behind = self._first_behind(run)
        return _Hole(
            tuple(self._steps[other].wanted for other in run),
            self._anchor(number),
            None if behind is None else self._places[behind],
            None if behind is None else self._steps[behind].wanted,
        )

    # Judging what is too much

    def _surplus(self) -> Iterator[TraceMismatch]:
        extras = list(self._extras())
        for node in extras[:_TOLD_EXTRAS]:
            yield self._extra(node)
        if len(extras) > _TOLD_EXTRAS:
            text = f"and {len(extras) - _TOLD_EXTRAS} more spans that are not wanted"
            yield TraceMismatch(MismatchKind.EXTRA, None, text)

    def _extras(self) -> Iterator[Node]:
        """The spans of the trace that have no place in the wanted tree, without those below another such."""
        passed = set(self._above_root())
        surplus: set[int] = set()
        for node in self._tree.nodes:
            parent = self._tree.parent(node)
            if node.index in passed or (id(self._tree), node.index) in self._used:
                continue
            if parent is not None and _is_inner(node.span, parent.span):
                passed.add(node.index)
                continue
            surplus.add(node.index)
            if node.parent not in surplus:
                yield node

    def _above_root(self) -> Iterator[int]:
        """What stands above the first wanted span that was found."""
        place = next((place for place in self._places if place), None)
        node = self._tree.parent(place.node) if place and place.tree is self._tree else None
        while node is not None:
            yield node.index
            node = self._tree.parent(node)

    def _extra(self, node: Node) -> TraceMismatch:
        span = node.span
        below = self._below[id(self._tree)][node.index]
        more = f" and {below} below it" if below else ""
        service = span.service
        if not any(_is_of(span, step.wanted.service) for step in self._steps):
            text = f"{where(span)}{more}: a service that this call should not meet"
            return TraceMismatch(MismatchKind.UNEXPECTED_SERVICE, service, text)
        again = any(
            place and place.span.kind is span.kind and place.span.service == service for place in self._places
        )
        cause = "called once more, as by a retry" if again else "not wanted here"
        return TraceMismatch(MismatchKind.EXTRA, service, f"{where(span)}{more}: {cause}")


@dataclass(frozen=True)
class _Hole:
    """ExpectedSpan spans that are missing together."""

    wanted: tuple[ExpectedSpan, ...]
    anchor: _Place | None
    """The nearest found one above them."""
    behind: _Place | None
    """The first found one below them."""
    wanted_behind: ExpectedSpan | None

    @property
    def service(self) -> str:
        return self.wanted[0].service

    @property
    def services(self) -> str:
        return excerpt(", ".join(dict.fromkeys(wanted.service for wanted in self.wanted)), 200)

    @property
    def label(self) -> str:
        count = len(self.wanted)
        return self.wanted[0].label if count == 1 else f"{count} spans of {self.services}"


_SPEAK = "do both speak the same headers, W3C or B3?"


def _missing(hole: _Hole) -> TraceMismatch:
    if hole.behind is not None and hole.wanted_behind is not None:
        return _missing_between(hole, hole.behind, hole.wanted_behind)
    if hole.anchor is None:
        text = f"{hole.label}: missing, and nothing else is there that is wanted: the trace of another call"
        return TraceMismatch(MismatchKind.MISSING, hole.service, text)
    above = hole.anchor.span
    if above.failed:
        text = f"the call ended before it: {where(above)} failed{_failure(above)}; missing: {hole.label}"
        return TraceMismatch(MismatchKind.NOT_REACHED, hole.service, text)
    if _is_of(above, hole.service):
        cause = "made no call, made it past its sidecar, or in a new trace that is not sampled"
    else:
        cause = "has no sidecar, or one that records nothing"
    text = f"{hole.label}: missing; still on the way, or {excerpt(hole.service, 80)} {cause}"
    return TraceMismatch(MismatchKind.MISSING, hole.service, text)


def _missing_between(hole: _Hole, behind: _Place, wanted: ExpectedSpan) -> TraceMismatch:
    anchor = hole.anchor
    if anchor is None:
        cause = "the call did not pass it, or it records nothing, or they are still on the way"
        text = f"{hole.label}: missing above {wanted.label}; {cause}"
        return TraceMismatch(MismatchKind.MISSING, hole.service, text)
    if behind.tree is anchor.tree and behind.node.parent == anchor.node.index:
        text = f"{hole.services} has no sidecar on this way: {wanted.label} hangs under {where(anchor.span)}"
        return TraceMismatch(MismatchKind.NO_SIDECAR, hole.service, f"{text}; missing: {hole.label}")
    if behind.tree is anchor.tree and behind.span.parent_id is not None and behind.node.parent is None:
        text = (
            f"{hole.label}: made, as {wanted.label} hangs under it, but not here: still on the way, or lost"
        )
        return TraceMismatch(MismatchKind.MISSING, hole.service, text)
    text = f"{hole.label}: missing; {hole.services} has no sidecar on this way, or one that records nothing"
    return TraceMismatch(MismatchKind.MISSING, hole.service, text)


def _wrong_parent(wanted: ExpectedSpan, place: _Place, anchor: _Place) -> TraceMismatch:
    parent = place.tree.parent(place.node)
    if parent is not None:
        actual = f"hangs under {where(parent.span)}"
    elif place.span.parent_id is None:
        actual = "is a root"
    else:
        actual = f"hangs under a span that is not there ({place.span.parent_id})"
    if _is_of(anchor.span, wanted.service):
        cause = f"{excerpt(wanted.service, 80)} forwarded other trace headers than it received"
    else:
        cause = "something between them changed the trace headers"
    text = f"{wanted.label} {actual}, not under {where(anchor.span)}: {cause}"
    return TraceMismatch(MismatchKind.WRONG_PARENT, wanted.service, text)


def _flattened(wanted: ExpectedSpan) -> Iterator[_Step]:
    """Each wanted span after the one above it."""
    pending: list[_Step] = [_Step(wanted, None)]
    number = 0
    while pending:
        step = pending.pop()
        yield step
        pending.extend(_Step(child, number) for child in reversed(step.wanted.children))
        number += 1


def _counts_below(tree: Tree) -> list[int]:
    """How many spans are below each."""
    counts = [0] * len(tree.nodes)
    for node in reversed(tree.nodes):
        if node.parent is not None:
            counts[node.parent] += counts[node.index] + 1
    return counts


def _is_of(span: Span, service: str) -> bool:
    return span.service == service or span.service.startswith(f"{service}.")


def _hop(span: Span) -> str:
    """A span's service without its namespace: what proxy and application have in common."""
    return span.service.partition(".")[0]


def _is_inner(span: Span, parent: Span) -> bool:
    """Whether a span is of its parent's own work, as an application records it, and no further call."""
    return _hop(span) == _hop(parent) and not (
        parent.kind is SpanKind.SERVER and span.kind is SpanKind.CLIENT
    )


def _starts_within(span: Span, other: Span) -> bool:
    return other.start_ns - CLOCKS_NS <= span.start_ns <= other.end_ns + CLOCKS_NS


def _headers(span: Span) -> str:
    return "the B3 headers" if span.origin is Origin.ZIPKIN else "traceparent"


def _failure(span: Span) -> str:
    code = span.attributes.get("grpc.status_code")
    message = span.status_message or span.attributes.get("grpc.message")
    parts = [excerpt(str(part), 100) for part in (code, message) if part]
    return f" ({': '.join(parts)})" if parts else ""
