"""One span, in any protocol, and the limits of every span."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from hello_mesh.base.errors import SpanError
from hello_mesh.base.text import excerpt

Value: TypeAlias = "str | bool | int | float | list[Value] | dict[str, Value]"
"""The value of an attribute. Bytes are kept as base64 text."""

UNKNOWN_SERVICE = "unknown_service"
"""The service of a span without one, as in OpenTelemetry."""

MAX_ATTRIBUTES = 128
MAX_EVENTS = 128
MAX_KEY = 256
MAX_TEXT = 4096

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
_SHORT_ID = 16
# The limit of SQLite, Java and Go; in nanoseconds it is in the year 2262.
_LATEST_NS = 2**63 - 1


class SpanKind(StrEnum):
    """The side of a call that a span describes."""

    UNSPECIFIED = "unspecified"
    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Status(StrEnum):
    """The status of a span."""

    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


class Origin(StrEnum):
    """The protocol in which a span was received."""

    OTLP = "otlp"
    ZIPKIN = "zipkin"


@dataclass(frozen=True)
class Event:
    """An event of a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Span:
    """One span. Links and the instrumentation scope are not kept.

    Raises:
        SpanError: invalid ids or times.
    """

    trace_id: str
    """32 lower-case hex digits, not all zero; a shorter id of Zipkin is padded on the left."""
    span_id: str
    """16 lower-case hex digits, not all zero."""
    parent_id: str | None
    """As `span_id`; None for a root."""
    name: str
    kind: SpanKind
    service: str
    start_ns: int
    end_ns: int
    """Unix time in nanoseconds."""
    status: Status = Status.UNSET
    status_message: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)
    resource: Mapping[str, Value] = field(default_factory=dict, hash=False)
    """The attributes of the sender, without the name of the service."""
    events: tuple[Event, ...] = ()
    trace_state: str = ""
    dropped: int = 0
    """How many attributes and events exceeded the limits, here or at the sender."""
    origin: Origin = Origin.OTLP

    def __post_init__(self) -> None:
        if not _TRACE_ID.fullmatch(self.trace_id):
            raise SpanError(f"invalid trace id {_quoted(self.trace_id)}: use 32 hex digits, not all zero")
        if not _SPAN_ID.fullmatch(self.span_id):
            raise SpanError(f"invalid span id {_quoted(self.span_id)}: use 16 hex digits, not all zero")
        if self.parent_id is not None and not _SPAN_ID.fullmatch(self.parent_id):
            raise SpanError(
                f"invalid parent span id {_quoted(self.parent_id)}: use 16 hex digits, not all zero"
            )
        if not 0 < self.start_ns <= _LATEST_NS:
            raise SpanError(
                f"invalid start time {self.start_ns} of span {self.span_id}: use a Unix time in nanoseconds"
            )
        if not self.start_ns <= self.end_ns <= _LATEST_NS:
            raise SpanError(
                f"invalid end time {self.end_ns} of span {self.span_id}: use a time from {self.start_ns} on"
            )

    @property
    def duration_ns(self) -> int:
        """The duration in nanoseconds."""
        return self.end_ns - self.start_ns

    @property
    def failed(self) -> bool:
        """Whether its status is an error."""
        return self.status is Status.ERROR

    @property
    def request_id(self) -> str | None:
        """The x-request-id of the call, with which every Envoy tags its spans."""
        value = self.attributes.get("guid:x-request-id")
        return value if isinstance(value, str) and value else None


def padded(trace_id: str) -> str:
    """Return a trace id of 64 bits, which Zipkin allows, as one of 128 bits; others unchanged."""
    return trace_id.rjust(32, "0") if len(trace_id) == _SHORT_ID else trace_id


def bounded_text(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` cut to `limit` characters, without lone surrogates, which cannot be stored."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def bounded_attributes(pairs: Iterable[tuple[str, Value]]) -> tuple[dict[str, Value], int]:
    """Return the attributes within the limits, and the number of others. The last of equal keys counts."""
    kept: dict[str, Value] = {}
    dropped = 0
    for key, value in pairs:
        key = bounded_text(key, MAX_KEY)  # noqa: PLW2901
        if key not in kept and len(kept) == MAX_ATTRIBUTES:
            dropped += 1
        else:
            kept[key] = _bounded_value(value)
    return kept, dropped


def _bounded_value(value: Value) -> Value:
    if isinstance(value, str):
        return bounded_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        bounded = bounded_text(text)
        # Parsed again, so that JSON can hold it. A value that is too long is kept as the start of its text.
        return _parsed(bounded) if len(text) <= MAX_TEXT else bounded
    return value


def _parsed(text: str) -> Value:
    # json writes NaN and the infinities as bare words, and passes them here.
    value: Value = json.loads(text, parse_constant=str)
    return value


def _quoted(value: str) -> str:
    return repr(excerpt(value))
