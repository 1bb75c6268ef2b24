"""The hop report: trailing metadata by which every hop tells what it saw of the trace.

A call brings back one value of `hello-hop` for each hop, in order from the first hop to the last.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from urllib.parse import quote, unquote

from landing.errors import HelloError
from landing.text import shown
from landing.trace_context import Metadata, first_text, from_b3, from_w3c

KEY = "hello-hop"

# Each hop adds a value, and all of them must fit into the metadata limit of gRPC (8 KiB), over several hops.
_LONGEST_VALUE = 128


class HopReportError(HelloError):
    """A `hello-hop` value is not what the contract says."""


class Role(StrEnum):
    """What a hop does with a call."""

    RELAY = "relay"
    LAST = "last"


@dataclass(frozen=True)
class Hop:
    """What one hop saw of one call. A field is None where the call did not bring it.

    The names of the fields are those of the wire, with `_` for `-`.
    """

    name: str
    role: Role
    trace: str | None = None
    """Trace id in `traceparent`: 32 hex digits."""
    parent: str | None = None
    """Span id in `traceparent`: 16 hex digits, of the span that made this call."""
    sampled: bool | None = None
    """Whether `traceparent` says that the trace is recorded."""
    b3_trace: str | None = None
    """Trace id in the B3 headers: 16 or 32 hex digits."""
    b3_parent: str | None = None
    """Span id in the B3 headers: 16 hex digits, of the span that made this call."""
    request: str | None = None
    """`x-request-id`."""

    @property
    def trace_id(self) -> str | None:
        """The trace id of the call at this hop, whichever family brought it."""
        return self.trace or self.b3_trace


def seen(name: str, role: Role, metadata: Metadata) -> Hop:
    """What a hop reports of a call that came in with `metadata`."""
    metadata = tuple(metadata)
    w3c, b3 = from_w3c(metadata), from_b3(metadata)
    request = first_text(metadata, "x-request-id")[:_LONGEST_VALUE]
    return Hop(
        name=name,
        role=role,
        trace=w3c.trace_id if w3c else None,
        parent=w3c.span_id if w3c else None,
        sampled=w3c.sampled if w3c else None,
        b3_trace=b3.trace_id if b3 else None,
        b3_parent=b3.span_id if b3 else None,
        request=request or None,
    )


def encode(hop: Hop) -> str:
    """The value of `hello-hop` that says the same."""
    pairs = ((field.name.replace("_", "-"), getattr(hop, field.name)) for field in fields(hop))
    return ";".join(f"{key}={quote(_to_text(value), safe='')}" for key, value in pairs if value is not None)


def decode(value: str) -> Hop:
    """The other way round. Keys that this version does not know are passed over.

    Raises:
        HopReportError: where the value is not `key=value` pairs, or its name or role is missing or wrong.
    """
    pairs = dict(pair.partition("=")[::2] for pair in value.split(";"))
    known = {field.name for field in fields(Hop)}
    found = {name: unquote(text) for key, text in pairs.items() if (name := key.replace("-", "_")) in known}
    try:
        return Hop(
            name=found.pop("name"),
            role=Role(found.pop("role")),
            sampled=_to_bool(found.pop("sampled", None)),
            **found,
        )
    except (KeyError, ValueError) as error:
        raise HopReportError(f"not a hop report: {shown(value, 100)}") from error


def report(metadata: Metadata) -> tuple[Hop, ...]:
    """The hops that a call's trailing metadata tells of, first hop first.

    Raises:
        HopReportError: as `decode`.
    """
    return tuple(decode(value) for key, value in metadata if key == KEY and isinstance(value, str))


def _to_text(value: str | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else value


def _to_bool(text: str | None) -> bool | None:
    if text not in ("0", "1", None):
        raise ValueError(text)
    return None if text is None else text == "1"
