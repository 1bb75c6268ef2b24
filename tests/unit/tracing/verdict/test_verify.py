import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from making import HOPS, OTHER_TRACE, TRACE, whole

from hello_mesh.tracing.sources.sqlite import Store, reading, writing
from hello_mesh.tracing.span import Span
from hello_mesh.tracing.verdict.expect import MismatchKind, expected_chain
from hello_mesh.tracing.verdict.verify import TraceVerdict, verify

EXPECTED = expected_chain(HOPS, gateway="gateway")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Store]:
    with writing(tmp_path / "traces.db") as store:
        yield store


@pytest.fixture
def reader(tmp_path: Path, writer: Store) -> Iterator[Store]:
    assert writer
    with reading(tmp_path / "traces.db") as store:
        yield store


def renamed(spans: list[Span], trace_id: str) -> list[Span]:
    return [replace(each, trace_id=trace_id) for each in spans]


def only(verdicts: Iterator[TraceVerdict]) -> TraceVerdict:
    (verdict,) = verdicts
    return verdict


def test_a_whole_trace_is_verified_at_once(writer: Store, reader: Store) -> None:
    writer.add(whole())
    started = time.monotonic()
    verdict = only(verify(reader, [TRACE], EXPECTED, timeout=60))
    assert verdict.comparison.ok
    assert len(verdict.spans) == 6
    assert time.monotonic() - started < 30


def test_late_spans_are_awaited(writer: Store, reader: Store) -> None:
    writer.add(whole()[3:])
    checked = threading.Event()

    class Watched(Store):
        def trace(self, trace_id: str) -> tuple[Span, ...]:
            checked.set()
            return reader.trace(trace_id)

    def add_later() -> None:
        checked.wait(60)
        writer.add(whole()[:3])

    late = threading.Thread(target=add_later)
    late.start()
    watched = Watched(reader._path, reader._connection, 0)
    assert only(verify(watched, [TRACE], EXPECTED, timeout=60)).comparison.ok
    late.join()


def test_an_incomplete_trace_is_evaluated_at_the_deadline(writer: Store, reader: Store) -> None:
    writer.add(whole()[:4])
    verdict = only(verify(reader, [TRACE], EXPECTED, timeout=0.3))
    assert [mismatch.kind for mismatch in verdict.comparison.mismatches] == [MismatchKind.MISSING]


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_an_unknown_trace_is_evaluated_at_the_deadline(reader: Store, timeout: float) -> None:
    verdict = only(verify(reader, [TRACE], EXPECTED, timeout))
    assert [mismatch.kind for mismatch in verdict.comparison.mismatches] == [MismatchKind.NO_SPANS]


def test_a_broken_trace_is_evaluated_with_its_fragments_before_the_deadline(
    writer: Store, reader: Store
) -> None:
    writer.add(whole()[:4])
    tail = renamed(whole()[4:], OTHER_TRACE)
    tail[0] = replace(tail[0], parent_id=None)
    writer.add(tail)
    started = time.monotonic()
    verdict = only(verify(reader, [TRACE], EXPECTED, timeout=600, settle=0.2))
    assert time.monotonic() - started < 60
    assert [mismatch.service for mismatch in verdict.comparison.mismatches] == ["svc2"]
    assert [[each.trace_id for each in fragment] for fragment in verdict.fragments] == [[OTHER_TRACE] * 2]


def test_each_of_many_traces_has_its_verdict(writer: Store, reader: Store) -> None:
    good = [f"{number:032x}" for number in range(1, 51)]
    for trace_id in good:
        writer.add(renamed(whole(), trace_id))
    writer.add(whole()[:2])
    found = list(verify(reader, [*good, TRACE, TRACE], EXPECTED, timeout=0.5))
    assert len(found) == 51
    verdicts = {each.trace_id: each for each in found}
    assert {trace_id for trace_id, each in verdicts.items() if each.comparison.ok} == set(good)
    assert set(verdicts) == {*good, TRACE}


def test_a_short_trace_id_of_zipkin_is_padded(writer: Store, reader: Store) -> None:
    writer.add(renamed(whole(), "0" * 16 + TRACE[16:]))
    assert only(verify(reader, [TRACE[16:].upper()], EXPECTED, timeout=0)).comparison.ok
