import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from making import OTHER_TRACE, START_NS, TRACE, real, span, whole

from hello_mesh.base.errors import StoreError
from hello_mesh.tracing.sources.sqlite import Store, TraceFilter, reading, writing
from hello_mesh.tracing.span import SpanKind, Status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with writing(path) as store:
        yield store


def fill(store: Store, traces: int, spans: int = 1) -> None:
    for number in range(1, traces + 1):
        store.add(
            span("svc1", SpanKind.SERVER, each + 1, at=number, trace_id=f"{number:032x}")
            for each in range(spans)
        )


@pytest.mark.parametrize("protocol", ["otlp", "zipkin"])
@pytest.mark.parametrize("name", ["whole", "aborted-at-svc3"])
def test_stored_spans_are_read_unchanged(store: Store, name: str, protocol: str) -> None:
    spans = real(name, protocol)
    assert store.add(spans) == 6
    assert set(store.trace(spans[0].trace_id)) == set(spans)


def test_a_repeated_span_changes_nothing(store: Store) -> None:
    store.add(whole())
    changed = [replace(each, name="changed", status=Status.ERROR) for each in whole()]
    assert store.add([*whole(), *changed]) == 0
    assert set(store.trace(TRACE)) == set(whole())
    assert (store.recent()[0].spans, store.recent()[0].errors) == (6, 0)


def test_both_sides_of_a_call_that_share_an_id_are_kept(store: Store) -> None:
    assert store.add([span("svc1", SpanKind.CLIENT, 1), span("svc2", SpanKind.SERVER, 1)]) == 2
    assert len(store.trace(TRACE)) == 2


def test_a_trace_is_found_by_an_upper_case_or_a_short_id(store: Store) -> None:
    store.add(whole())
    store.add([span("svc1", SpanKind.CLIENT, 1, trace_id="0" * 16 + TRACE[16:])])
    assert len(store.trace(TRACE.upper())) == 6
    assert len(store.trace(TRACE[16:])) == 1
    assert store.trace(OTHER_TRACE) == ()


def test_traces_are_listed_newest_first_with_their_root(store: Store) -> None:
    fill(store, 3)
    store.add(replace(each, start_ns=each.start_ns + 10**9, end_ns=each.end_ns + 10**9) for each in whole())
    listed = store.recent()
    assert [each.trace_id for each in listed] == [TRACE, *(f"{number:032x}" for number in (3, 2, 1))]
    assert (listed[0].service, listed[0].spans, listed[0].errors) == ("gateway.istio-system", 6, 0)
    assert listed[0].end_ns - listed[0].start_ns == 98_000_000


def test_each_filter_selects_the_matching_traces(store: Store) -> None:
    store.add(whole())
    store.add([span("svc9", SpanKind.SERVER, 1, at=500, ms=1, trace_id=OTHER_TRACE, status=Status.ERROR)])

    def matched(matching: TraceFilter) -> list[str]:
        return [each.trace_id for each in store.recent(matching)]

    assert matched(TraceFilter(limit=1)) == [OTHER_TRACE]
    assert matched(TraceFilter(failed=True)) == [OTHER_TRACE]
    assert matched(TraceFilter(service="svc2")) == matched(TraceFilter(service="svc2.ns")) == [TRACE]
    assert matched(TraceFilter(service="svc")) == []
    assert matched(TraceFilter(min_duration_ns=2_000_000)) == [TRACE]
    assert matched(TraceFilter(since_ns=START_NS + 400_000_000)) == [OTHER_TRACE]


def test_the_oldest_traces_are_removed_above_the_limit(path: Path) -> None:
    with writing(path, max_spans=10) as store:
        fill(store, traces=6, spans=2)
        assert [each.trace_id for each in store.recent()] == [f"{number:032x}" for number in (6, 5, 4, 3, 2)]
        assert store.trace(f"{1:032x}") == ()
        assert len(store.latest()) == 10


