"""Compare the spans of a trace with the expected tree, and name the likely cause of each difference.

A hop that does not propagate the trace headers breaks a trace in two: its outbound span starts a trace of its
own. The detached fragment is searched among other traces, by x-request-id if that was propagated.
Otherwise it is searched by time: it starts while the span that should be its parent is running.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from hello_mesh.base.text import count, excerpt
from hello_mesh.tracing.span import Origin, Span, SpanKind
from hello_mesh.tracing.tree import Node, Tree, build
from hello_mesh.tracing.verdict.findings import span_label

CLOCKS_NS = 100_000_000
"""The largest expected difference between the clocks of two hosts."""

# How many extra spans are reported one by one.
_REPORTED_EXTRAS = 10


class MismatchKind(StrEnum):
    """How a trace can differ from the expected tree."""

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
    """One difference between a trace and the expected tree."""

    kind: MismatchKind
    service: str | None
    """The service to check first."""
    text: str
    """The difference and its likely cause, in one line."""


@dataclass(frozen=True)
class ExpectedSpan:
    """A span that a trace should have, with its child spans."""

    service: str
    """In full (`grpc-server-svc2.grpc-tracing`), or without the namespace."""
    kinds: frozenset[SpanKind] = frozenset()
    """The allowed kinds; empty allows any."""
    operation: str = "*"
    """A pattern for its name, with the wildcards of file names."""
    children: tuple["ExpectedSpan", ...] = ()

    def fits(self, span: Span) -> bool:
        """Return whether `span` by itself matches."""
        return (
            _is_of(span, self.service)
            and (not self.kinds or span.kind in self.kinds)
            and fnmatchcase(span.name, self.operation)
        )

    @property
    def label(self) -> str:
        """The span as texts name it: its service and side."""
        sides = {SpanKind.SERVER: "inbound ", SpanKind.CLIENT: "outbound "}
        side = "".join(sides.get(kind, "") for kind in self.kinds) if len(self.kinds) == 1 else ""
        return f"the {side}span of {excerpt(self.service, 80)}"


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a trace with the expected tree."""

    mismatches: tuple[TraceMismatch, ...]
    fragments: tuple[str, ...] = ()
    """The ids of other traces that hold detached spans. Without an x-request-id, they may belong to another
    call that broke at the same hop at the same moment."""
    complete: bool = False
    """Whether each expected span was found, possibly in the wrong position."""

    @property
    def ok(self) -> bool:
        """Whether the trace is as expected."""
        return not self.mismatches


def expected_chain(
    hops: Sequence[str], *, gateway: str | None = None, requestor: str | None = None
) -> ExpectedSpan:
    """Return the tree of spans that sidecars record for a chain of hops.

    Args:
        hops: the services, first hop first; at least one.
        gateway: the service of the gateway in front of them, if there is one.
        requestor: the service of the caller's own span, if it records one.
    """
    path = [] if requestor is None else [(requestor, frozenset({SpanKind.CLIENT}))]
    # The configuration of a gateway decides the kind of its span.
    path += [] if gateway is None else [(gateway, frozenset())]
    for hop in hops:
        path += [(hop, frozenset({SpanKind.SERVER})), (hop, frozenset({SpanKind.CLIENT}))]
    path.pop()  # the last hop calls no other
    expected: tuple[ExpectedSpan, ...] = ()
    for service, kinds in reversed(path):
        expected = (ExpectedSpan(service, kinds, children=expected),)
    return expected[0]


def compare(
    found: Sequence[Span], expected: ExpectedSpan, related: Iterable[Sequence[Span]] = ()
) -> Comparison:
    """Compare the spans of a trace with the expected tree.

    Ancestors of the expected root are ignored: they belong to the caller.

    Args:
        found: the spans with the trace's id.
        expected: the tree.
        related: other traces, which may hold detached spans of this one.
    """
    if not found:
        text = (
            "no span has this trace id: the trace is not sampled, tracing is off, the mesh uses another"
            " header family than the caller (W3C or B3), or spans are exported elsewhere"
        )
        return Comparison((TraceMismatch(MismatchKind.NO_SPANS, None, text),))
    return TraceMatcher(found, expected, related).result()


@dataclass(frozen=True)
class _Position:
    """The position at which an expected span was found."""

    tree: Tree
    node: Node

    @property
    def span(self) -> Span:
        return self.node.span

    @property
    def key(self) -> tuple[int, int]:
        return id(self.tree), self.node.index


@dataclass(frozen=True)
class _ExpectedStep:
    """An expected span and the number of its parent."""

    expected: ExpectedSpan
    above: int | None


