"""Waits until traces are as wanted, or a deadline passes, and judges them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracing.expect import CLOCKS_NS, Comparison, Mismatch, Wanted, compare
from tracing.span import Span, padded
from tracing.store import Store

_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Verdict:
    """What became of one trace."""

    trace_id: str
    spans: tuple[Span, ...]
    pieces: tuple[tuple[Span, ...], ...]
    """The other traces in which the rest of it was found."""
    comparison: Comparison


def verify(
    store: Store,
    trace_ids: Sequence[str],
    wanted: Wanted,
    timeout: float,
    *,
    settle: float = _SETTLE_SECONDS,
) -> Iterator[Verdict]:
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
    waiting = {trace_id: _Waiting() for trace_id in dict.fromkeys(map(padded, trace_ids))}
    while waiting:
        started = time.monotonic()
        last = started >= deadline
        for trace_id, state in tuple(waiting.items()):
            verdict = _judged(store, trace_id, wanted, state, hurry=last)
            if verdict.comparison.ok or last or state.settled(verdict, started, settle):
                del waiting[trace_id]
                yield verdict
        if waiting:
            time.sleep(max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))


@dataclass
class _Waiting:
    """What was seen of a trace when it was last looked at."""

    spans: int = -1
    complete: tuple[Mismatch, ...] | None = None
    since: float = 0.0

    def settled(self, verdict: Verdict, now: float, settle: float) -> bool:
        mismatches = verdict.comparison.mismatches if verdict.comparison.complete else None
        if mismatches != self.complete:
            self.complete, self.since = mismatches, now
        return mismatches is not None and now - self.since >= settle


def _judged(store: Store, trace_id: str, wanted: Wanted, state: _Waiting, *, hurry: bool) -> Verdict:
    spans = store.trace(trace_id)
    comparison = compare(spans, wanted)
    pieces: tuple[tuple[Span, ...], ...] = ()
    # The rest of a trace is sought only when nothing came for a while: seeking is dear.
    if spans and not comparison.ok and (hurry or state.spans == len(spans)):
        related = _related(store, trace_id, spans)
        comparison = compare(spans, wanted, related)
        pieces = tuple(piece for piece in related if piece[0].trace_id in comparison.pieces)
    state.spans = len(spans)
    return Verdict(trace_id, spans, pieces, comparison)


def _related(store: Store, trace_id: str, spans: Sequence[Span]) -> list[tuple[Span, ...]]:
    """Traces in which the rest of this one may be."""
    request_ids = dict.fromkeys(span.request_id for span in spans if span.request_id)
    start = min(span.start_ns for span in spans) - CLOCKS_NS
    end = max(span.end_ns for span in spans) + CLOCKS_NS
    ids = dict.fromkeys((*store.with_request_ids(request_ids), *store.rooted_between(start, end)))
    return [store.trace(other) for other in ids if other != trace_id]
