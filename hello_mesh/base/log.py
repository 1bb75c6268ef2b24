"""Logging to stderr, as text or as JSON lines, every line of a call with its trace id."""

import atexit
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from hello_mesh.base.line_writer import LineWriter
from hello_mesh.base.text import excerpt, json_line, printable

Format = Literal["text", "json"]

trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The trace id of the call that the current task serves."""


def configure(name: str, log_format: Format, level: str) -> None:
    """Sends the log of this process to stderr. Called once, by a command.

    Args:
        name: the hop's name, on every line.
        log_format: lines for people, or one JSON object a line with stable keys.
        level: a level's name as `logging` knows it.
    """
    global _lines
    writer = LineWriter(sys.stderr.fileno())
    atexit.register(writer.close)
    handler = _QueueHandler(writer)
    _lines = _CallLines(
        writer if level == "INFO" or level == "DEBUG" else None, excerpt(name, 64), log_format
    )
    handler.setFormatter(_JsonFormatter(name) if log_format == "json" else _TextFormatter(name))
    handler.addFilter(_add_trace_id)
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _QueueHandler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record))


def fields(**values: str | float | None) -> Mapping[str, Mapping[str, str | float | None]]:
    """The `extra` of a log call: facts of a line, which stay separate keys in JSON."""
    return {"fields": values}


def _add_trace_id(record: logging.LogRecord) -> bool:
    record.trace = trace_id.get()  # read now: a formatter may run in another context
    return True


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _TextFormatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = excerpt(name, 64)

    def format(self, record: logging.LogRecord) -> str:
        facts = {"trace": getattr(record, "trace", None), **getattr(record, "fields", {})}
        tail = "".join(f" {key}={value}" for key, value in facts.items() if value is not None)
        line = f"{_time(record)} {record.levelname} {self._name}: {printable(record.getMessage() + tail)}"
        if not record.exc_info:
            return line
        # Indented, so that no line of an exception's text can be taken for a line of the log.
        traceback = self.formatException(record.exc_info).splitlines()
        return "\n".join((line, *(f"  {printable(text)}" for text in traceback)))


class _JsonFormatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname,
            "name": self._name,
            "logger": record.name,
            "message": record.getMessage(),
            "trace": getattr(record, "trace", None),
            **getattr(record, "fields", {}),
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json_line({key: value for key, value in line.items() if value is not None})


class _CallLines:
    """Writes the line of each call past `logging`, whose records cost a fifth of a call."""

    def __init__(self, writer: LineWriter | None = None, name: str = "", log_format: Format = "text") -> None:
        self._writer = writer
        self._name = name
        self._json = log_format == "json"
        self._second = 0
        self._prefix = ""

    def write(self, method: str, trace: str | None, code: str, ms: float, peer: str) -> None:
        if self._writer is None:
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        moment = f"{self._prefix}.{int((now - second) * 1000):03d}Z"
        if self._json:
            values = {
                "time": moment,
                "level": "INFO",
                "name": self._name,
                "logger": "grpc_server.call",
                "message": method,
                "trace": trace,
                "code": code,
                "ms": ms,
                "peer": peer,
            }
            line = json_line({key: value for key, value in values.items() if value is not None})
        else:
            context = f" trace={trace}" if trace else ""
            line = f"{moment} INFO {self._name}: {method}{context} code={code} ms={ms} peer={peer}"
        self._writer.write(line)


_lines = _CallLines()


def call_line(method: str, trace: str | None, code: str, ms: float, peer: str) -> None:
    """Log one call."""
    _lines.write(method, trace, code, ms, peer)
