"""The headers that a hop propagates from an incoming call to the outgoing calls that it causes.

A sidecar cannot know which outgoing call belongs to which incoming one; only the application can. The
application propagates every header family below, whichever one the mesh uses today. That costs a few bytes,
and traces stay whole if the mesh changes its tracer.
"""

import re
from dataclasses import dataclass

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.trace_context import Metadata, MetadataPairs


@dataclass(frozen=True)
class HeaderFamily:
    """Headers that belong together."""

    name: str
    keys: tuple[str, ...]
    reason: str
    """The systems that need them."""


FAMILIES = (
    HeaderFamily("request id", ("x-request-id",), "every Envoy uses it for sampling and logs"),
    HeaderFamily(
        "W3C Trace Context",
        ("traceparent", "tracestate"),
        "ASM newer than 1.18.0.124 and Istio's OpenTelemetry provider continue traces with it",
    ),
    HeaderFamily("W3C Baggage", ("baggage",), "ASM traffic lanes in permissive mode route by it"),
    HeaderFamily(
        "B3, many headers",
        ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),
        "ASM up to 1.18.0.124 and Istio's Zipkin provider continue traces with it",
    ),
    HeaderFamily("B3, one header", ("b3",), "Zipkin clients send it"),
    HeaderFamily("OpenTracing", ("x-ot-span-context",), "Lightstep continues traces with it"),
    # gRPC's C core hides grpc-trace-bin from Python applications. It is listed for a core that shows it.
    HeaderFamily(
        "OpenCensus",
        ("grpc-trace-bin", "x-cloud-trace-context"),
        "older Google tracing continues traces with it; gRPC hides grpc-trace-bin from Python",
    ),
    HeaderFamily(
        "SkyWalking",
        ("sw8", "sw8-correlation", "sw8-x"),
        "Istio's SkyWalking provider continues traces with it",
    ),
    HeaderFamily(
        "Datadog",
        (
            "x-datadog-trace-id",
            "x-datadog-parent-id",
            "x-datadog-sampling-priority",
            "x-datadog-origin",
            "x-datadog-tags",
        ),
        "Istio's Datadog provider continues traces with it",
    ),
    HeaderFamily(
        "ASM lanes", ("x-asm-prefer-tag",), "the ASM gateway selects a lane by it; harmless downstream"
    ),
)

_FAMILY_KEYS = frozenset(key for family in FAMILIES for key in family.keys)

# The transport of each hop writes these itself; a copy would misstate the new call.
_DENIED_KEYS = frozenset({"te", "content-type", "user-agent", "host", "connection"})
_DENIED_PREFIXES = (":", "grpc-", "x-envoy-", "x-forwarded-")
_ALLOWED_DESPITE_PREFIX = frozenset({"grpc-trace-bin"})

# HTTP servers and proxies add these to each response themselves.
_DENIED_TRAILERS = frozenset({"server", "date", "content-length", "via"})
_ALLOWED_TRAILERS = frozenset({"grpc-status-details-bin"})

_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
_PRINTABLE_ASCII = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True)
class ExtraHeaders:
    """Header names that a user configures in addition to the families."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ExtraHeaders":
        """Return the names in a comma-separated list; an entry that ends in `*` is a prefix.

        Raises:
            UsageError: an entry is not a valid header name.
        """
        entries = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
        for entry in entries:
            if not _HEADER_NAME.fullmatch(entry.removesuffix("*")):
                raise UsageError(
                    f"invalid header name {excerpt(entry)!r}:"
                    " use names like x-user-id, or a prefix like x-canary-*"
                )
        return cls(
            frozenset(entry for entry in entries if not entry.endswith("*")),
            tuple(entry[:-1] for entry in entries if entry.endswith("*")),
        )

    @property
    def denied(self) -> tuple[str, ...]:
        """The names and prefixes among them that are never propagated."""
        names = (*self.exact, *(f"{prefix}*" for prefix in self.prefixes))
        return tuple(sorted(name for name in names if _is_denied(name)))

    def __contains__(self, key: str) -> bool:
        return key in self.exact or key.startswith(self.prefixes)


def propagated_headers(metadata: Metadata, extra: ExtraHeaders = ExtraHeaders()) -> MetadataPairs:
    """Return the part of an incoming call's metadata that its outgoing calls carry, in its order.

    A key may occur several times. An empty value is dropped: Envoy's OpenTelemetry tracer can inject an empty
    `tracestate`, and some receivers reject it.
    """
    return tuple(
        (key, value)
        for key, value in metadata
        if (key in _FAMILY_KEYS or key in extra) and not _is_denied(key) and _is_sendable(key, value)
    )


def propagated_trailers(metadata: Metadata) -> MetadataPairs:
    """Return the part of the next hop's response metadata that its application set: the caller gets it."""
    return tuple(
        (key, value)
        for key, value in metadata
        if (key in _ALLOWED_TRAILERS or not (_is_denied(key) or key in _DENIED_TRAILERS))
        and _is_sendable(key, value)
    )


def check_header(key: str, value: str | bytes) -> None:
    """Refuse a header that a caller cannot set.

    Raises:
        UsageError: gRPC cannot carry the name or the value, or the name belongs to the transport.
    """
    if not _HEADER_NAME.fullmatch(key):
        raise UsageError(f"invalid header name {excerpt(key)!r}: use letters, digits, '-', '_' and '.'")
    if _is_denied(key):
        raise UsageError(f"header {key} belongs to the transport: remove it")
    if not _is_sendable(key, value):
        raise UsageError(
            f"invalid value of header {key}: use one or more printable ASCII characters,"
            " or a header name that ends in -bin with a base64 value"
        )


def _is_denied(key: str) -> bool:
    return key in _DENIED_KEYS or (key.startswith(_DENIED_PREFIXES) and key not in _ALLOWED_DESPITE_PREFIX)


def _is_sendable(key: str, value: str | bytes) -> bool:
    # gRPC accepts a text value outside printable ASCII on an incoming call, but fails the whole outgoing
    # call because of it. A foreign header must not break the chain.
    if key.endswith("-bin"):
        return bool(value)
    return isinstance(value, str) and _PRINTABLE_ASCII.fullmatch(value) is not None
