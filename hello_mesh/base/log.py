"""Logging to stderr, as text or as JSON lines. Each line of a call carries its trace id.

Logging never blocks a call: see `hello_mesh.base.line_writer`.
"""

import atexit
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from hello_mesh.base.line_writer import LineWriter
from hello_mesh.base.text import excerpt, json_line, printable, utc_time

Format = Literal["text", "json"]
Facts = Mapping[str, str | float | None]
"""Keys and values of a line in addition to its message; None is left out."""

trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The trace id of the call that the current task serves."""

_CALL_LOGGER = "grpc_server.call"

# Where the lines of calls go; empty until `configure`, and at levels above INFO.
_call_handlers: "list[_LineHandler]" = []


def configure(name: str, log_format: Format, level: str) -> LineWriter:
    """Send the log of this process to stderr. A command calls this once.

    Args:
        name: the hop's name, on every line.
        log_format: text for people, or one JSON object per line with stable keys.
        level: the name of a level of `logging`, in any case.

    Returns:
        The writer of the lines. It is closed when the process exits.
    """
    writer = LineWriter(sys.stderr.fileno())
    atexit.register(writer.close)
    handler = _LineHandler(writer, _JsonLayout(name) if log_format == "json" else _TextLayout(name))
    handler.addFilter(_OncePerSecond())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    _call_handlers[:] = [handler] if logging.getLogger(_CALL_LOGGER).isEnabledFor(logging.INFO) else []
    return writer


def log_call(method: str, trace: str | None, code: str, milliseconds: float, peer: str) -> None:
    """Log the end of a call. This bypasses `logging`, whose records cost a fifth of a call."""
    for handler in _call_handlers:
        handler.log_call(method, {"trace": trace, "code": code, "ms": milliseconds, "peer": peer})


@dataclass(frozen=True)
class _Line:
    """The fields that every line has."""

    moment: str
    level: str
    logger: str
    message: str


class _Layout(Protocol):
    def lay_out(self, line: _Line, facts: Facts, exception: str) -> str:
        """Return the line; in text, an exception adds indented lines. No exception is ""."""


class _TextLayout:
    def __init__(self, name: str) -> None:
        self._name = excerpt(name, 64)

    def lay_out(self, line: _Line, facts: Facts, exception: str) -> str:
        tail = "".join(f" {key}={value}" for key, value in facts.items() if value is not None)
        first = f"{line.moment} {line.level} {self._name}: {printable(line.message + tail)}"
        # Indented, so that no line of an exception's text can pass for a line of the log.
        return "\n".join((first, *(f"  {printable(text)}" for text in exception.splitlines())))


class _JsonLayout:
    def __init__(self, name: str) -> None:
        self._name = name

    def lay_out(self, line: _Line, facts: Facts, exception: str) -> str:
        values = {
            "time": line.moment,
            "level": line.level,
            "name": self._name,
            "logger": line.logger,
            "message": line.message,
            **facts,
            "exception": exception or None,
        }
        return json_line({key: value for key, value in values.items() if value is not None})


class _OncePerSecond(logging.Filter):
    """Limits what any caller can cause, one message each: at most one line per second and kind."""

    # gRPC logs the first with a traceback for each header that is not UTF-8.
    _KINDS = ("Invalid encoding on %s", "%s called by %s")

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}
        self._suppressed: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.msg
        if kind not in self._KINDS:
            return True
        if record.created < self._next.get(kind, 0):
            self._suppressed[kind] += 1
            return False
        self._next[kind] = record.created + 1
        record.exc_info = None
        if suppressed := self._suppressed.pop(kind, 0):
            record.msg += f" ({suppressed} more in the meantime)"
        return True


class _LineHandler(logging.Handler):
    """Lays out records, and the ends of calls, as lines for a `LineWriter`."""

    _exceptions = logging.Formatter()

    def __init__(self, writer: LineWriter, layout: _Layout) -> None:
        super().__init__()
        self._writer = writer
        self._layout = layout

    def emit(self, record: logging.LogRecord) -> None:
        moment = utc_time(int(record.created * 1e9))
        line = _Line(moment, record.levelname, record.name, record.getMessage())
        exception = self._exceptions.formatException(record.exc_info) if record.exc_info else ""
        self._writer.write(self._layout.lay_out(line, {"trace": trace_id.get()}, exception))

    def log_call(self, method: str, facts: Facts) -> None:
        line = _Line(utc_time(time.time_ns()), "INFO", _CALL_LOGGER, method)
        self._writer.write(self._layout.lay_out(line, facts, ""))
