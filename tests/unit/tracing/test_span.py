"""The limits of one span."""

import pytest
from making import START_NS, span

from hello_mesh.base.errors import SpanError
from hello_mesh.tracing.span import MAX_ATTRIBUTES, MAX_TEXT, SpanKind, bounded_attributes


def test_a_span_may_take_no_time() -> None:
    assert span("svc1", SpanKind.INTERNAL, 1, ms=0).duration_ns == 0


def test_a_span_that_ends_before_its_start_is_refused() -> None:
    with pytest.raises(SpanError, match=f"use a time from {START_NS + 1_000_000} on"):
        span("svc1", SpanKind.INTERNAL, 1, ms=-1)


def test_the_last_value_of_a_key_is_kept_also_at_the_limit() -> None:
    pairs = [(str(number), number) for number in range(MAX_ATTRIBUTES)]
    kept, dropped = bounded_attributes([*pairs, ("0", "last"), ("more", 1)])
    assert (len(kept), kept["0"], dropped) == (MAX_ATTRIBUTES, "last", 1)


def test_a_long_list_is_kept_as_the_start_of_its_text() -> None:
    kept, _ = bounded_attributes([("list", ["x" * MAX_TEXT])])
    assert isinstance(kept["list"], str)
    assert len(kept["list"]) == MAX_TEXT
