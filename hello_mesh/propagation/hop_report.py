"""The hop report: trailing metadata in which each hop reports the trace context that it saw.

A call returns one value of `hello-hop` per hop, in order from the first hop to the last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

from hello_mesh.base.errors import HopReportError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.trace_context import Metadata, TraceContext, first_text, from_b3, from_w3c

HOP_METADATA_KEY = "hello-hop"

# The values of all hops must fit into the metadata limit of gRPC, 8 KiB.
_MAX_REQUEST_ID = 128


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

    @classmethod
    def from_metadata(cls, name: str, role: Role, metadata: Metadata) -> "Hop":
        """Return the report of a hop on a call with this incoming `metadata`."""
        metadata = tuple(metadata)
        request = first_text(metadata, "x-request-id")[:_MAX_REQUEST_ID]
        return cls(name, role, from_w3c(metadata), from_b3(metadata), request or None)

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
                _context(pairs, "trace", "parent"),
                _context(pairs, "b3-trace", "b3-parent"),
                pairs.get("request"),
            )
        except (KeyError, ValueError) as error:
            raise HopReportError(f"invalid hop report: {excerpt(str(dict(pairs)), 100)}") from error

    def to_pairs(self) -> dict[str, str]:
        """Return the keys and values of the report; a key that this hop did not see is left out."""
        pairs = {"name": self.name, "role": str(self.role)}
        if self.w3c:
            pairs |= {"trace": self.w3c.trace_id, "parent": self.w3c.span_id}
            if self.w3c.sampled is not None:
                pairs["sampled"] = "1" if self.w3c.sampled else "0"
        if self.b3:
            pairs |= {"b3-trace": self.b3.trace_id, "b3-parent": self.b3.span_id}
        if self.request:
            pairs["request"] = self.request
        return pairs


def encode(hop: Hop) -> str:
    """Return a value of `hello-hop`: `key=value` pairs, values percent-encoded."""
    # A name from the environment may hold bytes that are not UTF-8; they become question marks.
    return ";".join(
        f"{key}={quote(value, safe='', errors='replace')}" for key, value in hop.to_pairs().items()
    )


def decode(value: str) -> Hop:
    """Return the hop that a value of `hello-hop` describes; unknown keys are ignored.

    Raises:
        HopReportError: the name or the role is missing or invalid.
    """
    return Hop.from_pairs(
        {key: unquote(text) for key, _, text in (pair.partition("=") for pair in value.split(";"))}
    )


def parse_report(metadata: Metadata) -> tuple[Hop, ...]:
    """Return the hops that a call's trailing metadata reports, first hop first.

    Raises:
        HopReportError: as `decode`.
    """
    return tuple(
        decode(value) for key, value in metadata if key == HOP_METADATA_KEY and isinstance(value, str)
    )


def _context(pairs: Mapping[str, str], trace: str, parent: str) -> TraceContext | None:
    if trace not in pairs or parent not in pairs:
        return None
    sampled = {"1": True, "0": False}.get(pairs.get("sampled", ""))
    return TraceContext(pairs[trace], pairs[parent], sampled if trace == "trace" else None)
