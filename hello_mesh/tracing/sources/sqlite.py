"""Spans in an SQLite file: one process writes, and others can read at the same time."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hello_mesh.base.errors import StoreError
from hello_mesh.tracing.span import Event, Origin, Span, SpanKind, Status, padded

DEFAULT_MAX_SPANS = 200_000

# In the file's header: identifies our files among other databases.
_APPLICATION_ID = 1751610480
_VERSION = 1

_BUSY_SECONDS = 5.0
# Older SQLite versions allow 999 variables in a statement.
_MAX_VARIABLES = 500

_SCHEMA = """
BEGIN;
CREATE TABLE spans (
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    service TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    request_id TEXT,
    more TEXT NOT NULL,
    -- The two sides of a call may share one span id in Zipkin: both are kept.
    PRIMARY KEY (trace_id, span_id, kind, service)
);
CREATE INDEX spans_by_request ON spans (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX spans_by_root ON spans (start_ns) WHERE parent_id IS NULL;
CREATE TABLE traces (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id TEXT NOT NULL UNIQUE,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL,
    errors INTEGER NOT NULL
);
CREATE INDEX traces_by_start ON traces (start_ns);
CREATE TRIGGER spans_counted AFTER INSERT ON spans BEGIN
    INSERT INTO traces (trace_id, start_ns, end_ns, spans, errors)
    VALUES (new.trace_id, new.start_ns, new.end_ns, 1, new.status = 'error')
    ON CONFLICT (trace_id) DO UPDATE SET
        start_ns = min(start_ns, excluded.start_ns),
        end_ns = max(end_ns, excluded.end_ns),
        spans = spans + 1,
        errors = errors + excluded.errors;
END;
-- _APPLICATION_ID and _VERSION
PRAGMA application_id = 1751610480;
PRAGMA user_version = 1;
COMMIT;
"""

_COLUMNS = "trace_id, span_id, kind, service, parent_id, name, start_ns, end_ns, status, more"

# The first span stays: a later request cannot change a stored span.
_INSERT = f"""
INSERT INTO spans ({_COLUMNS}, request_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""  # noqa: S608

_SUMMARIES = """
SELECT trace_id, start_ns, end_ns, spans, errors,
       (SELECT service FROM spans WHERE spans.trace_id = traces.trace_id
        ORDER BY parent_id IS NOT NULL, start_ns LIMIT 1),
       (SELECT name FROM spans WHERE spans.trace_id = traces.trace_id
        ORDER BY parent_id IS NOT NULL, start_ns LIMIT 1)
FROM traces
WHERE (:service IS NULL OR EXISTS (
          SELECT 1 FROM spans WHERE spans.trace_id = traces.trace_id
          AND (service = :service OR substr(service, 1, length(:service) + 1) = :service || '.')))
  AND (NOT :failed OR errors > 0)
  AND end_ns - start_ns >= :min_duration_ns
  AND start_ns >= :since_ns
ORDER BY start_ns DESC, trace_id
LIMIT :limit
"""


@dataclass(frozen=True)
class TraceSummary:
    """A trace in one line of a list."""

    trace_id: str
    start_ns: int
    end_ns: int
    spans: int
    errors: int
    """The number of failed spans."""
    service: str
    name: str
    """The name of its root, or of its earliest span if it has no root."""


@dataclass(frozen=True)
class TraceFilter:
    """Which traces to list, newest first."""

    limit: int = 20
    service: str | None = None
    """A service in the trace, in full or without its namespace."""
    failed: bool = False
    """Only traces with a failed span."""
    min_duration_ns: int = 0
    since_ns: int = 0
    """Only traces that started at this time or later."""


class Store:
    """An open file of spans, for one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection, max_spans: int) -> None:
        self._path = path
        self._connection = connection
        self._max_spans = max_spans

    def add(self, spans: Iterable[Span]) -> int:
        """Store spans: all, or none on an error. Spans that are already stored stay unchanged.

        If the store exceeds its limit, the traces that were received first are removed.

        Returns:
            The number of new spans.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing() as connection:
            new = sum(connection.execute(_INSERT, _to_row(span)).rowcount for span in spans)
            if new:
                self._trim(connection)
        return new

    def trace(self, trace_id: str) -> tuple[Span, ...]:
        """Return the spans of a trace, earliest first; none if the trace is unknown.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._spans("trace_id = ?", (padded(trace_id.lower()),))

    def latest(self, since_ns: int = 0, limit: int = 10_000) -> tuple[Span, ...]:
        """Return the newest `limit` spans that started at `since_ns` or later, newest first.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._spans("start_ns >= ?", (since_ns,), f"start_ns DESC LIMIT {limit:d}")

    def recent(self, matching: TraceFilter = TraceFilter()) -> tuple[TraceSummary, ...]:
        """Return the traces that match a filter, newest first.

        Raises:
            StoreError: the file cannot be read.
        """
        variables = {
            "service": matching.service,
            "failed": matching.failed,
            "min_duration_ns": matching.min_duration_ns,
            "since_ns": matching.since_ns,
            "limit": matching.limit,
        }
        return tuple(TraceSummary(*row) for row in self._rows(_SUMMARIES, variables))

    def with_request_ids(self, request_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the ids of traces with a span of one of these x-request-ids.

        Raises:
            StoreError: the file cannot be read.
        """
        ids = tuple(request_ids)[:_MAX_VARIABLES]
        places = ", ".join("?" * len(ids))
        query = f"SELECT DISTINCT trace_id FROM spans WHERE request_id IN ({places})"  # noqa: S608
        return tuple(row[0] for row in self._rows(query, ids))

    def rooted_between(self, start_ns: int, end_ns: int, limit: int = 200) -> tuple[str, ...]:
        """Return the ids of traces with a root that started in this time.

        Raises:
            StoreError: the file cannot be read.
        """
        query = (
            "SELECT DISTINCT trace_id FROM spans"
            " WHERE parent_id IS NULL AND start_ns BETWEEN ? AND ? ORDER BY start_ns LIMIT ?"
        )
        return tuple(row[0] for row in self._rows(query, (start_ns, end_ns, limit)))

    def version(self) -> int:
        """Return a number that changes when another connection has written.

        Raises:
            StoreError: the file cannot be read.
        """
        version: int = self._rows("PRAGMA data_version", ())[0][0]
        return version

    def _spans(
        self, where: str, variables: Sequence[Any], order: str = "start_ns, end_ns DESC"
    ) -> tuple[Span, ...]:
        query = f"SELECT {_COLUMNS} FROM spans WHERE {where} ORDER BY {order}"  # noqa: S608
        return tuple(_from_row(row) for row in self._rows(query, variables))

    def _rows(self, query: str, variables: Any) -> list[tuple[Any, ...]]:
        with _store_errors(self._path):
            return self._connection.execute(query, variables).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        # The connection's context is a transaction: it commits, or rolls back on an error.
        with _store_errors(self._path), self._connection:
            yield self._connection

    def _trim(self, connection: sqlite3.Connection) -> None:
        surplus = connection.execute("SELECT sum(spans) FROM traces").fetchone()[0] - self._max_spans
        oldest = connection.execute("SELECT arrival, trace_id, spans FROM traces ORDER BY arrival")
        removed: list[tuple[int, str]] = []
        while surplus > 0:
            arrival, trace_id, count = oldest.fetchone()
            removed.append((arrival, trace_id))
            surplus -= count
        oldest.close()
        connection.executemany(
            "DELETE FROM spans WHERE trace_id = ?", [(trace_id,) for _, trace_id in removed]
        )
        connection.executemany("DELETE FROM traces WHERE arrival = ?", [(arrival,) for arrival, _ in removed])


@contextmanager
def writing(path: Path, max_spans: int = DEFAULT_MAX_SPANS) -> Iterator[Store]:
    """Open a file for a collector, and create it if it does not exist.

    Args:
        path: the file.
        max_spans: the limit of stored spans.

    Raises:
        StoreError: it cannot be created or written, or is not a file of spans.
    """
    with _store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _open_database(path, "rwc")
    try:
        with _store_errors(path):
            _prepare(path, connection)
        yield Store(path, connection, max_spans)
    finally:
        connection.close()


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """Open a file for reading, also while a collector writes to it.

    Raises:
        StoreError: it is missing, cannot be read, or is not a file of spans.
    """
    if not path.exists():
        raise StoreError(f"span store {path} not found: run hello-grpc-traces collect, or set --store")
    with _store_errors(path):
        # Not read-only: the first reader of a WAL file creates its index.
        connection = _open_database(path, "rw")
    try:
        with _store_errors(path):
            _check(path, connection)
            connection.execute("PRAGMA query_only = ON")
        yield Store(path, connection, DEFAULT_MAX_SPANS)
    finally:
        connection.close()


def _open_database(path: Path, mode: str) -> sqlite3.Connection:
    # A collector opens in one thread and writes in another, never in both at once.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, timeout=_BUSY_SECONDS, uri=True, check_same_thread=False)


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        # WAL: readers and the writer do not block each other.
        connection.execute("PRAGMA journal_mode = WAL")
        _create(connection)
    _check(path, connection)
    # In WAL mode, a crash of the host may lose the last spans, but no earlier ones.
    connection.execute("PRAGMA synchronous = NORMAL")


def _create(connection: sqlite3.Connection) -> None:
    try:
        connection.executescript(_SCHEMA)
    except sqlite3.OperationalError:
        connection.rollback()
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            raise
        # Another process created the tables at the same moment.


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreError(f"{path} is not a file of collected spans: choose another with --store")
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        raise StoreError(f"{path} was written by another version: delete it, or choose another with --store")


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the file system into one line that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot use span store {path}: {reason}") from error


def _to_row(span: Span) -> tuple[str | int | None, ...]:
    more = {
        "message": span.status_message,
        "attributes": span.attributes,
        "resource": span.resource,
        "events": [[event.time_ns, event.name, event.attributes] for event in span.events],
        "trace_state": span.trace_state,
        "dropped": span.dropped,
        "origin": span.origin,
    }
    return (
        span.trace_id,
        span.span_id,
        span.kind,
        span.service,
        span.parent_id,
        span.name,
        span.start_ns,
        span.end_ns,
        span.status,
        json.dumps({key: value for key, value in more.items() if value}, ensure_ascii=False),
        span.request_id,
    )


def _from_row(row: Sequence[Any]) -> Span:
    trace_id, span_id, kind, service, parent_id, name, start_ns, end_ns, status, more = row
    values = json.loads(more)
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        kind=SpanKind(kind),
        service=service,
        start_ns=start_ns,
        end_ns=end_ns,
        status=Status(status),
        status_message=values.get("message", ""),
        attributes=values.get("attributes", {}),
        resource=values.get("resource", {}),
        events=tuple(Event(*event) for event in values.get("events", ())),
        trace_state=values.get("trace_state", ""),
        dropped=values.get("dropped", 0),
        origin=Origin(values["origin"]),
    )