def test_a_batch_is_stored_completely_or_not_at_all(store: Store) -> None:
    store.add(whole())
    bad = replace(span("svc1", SpanKind.SERVER, 2, trace_id=OTHER_TRACE), attributes={"a": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        store.add([span("svc1", SpanKind.SERVER, 1, trace_id=OTHER_TRACE), bad])
    assert store.trace(OTHER_TRACE) == ()
    assert len(store.trace(TRACE)) == 6


def test_a_full_disk_is_reported_and_loses_no_stored_span(store: Store) -> None:
    store.add(whole())
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    big = {"a": "x" * 4096}
    with pytest.raises(StoreError, match=r"cannot use span store .*traces\.db: .*full"):
        store.add(
            span("svc1", SpanKind.SERVER, n, trace_id=OTHER_TRACE, ms=1, attributes=big) for n in range(1, 99)
        )
    assert (len(store.trace(TRACE)), store.trace(OTHER_TRACE)) == (6, ())
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert store.add([span("svc1", SpanKind.SERVER, 1, trace_id=OTHER_TRACE)]) == 1


def test_other_processes_can_read_while_one_writes(store: Store, path: Path) -> None:
    store.add(whole())
    script = (
        "import sys, pathlib; from hello_mesh.tracing.sources.sqlite import reading\n"
        "with reading(pathlib.Path(sys.argv[1])) as store: print(len(store.trace(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, str(path), TRACE]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    fill(store, 20)
    assert [reader.communicate(timeout=60)[0].strip() for reader in readers] == ["6", "6"]


def test_a_reader_sees_later_spans_and_cannot_write(store: Store, path: Path) -> None:
    with reading(path) as reader:
        before = reader.version()
        store.add(whole())
        assert reader.version() != before
        assert len(reader.trace(TRACE)) == 6
        with pytest.raises(StoreError, match="cannot use span store"):
            reader.add([span("svc1", SpanKind.SERVER, 1, trace_id=OTHER_TRACE)])


def test_stored_spans_survive_a_restart(path: Path) -> None:
    with writing(path) as store:
        store.add(whole())
    with reading(path) as store:
        assert len(store.trace(TRACE)) == 6
    with writing(path) as store:
        assert store.add(whole()) == 0


def test_a_missing_file_is_reported(path: Path) -> None:
    with pytest.raises(StoreError, match="not found: run hello-grpc-traces collect"), reading(path):
        pass


def test_a_path_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file" / "traces.db", tmp_path):
        with pytest.raises(StoreError, match=r"cannot use span store .*: "), writing(wrong):
            pass


def test_files_of_other_programs_are_not_changed(tmp_path: Path) -> None:
    text, foreign, newer = tmp_path / "text", tmp_path / "foreign.db", tmp_path / "newer.db"
    text.write_text("important notes " * 100)
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with writing(newer) as store:
        store._connection.execute("PRAGMA user_version = 99")
    for path, reason in (
        (text, "not a database"),
        (foreign, "not a file of collected"),
        (newer, "another version"),
    ):
        before = path.read_bytes()
        for opened in (writing, reading):
            with pytest.raises(StoreError, match=reason), opened(path):
                pass
        assert path.read_bytes() == before


def test_related_traces_are_found_by_request_id_and_by_time(store: Store) -> None:
    store.add([span("svc1", SpanKind.SERVER, 1, attributes={"guid:x-request-id": "r-1"})])
    store.add([span("svc2", SpanKind.SERVER, 1, at=50, trace_id=OTHER_TRACE)])
    assert store.with_request_ids(["r-2", "r-1"]) == (TRACE,)
    assert store.with_request_ids([]) == ()
    assert store.rooted_between(START_NS + 40_000_000, START_NS + 60_000_000) == (OTHER_TRACE,)


def test_a_trace_is_listed_by_its_root_even_if_another_span_starts_earlier(store: Store) -> None:
    store.add([span("early", SpanKind.SERVER, 2, 1, at=0), span("root", SpanKind.CLIENT, 1, at=5)])
    (listed,) = store.recent()
    assert (listed.service, listed.name) == ("root", "root:9996/*")