class TraceMatcher:
    """One comparison: first, find a position for every expected span; then, evaluate the positions."""

    def __init__(
        self, found: Sequence[Span], expected: ExpectedSpan, related: Iterable[Sequence[Span]]
    ) -> None:
        self._tree = build(found)
        self._fragments = [build(spans) for spans in related if spans]
        self._steps = list(_flattened(expected))
        self._below = {id(tree): _counts_below(tree) for tree in (self._tree, *self._fragments)}
        self._request_ids = {node.span.request_id for node in self._tree.nodes if node.span.request_id}
        self._used: set[tuple[int, int]] = set()
        self._positions: list[_Position | None] = []

    def result(self) -> Comparison:
        for number, step in enumerate(self._steps):
            position = self._find(number, step)
            self._positions.append(position)
            if position:
                self._used.add(position.key)
        mismatches = [*self._misplaced(), *self._missing(), *self._surplus()]
        fragments = dict.fromkeys(
            position.span.trace_id
            for position in self._positions
            if position and position.tree is not self._tree
        )
        return Comparison(tuple(mismatches), tuple(fragments), all(self._positions))

    # Find positions

    def _find(self, number: int, step: _ExpectedStep) -> _Position | None:
        anchor = self._anchor(number)
        tree = anchor.tree if anchor else self._tree
        candidates = [node for node in tree.nodes if self._is_free(tree, node, step.expected)]
        if candidates:
            return _Position(tree, max(candidates, key=lambda node: self._rank(tree, node, anchor)))
        if self._continues_in(tree, number):
            return None  # only this span is missing: its descendants are in this trace
        detached = [
            _Position(fragment, node)
            for fragment in self._fragments
            for node in self._detached(fragment, step, anchor)
        ]
        return max(detached, key=lambda position: self._likelihood(position, anchor), default=None)

    def _continues_in(self, tree: Tree, number: int) -> bool:
        """Return whether a descendant of this expected span is in the tree."""
        below = {number}
        for other in range(number + 1, len(self._steps)):
            step = self._steps[other]
            if step.above in below:
                below.add(other)
                if any(self._is_free(tree, node, step.expected) for node in tree.nodes):
                    return True
        return False

    def _anchor(self, number: int) -> _Position | None:
        """Return the position of an expected span's nearest ancestor that was found."""
        above = self._steps[number].above
        while above is not None and self._positions[above] is None:
            above = self._steps[above].above
        return None if above is None else self._positions[above]

    def _is_free(self, tree: Tree, node: Node, expected: ExpectedSpan) -> bool:
        return expected.fits(node.span) and (id(tree), node.index) not in self._used

    def _rank(self, tree: Tree, node: Node, anchor: _Position | None) -> tuple[bool, bool, int, int]:
        """Return the quality of a position, to compare with others.

        A child of the anchor is best, then another descendant. Of several, as after a retry, the one with
        most descendants is best; otherwise the first.
        """
        counts = self._below[id(tree)]
        above = anchor.node.index if anchor else -1
        near = anchor is not None and node.parent == above
        # The descendants of a node follow it directly.
        below = anchor is not None and above < node.index <= above + counts[above]
        return near, below, counts[node.index], -node.index

    def _detached(self, fragment: Tree, step: _ExpectedStep, anchor: _Position | None) -> Iterator[Node]:
        """Yield the roots of another trace that match an expected span and may belong to this trace."""
        spans = [anchor.span] if anchor else [root.span for root in self._tree.roots]
        for node in fragment.roots:
            starts = node.span.parent_id is None and any(_starts_within(node.span, span) for span in spans)
            if self._is_free(fragment, node, step.expected) and (
                starts or node.span.request_id in self._request_ids
            ):
                yield node

    def _likelihood(self, position: _Position, anchor: _Position | None) -> tuple[bool, int]:
        """Return how likely a detached span belongs to this trace, to compare with others.

        The request id is certain. By time alone, it may belong to another call at the same moment.
        """
        frame = anchor.span if anchor else self._tree.nodes[0].span
        early = max(0, frame.start_ns - position.span.start_ns)
        late = max(0, position.span.end_ns - frame.end_ns)
        return position.span.request_id in self._request_ids, -early - late

    # Evaluate positions

    def _misplaced(self) -> Iterator[TraceMismatch]:
        for number, (step, position) in enumerate(zip(self._steps, self._positions, strict=True)):
            anchor = self._anchor(number)
            tree = anchor.tree if anchor else self._tree
            if position is None:
                continue
            if position.tree is not tree:
                yield self._detachment(step, anchor)
            elif (
                anchor
                and self._positions[step.above or 0] is anchor
                and not self._has_right_parent(position, anchor)
            ):
                yield _wrong_parent(step.expected, position, anchor)

    def _detachment(self, step: _ExpectedStep, anchor: _Position | None) -> TraceMismatch:
        above = None if step.above is None else self._steps[step.above].expected
        start = f"{step.expected.label} starts a trace of its own"
        if above is None or anchor is None:
            text = f"{start}: it does not continue the caller's ({_CHECK_FAMILY})"
            return TraceMismatch(MismatchKind.NOT_CONTINUED, step.expected.service, text)
        service = excerpt(above.service, 80)
        if above.service == step.expected.service:
            start = "its outbound span starts a trace of its own"
        elif self._positions[step.above or 0]:
            text = f"{start}: it does not continue the trace of {service} ({_CHECK_FAMILY})"
            return TraceMismatch(MismatchKind.NOT_CONTINUED, step.expected.service, text)
        # An application is between two proxies. If its own proxy's outbound span is missing, too, the span of
        # the next proxy is the first that shows what the application sent.
        text = f"{service} did not propagate {_header_names(anchor.span)}: {start}"
        return TraceMismatch(MismatchKind.NOT_FORWARDED, above.service, text)

    def _has_right_parent(self, position: _Position, anchor: _Position) -> bool:
        """Return whether a span is a descendant of its anchor, with only the application's spans between."""
        hops = {_short_service(position.span), _short_service(anchor.span)}
        node = position.tree.parent(position.node)
        between: list[Node] = []
        while node is not None and node is not anchor.node:
            if _short_service(node.span) not in hops:
                return False
            between.append(node)
            node = position.tree.parent(node)
        self._used.update((id(position.tree), inner.index) for inner in between)
        return node is not None

    # Evaluate missing spans

    def _missing(self) -> Iterator[TraceMismatch]:
        for number, position in enumerate(self._positions):
            above = self._steps[number].above
            is_first = above is None or self._positions[above] is not None
            if position is None and is_first:
                yield _missing(self._missing_run(number))

    def _run(self, number: int) -> list[int]:
        """Return the expected spans that are missing together: this one and its missing descendants."""
        run = [number]
        for other in range(number + 1, len(self._steps)):
            if self._steps[other].above in run and self._positions[other] is None:
                run.append(other)
        return run

    def _first_after(self, run: Sequence[int]) -> int | None:
        """Return the first expected span below a missing run that was found."""
        after = (number for number, step in enumerate(self._steps) if step.above in run and number not in run)
        return next(after, None)

    def _missing_run(self, number: int) -> "_MissingRun":
        run = self._run(number)
        after = self._first_after(run)
        return _MissingRun(
            tuple(self._steps[other].expected for other in run),
            self._anchor(number),
            None if after is None else self._positions[after],
            None if after is None else self._steps[after].expected,
        )

    # Evaluate extra spans

    def _surplus(self) -> Iterator[TraceMismatch]:
        extras = list(self._extras())
        for node in extras[:_REPORTED_EXTRAS]:
            yield self._extra(node)
        if len(extras) > _REPORTED_EXTRAS:
            text = f"and {len(extras) - _REPORTED_EXTRAS} more unexpected spans"
            yield TraceMismatch(MismatchKind.EXTRA, None, text)

    def _extras(self) -> Iterator[Node]:
        """Yield spans that match no expected span, without their descendants."""
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
        """Yield the ancestors of the first expected span that was found."""
        position = next((position for position in self._positions if position), None)
        node = self._tree.parent(position.node) if position and position.tree is self._tree else None
        while node is not None:
            yield node.index
            node = self._tree.parent(node)

    def _extra(self, node: Node) -> TraceMismatch:
        span = node.span
        below = self._below[id(self._tree)][node.index]
        more = f", with {count(below, 'descendant')}" if below else ""
        service = span.service
        if not any(_is_of(span, step.expected.service) for step in self._steps):
            text = f"{span_label(span)}{more}: an unexpected service"
            return TraceMismatch(MismatchKind.UNEXPECTED_SERVICE, service, text)
        again = any(
            position and position.span.kind is span.kind and position.span.service == service
            for position in self._positions
        )
        cause = "a repeated call, such as a retry" if again else "unexpected here"
        return TraceMismatch(MismatchKind.EXTRA, service, f"{span_label(span)}{more}: {cause}")


