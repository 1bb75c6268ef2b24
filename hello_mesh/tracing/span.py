"""One span, whichever protocol brought it, and the bounds that every span is held to."""

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
"""What an attribute can hold. Bytes are kept as base64 text."""

UNKNOWN_SERVICE = "unknown_service"
"""The service of a span that names none, as OpenTelemetry calls it."""

MAX_ATTRIBUTES = 128
MAX_EVENTS = 128
MAX_KEY = 256
MAX_TEXT = 4096

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
_SHORT_ID = 16
# What SQLite, Java and Go can hold; in nanoseconds it lasts until the year 2262.
_LATEST_NS = 2**63 - 1


class SpanKind(StrEnum):
    """Which side of a call a span describes."""

    UNSPECIFIED = "unspecified"
    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Status(StrEnum):
    """How the work of a span ended."""

    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


class Origin(StrEnum):
    """The protocol that brought a span."""

    OTLP = "otlp"
    ZIPKIN = "zipkin"


@dataclass(frozen=True)
class Event:
    """Something that happened at a moment of a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Span:
    """One span. Links and the instrumentation scope are not kept.

    Raises:
        SpanError: ids or times that no span can have.
    """

    trace_id: str
    """32 lower-case hex digits, not all zero; a shorter id of Zipkin's is padded on the left."""
    span_id: str
    """16 lower-case hex digits, not all zero."""
    parent_id: str | None
    """As `span_id`; None: a root."""
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
    """What is known of the sender, besides the name of the service."""
    events: tuple[Event, ...] = ()
    trace_state: str = ""
    dropped: int = 0
    """How many attributes and events were too many to keep, here or at the sender."""
    origin: Origin = Origin.OTLP

    def __post_init__(self) -> None:
        if not _TRACE_ID.fullmatch(self.trace_id):
            raise SpanError(f"trace id {_quoted(self.trace_id)} is not 32 hex digits, or all zero")
        if not _SPAN_ID.fullmatch(self.span_id):
            raise SpanError(f"span id {_quoted(self.span_id)} is not 16 hex digits, or all zero")
        if self.parent_id is not None and not _SPAN_ID.fullmatch(self.parent_id):
            raise SpanError(f"parent span id {_quoted(self.parent_id)} is not 16 hex digits")
        if not 0 < self.start_ns <= _LATEST_NS:
            raise SpanError(f"span {self.span_id} starts at {self.start_ns} ns, which is no time")
        if not self.start_ns <= self.end_ns <= _LATEST_NS:
            raise SpanError(f"span {self.span_id} ends at {self.end_ns} ns, before it starts or too late")

    @property
    def duration_ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns

    @property
    def failed(self) -> bool:
        """Whether its work ended with an error."""
        return self.status is Status.ERROR

    @property
    def request_id(self) -> str | None:
        """The x-request-id of the call; every Envoy tags its spans with it."""
        value = self.attributes.get("guid:x-request-id")
        return value if isinstance(value, str) and value else None


def padded(trace_id: str) -> str:
    """A trace id of 64 bits, as Zipkin may have, as one of 128; any other as it is."""
    return trace_id.rjust(32, "0") if len(trace_id) == _SHORT_ID else trace_id


def bounded_text(text: str, limit: int = MAX_TEXT) -> str:
    """`text` cut to `limit` characters, and without lone surrogates, which nothing can store."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def bounded_attributes(pairs: Iterable[tuple[str, Value]]) -> tuple[dict[str, Value], int]:
    """The attributes that are kept, and how many were too many. Of a key that repeats, the last counts."""
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
        return str(value)  # JSON has no number for it
    if isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        bounded = bounded_text(text)
        # Parsed anew, so that it holds nothing that JSON cannot; what is too long stays as the text's head.
        return _parsed(bounded) if len(text) <= MAX_TEXT else bounded
    return value


def _parsed(text: str) -> Value:
    # json writes NaN and the infinities as bare words and hands them back as it read them.
    value: Value = json.loads(text, parse_constant=str)
    return value


def _quoted(value: str) -> str:
    return repr(excerpt(value))
