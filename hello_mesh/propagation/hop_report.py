"""The hop report: trailing metadata in which each hop reports the trace context that it saw.

A call returns one value of `hello-hop` per hop, in order from the first hop to the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

from hello_mesh.base.errors import HopReportError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.trace_context import Metadata, TraceContext, first_text, from_b3, from_w3c

HOP_METADATA_KEY = "hello-hop"

# The values of all hops must fit into the metadata limit of gRPC, 8 KiB.
_MAX_REQUEST_ID = 128

_FLAGS = {"1": True, "0": False}


class Role(StrEnum):
    """The task of a hop: to relay calls, or to answer them as the last one."""

    RELAY = "relay"
    LAST = "last"


@dataclass(frozen=True)
class Hop:
    """One call as one hop saw it."""

    name: str
    role: Role
    w3c: TraceContext | None = None
    """From `traceparent`; None if the call had none."""
    b3: TraceContext | None = None
    """From the B3 headers; None if the call had none."""
    request: str | None = None
    """`x-request-id`, shortened."""
    sent: bool | None = None
    """Whether a relay put trace context on its outgoing call; None if it does not report that."""

    @classmethod
    def from_metadata(cls, name: str, role: Role, metadata: Metadata, *, forward: bool = True) -> "Hop":
        """Return the report of a hop on a call with this incoming `metadata`.

        Args:
            name: the name of the hop.
            role: its task.
            metadata: the metadata of the incoming call.
            forward: whether a relay propagates the trace headers in it.
        """
        metadata = tuple(metadata)
        w3c, b3 = from_w3c(metadata), from_b3(metadata)
        sent = None if role is Role.LAST else forward and (w3c or b3) is not None
        return cls(name, role, w3c, b3, first_text(metadata, "x-request-id")[:_MAX_REQUEST_ID] or None, sent)

    @property
    def trace_id(self) -> str | None:
        """The trace id of the call at this hop, from either header family."""
        context = self.w3c or self.b3
        return context.trace_id if context else None

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, str]) -> "Hop":
        """Return the hop that reported these keys and values; unknown keys are ignored.

        Raises:
            HopReportError: the name or the role is missing or invalid.
        """
        try:
            return cls(
                pairs["name"],
                Role(pairs["role"]),
                _context(pairs),
                _context(pairs, "b3-"),
                pairs.get("request"),
                _FLAGS.get(pairs.get("sent", "")),
            )
        except (KeyError, ValueError) as error:
            raise HopReportError(f"invalid hop report: {excerpt(str(dict(pairs)), 100)}") from error

    def to_pairs(self) -> dict[str, str]:
        """Return the keys and values of the report; a key that this hop did not see is left out."""
        pairs = {"name": self.name, "role": str(self.role)}
        for prefix, context in (("", self.w3c), ("b3-", self.b3)):
            if context:
                pairs |= {f"{prefix}trace": context.trace_id, f"{prefix}parent": context.span_id}
                pairs |= _flag(f"{prefix}sampled", context.sampled)
        if self.request:
            pairs["request"] = self.request
        return pairs | _flag("sent", self.sent)


def encode(hop: Hop) -> str:
    """Return a value of `hello-hop`: `key=value` pairs, values percent-encoded."""
    return ";".join(f"{key}={_percent_encoded(value)}" for key, value in hop.to_pairs().items())


def _percent_encoded(value: str) -> str:
    if value.isascii() and value.isalnum():
        return value  # as most are: ids and flags
    # A name from the environment may hold bytes that are not UTF-8; they become question marks.
    return quote(value, safe="", errors="replace")


def decode(value: str) -> Hop:
    """Return the hop that a value of `hello-hop` describes; unknown keys are ignored.

    Raises:
        HopReportError: the name or the role is missing or invalid.
    """
    return Hop.from_pairs(
        {key: unquote(text) for key, _, text in (pair.partition("=") for pair in value.split(";"))}
    )


@dataclass(frozen=True)
class HopReport:
    """What the hops of a call reported."""

    hops: tuple[Hop, ...] = ()
    """The hops that can be read, first hop first."""
    unreadable: tuple[str, ...] = ()
    """The reason for each value that cannot be read."""


def parse_report(metadata: Metadata) -> HopReport:
    """Return what the trailing metadata of a call reports.

    HTTP libraries may join repeated trailers with commas. A comma inside a value is percent-encoded.
    """
    values = (value for key, value in metadata if key == HOP_METADATA_KEY and isinstance(value, str))
    hops: list[Hop] = []
    unreadable: list[str] = []
    for value in (part.strip() for joined in values for part in joined.split(",")):
        try:
            hops += [decode(value)] if value else []
        except HopReportError as error:
            unreadable.append(str(error))
    return HopReport(tuple(hops), tuple(unreadable))


def open_end(hops: Sequence[Hop]) -> str | None:
    """Return the name of the relay where a report ends although the path goes on; None if it does not."""
    return hops[-1].name if hops and hops[-1].role is Role.RELAY else None


def _context(pairs: Mapping[str, str], prefix: str = "") -> TraceContext | None:
    trace, parent = pairs.get(f"{prefix}trace"), pairs.get(f"{prefix}parent")
    if trace is None or parent is None:
        return None
    return TraceContext(trace.lower(), parent.lower(), _FLAGS.get(pairs.get(f"{prefix}sampled", "")))


def _flag(key: str, value: bool | None) -> dict[str, str]:
    return {} if value is None else {key: "1" if value else "0"}