@dataclass(frozen=True)
class _MissingRun:
    """Expected spans that are missing together."""

    expected: tuple[ExpectedSpan, ...]
    anchor: _Position | None
    """The nearest ancestor that was found."""
    after: _Position | None
    """The first descendant that was found."""
    expected_after: ExpectedSpan | None

    @property
    def service(self) -> str:
        return self.expected[0].service

    @property
    def services(self) -> str:
        return excerpt(", ".join(dict.fromkeys(expected.service for expected in self.expected)), 200)

    @property
    def label(self) -> str:
        spans = len(self.expected)
        return self.expected[0].label if spans == 1 else f"{spans} spans of {self.services}"


_CHECK_FAMILY = "check that both use the same header family, W3C or B3"


def _missing(run: _MissingRun) -> TraceMismatch:
    if run.after is not None and run.expected_after is not None:
        return _missing_between(run, run.after, run.expected_after)
    if run.anchor is None:
        text = f"{run.label}: missing, like every other expected span: this trace may be of another call"
        return TraceMismatch(MismatchKind.MISSING, run.service, text)
    above = run.anchor.span
    if above.failed:
        text = f"the call failed earlier: {span_label(above)}{_failure_text(above)}; missing: {run.label}"
        return TraceMismatch(MismatchKind.NOT_REACHED, run.service, text)
    if _is_of(above, run.service):
        cause = "did not call downstream, bypassed its sidecar, or started an unsampled trace"
    else:
        cause = "has no sidecar, or one that records no spans"
    text = f"{run.label}: missing: not exported yet, or {excerpt(run.service, 80)} {cause}"
    return TraceMismatch(MismatchKind.MISSING, run.service, text)


