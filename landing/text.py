"""Showing text that came from somebody else: on one line, without control characters, not too long."""

import json
from collections.abc import Mapping


def printable(value: str) -> str:
    """`value` on one line, with whatever cannot be printed escaped.

    Everything from the wire or the command line that goes into a message or onto a terminal goes
    through here, so that nobody can forge a log line or send escape sequences to a terminal.
    """
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)


def shown(value: str, limit: int = 40) -> str:
    """`value` as `printable` has it, cut to about `limit` characters."""
    head = printable(value[:limit])
    return head if len(value) <= limit else f"{head}… ({len(value)} characters)"


def json_line(values: Mapping[str, object]) -> str:
    """`values` as a JSON object on one line, readable, yet with whatever cannot be printed escaped."""
    line = json.dumps(values, ensure_ascii=False)
    if line.isprintable():
        return line
    # JSON itself leaves the control characters above ASCII and the line separators as they are.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
