"""Trace contexts in headers: W3C `traceparent` and both forms of B3."""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

Metadata = Iterable[tuple[str, str | bytes]]
"""gRPC metadata: pairs of a lower-case key and a text value, or bytes if the key ends in `-bin`."""

MetadataPairs = tuple[tuple[str, str | bytes], ...]
"""Metadata as a tuple, in its order."""

# https://www.w3.org/TR/trace-context/#traceparent-header: version ff is forbidden, a version after 00
# may have more fields after the flags, and an id of only zeros is invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})"
    r"-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
# https://github.com/openzipkin/b3-propagation: trace ids of 64 or 128 bits. The single header may also be
# just a sampling decision ("0"), without a trace.
_B3_TRACE = r"(?!0+(?![0-9a-f]))(?:[0-9a-f]{32}|[0-9a-f]{16})"
_B3_SPAN = r"(?!0{16})[0-9a-f]{16}"
_B3_IDS = re.compile(f"(?P<trace>{_B3_TRACE})/(?P<span>{_B3_SPAN})")
_B3_SINGLE = re.compile(
    f"(?P<trace>{_B3_TRACE})-(?P<span>{_B3_SPAN})(?:-(?P<sampled>[01d])(?:-[0-9a-f]{{16}})?)?"
)
# "d" is the debug flag of the single header. Old senders write true and false.
_B3_SAMPLED = {"1": True, "d": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class TraceContext:
    """The position of a call in its trace: the ids that its caller sent."""

    trace_id: str
    """32 lower-case hex digits; from B3 also 16."""
    span_id: str
    """16 lower-case hex digits: the caller's span, the parent of the next span."""
    sampled: bool | None = field(default=None, compare=False)
    """True if the trace is recorded; None if its headers do not decide it. Not part of the position."""

    @property
    def traceparent(self) -> str:
        """The value of the W3C header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def b3(self) -> tuple[tuple[str, str], ...]:
        """The B3 headers, in the form with many headers."""
        sampled = "1" if self.sampled else "0"
        return ("x-b3-traceid", self.trace_id), ("x-b3-spanid", self.span_id), ("x-b3-sampled", sampled)


def new_trace_context() -> TraceContext:
    """Return the root of a new, sampled trace."""
    return TraceContext(_random_id(16), _random_id(8), sampled=True)


def from_w3c(metadata: Metadata) -> TraceContext | None:
    """Return the context in the first `traceparent`; None if it is missing or invalid."""
    found = _TRACEPARENT.fullmatch(first_text(metadata, "traceparent"))
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return TraceContext(found["trace"], found["span"], sampled=bool(int(found["flags"], 16) & 1))


def from_b3(metadata: Metadata) -> TraceContext | None:
    """Return the context in the B3 headers; None if they are missing or invalid.

    If both forms are present, the many headers win: Envoy writes those.
    """
    metadata = tuple(metadata)
    many = f"{first_text(metadata, 'x-b3-traceid')}/{first_text(metadata, 'x-b3-spanid')}".lower()
    if found := _B3_IDS.fullmatch(many):
        debug = first_text(metadata, "x-b3-flags") == "1"
        decision = "d" if debug else first_text(metadata, "x-b3-sampled").lower()
    elif found := _B3_SINGLE.fullmatch(first_text(metadata, "b3").lower()):
        decision = found["sampled"] or ""
    else:
        return None
    return TraceContext(found["trace"], found["span"], _B3_SAMPLED.get(decision))


def header_problem(metadata: Metadata) -> str:
    """Return why proxies may not continue the trace in the headers of a call; "" if there is no reason.

    Envoy starts no trace for an invalid `traceparent`, and passes on one of a later version with more fields
    without a span.
    """
    metadata = tuple(metadata)
    if value := first_text(metadata, "traceparent"):
        if from_w3c(metadata) is None:
            return "the client's traceparent is invalid"
        return "" if value.startswith("00-") else f"the client's traceparent has version {value[:2]}"
    ids = first_text(metadata, "x-b3-traceid") or first_text(metadata, "b3").lower()
    # The single B3 header may be only a sampling decision.
    invalid = ids not in {"", *_B3_SAMPLED} and not from_b3(metadata)
    return "the client's B3 headers are invalid" if invalid else ""


def first_text(metadata: Metadata, key: str) -> str:
    """Return the first text value under `key`, "" if there is none."""
    return next((value for name, value in metadata if name == key and isinstance(value, str)), "")


def _random_id(size: int) -> str:
    while not int(value := secrets.token_hex(size), 16):
        pass  # an id of only zeros is invalid
    return value