def _missing_between(run: _MissingRun, after: _Position, expected: ExpectedSpan) -> TraceMismatch:
    anchor = run.anchor
    if anchor is None:
        cause = "the call did not pass it, it records no spans, or they are not exported yet"
        text = f"{run.label}: missing, the parent of {expected.label}: {cause}"
        return TraceMismatch(MismatchKind.MISSING, run.service, text)
    if after.tree is anchor.tree and after.node.parent == anchor.node.index:
        text = (
            f"{run.services} has no sidecar on this path: {expected.label} is a child of"
            f" {span_label(anchor.span)}; missing: {run.label}"
        )
        return TraceMismatch(MismatchKind.NO_SIDECAR, run.service, text)
    if after.tree is anchor.tree and after.span.parent_id is not None and after.node.parent is None:
        text = f"{run.label}: missing, although {expected.label} is its child: not exported yet, or lost"
        return TraceMismatch(MismatchKind.MISSING, run.service, text)
    text = f"{run.label}: missing: {run.services} has no sidecar on this path, or one that records no spans"
    return TraceMismatch(MismatchKind.MISSING, run.service, text)


def _wrong_parent(expected: ExpectedSpan, position: _Position, anchor: _Position) -> TraceMismatch:
    parent = position.tree.parent(position.node)
    if parent is not None:
        actual = f"is a child of {span_label(parent.span)}"
    elif position.span.parent_id is None:
        actual = "is a root"
    else:
        actual = f"is a child of a missing span ({position.span.parent_id})"
    if _is_of(anchor.span, expected.service):
        cause = f"{excerpt(expected.service, 80)} propagated other trace headers than it received"
    else:
        cause = "the trace headers changed between them"
    text = f"{expected.label} {actual}, not of {span_label(anchor.span)}: {cause}"
    return TraceMismatch(MismatchKind.WRONG_PARENT, expected.service, text)


def _flattened(expected: ExpectedSpan) -> Iterator[_ExpectedStep]:
    """Yield each expected span after its parent."""
    pending: list[_ExpectedStep] = [_ExpectedStep(expected, None)]
    number = 0
    while pending:
        step = pending.pop()
        yield step
        pending.extend(_ExpectedStep(child, number) for child in reversed(step.expected.children))
        number += 1


def _counts_below(tree: Tree) -> list[int]:
    """Return the number of descendants of each node."""
    counts = [0] * len(tree.nodes)
    for node in reversed(tree.nodes):
        if node.parent is not None:
            counts[node.parent] += counts[node.index] + 1
    return counts


def _is_of(span: Span, service: str) -> bool:
    return span.service == service or span.service.startswith(f"{service}.")


def _short_service(span: Span) -> str:
    """Return a span's service without its namespace: a proxy and its application share it."""
    return span.service.partition(".")[0]


def _is_inner(span: Span, parent: Span) -> bool:
    """Return whether an application recorded a span as part of its parent's work."""
    return _short_service(span) == _short_service(parent) and not (
        parent.kind is SpanKind.SERVER and span.kind is SpanKind.CLIENT
    )


def _starts_within(span: Span, other: Span) -> bool:
    return other.start_ns - CLOCKS_NS <= span.start_ns <= other.end_ns + CLOCKS_NS


def _header_names(span: Span) -> str:
    return "the B3 headers" if span.origin is Origin.ZIPKIN else "traceparent"


def _failure_text(span: Span) -> str:
    code = span.attributes.get("grpc.status_code")
    message = span.status_message or span.attributes.get("grpc.message")
    parts = [excerpt(str(part), 100) for part in (code, message) if part]
    return f" ({': '.join(parts)})" if parts else ""
