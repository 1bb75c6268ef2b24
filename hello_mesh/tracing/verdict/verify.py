"""Waits until traces are as wanted, or a deadline passes, and judges them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hello_mesh.tracing.sources.sqlite import Store
from hello_mesh.tracing.span import Span, padded
from hello_mesh.tracing.verdict.expect import CLOCKS_NS, Comparison, ExpectedSpan, compare

_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class TraceVerdict:
    """What became of one trace."""

    trace_id: str
    spans: tuple[Span, ...]
    pieces: tuple[tuple[Span, ...], ...]
    """The other traces in which the rest of it was found."""
    comparison: Comparison


def verify(
    store: Store,
    trace_ids: Sequence[str],
    wanted: ExpectedSpan,
    timeout: float,
    *,
    settle: float = _SETTLE_SECONDS,
) -> Iterator[TraceVerdict]:
    """Waits for traces to become as wanted, and yields the verdict on each as soon as it stands.

    Args:
        store: where the spans arrive.
        trace_ids: the traces.
        wanted: the tree that each should be.
        timeout: seconds after which a trace is judged as it is.
        settle: seconds without news after which a broken trace is judged of which every span was found.

    Raises:
        StoreError: the store cannot be read.
    """
    deadline = time.monotonic() + timeout
    watches = [_Watch(trace_id, wanted) for trace_id in dict.fromkeys(map(padded, trace_ids))]
    while watches:
        now = time.monotonic()
        last = now >= deadline
        for watch in tuple(watches):
            verdict = watch.look(store, now, hurry=last)
            if verdict.comparison.ok or last or watch.is_settled(now, settle):
                watches.remove(watch)
                yield verdict
        if watches:
            time.sleep(max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))


class _Watch:
    """A trace that is waited for, and what was last seen of it."""

    def __init__(self, trace_id: str, wanted: ExpectedSpan) -> None:
        self._trace_id = trace_id
        self._wanted = wanted
        self._verdict: TraceVerdict | None = None
        self._version = -1
        self._sought = False
        self._since = 0.0

    def look(self, store: Store, now: float, *, hurry: bool) -> TraceVerdict:
        """The verdict as of now. With `hurry`, nothing is put off until the next look."""
        version = store.version()
        if self._verdict is not None and version == self._version and self._sought:
            return self._verdict
        spans = store.trace(self._trace_id)
        # The rest of a broken trace is sought only when no span came since the last look: seeking is dear.
        self._sought = hurry or (self._verdict is not None and len(spans) == len(self._verdict.spans))
        verdict = _judged(store, self._trace_id, spans, self._wanted, seek=self._sought)
        if self._verdict is None or verdict.comparison != self._verdict.comparison:
            self._since = now
        self._verdict, self._version = verdict, version
        return verdict

    def is_settled(self, now: float, settle: float) -> bool:
        """Whether every wanted span was found, in whichever place, and nothing has changed for a while."""
        complete = self._verdict is not None and self._verdict.comparison.complete
        return complete and now - self._since >= settle


def _judged(
    store: Store, trace_id: str, spans: tuple[Span, ...], wanted: ExpectedSpan, *, seek: bool
) -> TraceVerdict:
    comparison = compare(spans, wanted)
    pieces: tuple[tuple[Span, ...], ...] = ()
    if seek and spans and not comparison.ok:
        related = _related(store, trace_id, spans)
        comparison = compare(spans, wanted, related)
        pieces = tuple(piece for piece in related if piece[0].trace_id in comparison.pieces)
    return TraceVerdict(trace_id, spans, pieces, comparison)


def _related(store: Store, trace_id: str, spans: Sequence[Span]) -> list[tuple[Span, ...]]:
    """Traces in which the rest of this one may be."""
    request_ids = dict.fromkeys(span.request_id for span in spans if span.request_id)
    start = min(span.start_ns for span in spans) - CLOCKS_NS
    end = max(span.end_ns for span in spans) + CLOCKS_NS
    ids = dict.fromkeys((*store.with_request_ids(request_ids), *store.rooted_between(start, end)))
    return [store.trace(other) for other in ids if other != trace_id]
