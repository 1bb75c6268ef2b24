"""Text for people and for programs: untrusted values on one line, counts, times, tables, JSON lines."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

LINE_WIDTH = 80
"""The width of a terminal in columns: text output fits."""


def printable(value: str) -> str:
    """Return `value` on one line, with every unprintable character escaped.

    Everything from the wire or the command line that goes into a message or to a terminal passes through
    here: no value can forge a log line or send escape sequences to a terminal.
    """
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)


def excerpt(value: str, limit: int = 40) -> str:
    """Return `value` as `printable` does, cut to about `limit` characters."""
    head = printable(value[:limit])
    return head if len(value) <= limit else f"{head}… ({len(value)} characters)"


def json_line(values: Mapping[str, object]) -> str:
    """Return `values` as a JSON object on one line, with every unprintable character escaped."""
    line = json.dumps(values, ensure_ascii=False)
    if line.isprintable():
        return line
    # JSON itself leaves control characters above ASCII, bidi controls and line separators as they are.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def count(number: int, noun: str) -> str:
    """Return "1 call", "3 calls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def utc_time(nanoseconds: int) -> str:
    """Return a Unix time in nanoseconds as ISO 8601 in UTC, with milliseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{_utc_second(seconds)}.{rest // 10**6:03d}Z"


@lru_cache(maxsize=16)  # many log lines have the same second
def _utc_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
