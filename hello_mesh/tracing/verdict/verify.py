"""Wait until traces are as expected, or a deadline passes, and return the verdicts."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hello_mesh.tracing.sources.sqlite import Store
from hello_mesh.tracing.span import Span, padded
from hello_mesh.tracing.verdict.expect import CLOCKS_NS, Comparison, ExpectedSpan, compare

_TRACE_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class TraceVerdict:
    """The verdict on one trace."""

    trace_id: str
    spans: tuple[Span, ...]
    fragments: tuple[tuple[Span, ...], ...]
    """Other traces that hold its detached spans."""
    comparison: Comparison


def verify(
    store: Store,
    trace_ids: Sequence[str],
    expected: ExpectedSpan,
    timeout: float,
    *,
    settle: float = _SETTLE_SECONDS,
) -> Iterator[TraceVerdict]:
    """Wait until traces are as expected, and yield the verdict on each as soon as it is final.

    Args:
        store: where the spans arrive.
        trace_ids: the traces.
        expected: the tree that each trace should be.
        timeout: seconds after which a trace is evaluated as it is.
        settle: seconds without new spans after which a broken trace is final, if all its spans were found.

    Raises:
        StoreError: the store cannot be read.
    """
    deadline = time.monotonic() + timeout
    watches = [_Watch(trace_id, expected) for trace_id in dict.fromkeys(map(padded, trace_ids))]
    while watches:
        now = time.monotonic()
        last = now >= deadline
        for watch in tuple(watches):
            verdict = watch.check(store, now, final=last)
            if verdict.comparison.ok or last or watch.is_settled(now, settle):
                watches.remove(watch)
                yield verdict
        if watches:
            time.sleep(max(0.0, min(_TRACE_POLL_SECONDS, deadline - time.monotonic())))


class _Watch:
    """A trace that is awaited, and its last verdict."""

    def __init__(self, trace_id: str, expected: ExpectedSpan) -> None:
        self._trace_id = trace_id
        self._expected = expected
        self._verdict: TraceVerdict | None = None
        self._version = -1
        self._searched = False
        self._since = 0.0

    def check(self, store: Store, now: float, *, final: bool) -> TraceVerdict:
        """Return the current verdict; if `final`, without leaving work for the next check."""
        version = store.version()
        if self._verdict is not None and version == self._version and self._searched:
            return self._verdict
        spans = store.trace(self._trace_id)
        # Detached fragments are searched only if no span arrived since the last check: the search is slow.
        self._searched = final or (self._verdict is not None and len(spans) == len(self._verdict.spans))
        verdict = _evaluate_trace(store, self._trace_id, spans, self._expected, search=self._searched)
        if self._verdict is None or verdict.comparison != self._verdict.comparison:
            self._since = now
        self._verdict, self._version = verdict, version
        return verdict

    def is_settled(self, now: float, settle: float) -> bool:
        """Return whether every expected span was found somewhere, and nothing has changed for a while."""
        complete = self._verdict is not None and self._verdict.comparison.complete
        return complete and now - self._since >= settle


def _evaluate_trace(
    store: Store, trace_id: str, spans: tuple[Span, ...], expected: ExpectedSpan, *, search: bool
) -> TraceVerdict:
    comparison = compare(spans, expected)
    fragments: tuple[tuple[Span, ...], ...] = ()
    if search and spans and not comparison.ok:
        related = _related_traces(store, trace_id, spans)
        comparison = compare(spans, expected, related)
        fragments = tuple(trace for trace in related if trace[0].trace_id in comparison.fragments)
    return TraceVerdict(trace_id, spans, fragments, comparison)


def _related_traces(store: Store, trace_id: str, spans: Sequence[Span]) -> list[tuple[Span, ...]]:
    """Return traces that may hold detached spans of this one."""
    request_ids = dict.fromkeys(span.request_id for span in spans if span.request_id)
    start = min(span.start_ns for span in spans) - CLOCKS_NS
    end = max(span.end_ns for span in spans) + CLOCKS_NS
    ids = dict.fromkeys((*store.with_request_ids(request_ids), *store.rooted_between(start, end)))
    return [store.trace(other) for other in ids if other != trace_id]
