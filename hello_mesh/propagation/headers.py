"""Which headers a hop takes from an incoming call and forwards on the call that it causes.

A sidecar cannot know which outgoing call belongs to which incoming one; only the application can. It
passes on every header family below, whichever of them the mesh of today speaks: the price is a few bytes,
and the trace stays whole when the mesh changes its tracer.
"""

import re
from dataclasses import dataclass

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.trace_context import Metadata


@dataclass(frozen=True)
class Family:
    """Headers that belong together, and why they travel."""

    name: str
    keys: tuple[str, ...]
    reason: str


FAMILIES = (
    Family("request id", ("x-request-id",), "every Envoy samples and logs by it"),
    Family(
        "W3C Trace Context",
        ("traceparent", "tracestate"),
        "ASM newer than 1.18.0.124 and Istio's OpenTelemetry provider continue traces by it",
    ),
    Family("W3C Baggage", ("baggage",), "ASM's traffic lanes in permissive mode route by it"),
    Family(
        "B3, many headers",
        ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"),
        "ASM up to 1.18.0.124 and Istio's Zipkin provider continue traces by it",
    ),
    Family("B3, one header", ("b3",), "Zipkin clients send it"),
    Family("OpenTracing", ("x-ot-span-context",), "Lightstep continues traces by it"),
    # gRPC's C core, under Python as under C++ and Ruby, keeps grpc-trace-bin to itself: no application sees
    # it. It is named for the day when the core shows it.
    Family("OpenCensus", ("grpc-trace-bin", "x-cloud-trace-context"), "older Google tracing continues by it"),
    Family("SkyWalking", ("sw8", "sw8-correlation", "sw8-x"), "Istio's SkyWalking provider continues by it"),
    Family(
        "Datadog",
        (
            "x-datadog-trace-id",
            "x-datadog-parent-id",
            "x-datadog-sampling-priority",
            "x-datadog-origin",
            "x-datadog-tags",
        ),
        "Istio's Datadog provider continues traces by it",
    ),
    Family("ASM lanes", ("x-asm-prefer-tag",), "the ASM gateway chooses a lane by it; harmless further on"),
)

_FAMILY_KEYS = frozenset(key for family in FAMILIES for key in family.keys)

# Each hop's own transport writes these; a copy of the caller's would lie about the new call.
_DENIED_KEYS = frozenset({"te", "content-type", "user-agent", "host", "connection"})
_DENIED_PREFIXES = (":", "grpc-", "x-envoy-", "x-forwarded-")
_DESPITE_PREFIX = frozenset({"grpc-trace-bin"})

# What HTTP servers and proxies add to a response of their own; the next hop up adds its own again.
_RESPONSE_DENIED = frozenset({"server", "date", "content-length", "via"})
_RESPONSE_DESPITE_PREFIX = frozenset({"grpc-status-details-bin"})

_NAME = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True)
class ExtraHeaders:
    """Header names that a user wants forwarded besides the families."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ExtraHeaders":
        """From a comma-separated list of names and of prefixes that end in `*`.

        Raises:
            UsageError: where an entry cannot be the name of a header.
        """
        entries = [entry.strip().lower() for entry in text.split(",") if entry.strip()]
        for entry in entries:
            if not _NAME.fullmatch(entry.removesuffix("*")):
                raise UsageError(
                    f"{excerpt(entry)!r} is no header name:"
                    " use names like x-user-id, or a prefix like x-canary-*"
                )
        return cls(
            frozenset(entry for entry in entries if not entry.endswith("*")),
            tuple(entry[:-1] for entry in entries if entry.endswith("*")),
        )

    @property
    def denied(self) -> tuple[str, ...]:
        """Those among them that are never forwarded, although they were asked for."""
        names = (*self.exact, *(f"{prefix}*" for prefix in self.prefixes))
        return tuple(sorted(name for name in names if _is_denied(name)))

    def __contains__(self, key: str) -> bool:
        return key in self.exact or key.startswith(self.prefixes)


def propagated_headers(
    metadata: Metadata, extra: ExtraHeaders = ExtraHeaders()
) -> tuple[tuple[str, str | bytes], ...]:
    """What of an incoming call's metadata goes along on the outgoing call, in its order.

    A key that occurs several times stays so. An empty value is dropped: Envoy's OpenTelemetry tracer can
    inject an empty `tracestate`, and some receivers reject it.
    """
    return tuple(
        (key, value)
        for key, value in metadata
        if (key in _FAMILY_KEYS or key in extra) and not _is_denied(key) and _can_travel(key, value)
    )


def propagated_trailers(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    """What of the next hop's response metadata goes back to the caller: all that the application set."""
    return tuple(
        (key, value)
        for key, value in metadata
        if (key in _RESPONSE_DESPITE_PREFIX or not (_is_denied(key) or key in _RESPONSE_DENIED))
        and _can_travel(key, value)
    )


def check_header(key: str, value: str | bytes) -> None:
    """Refuses a header that a caller cannot set.

    Raises:
        UsageError: a name or value that gRPC cannot carry, or a name that belongs to the transport.
    """
    if not _NAME.fullmatch(key):
        raise UsageError(f"{excerpt(key)!r} is no header name: use letters, digits, '-', '_' and '.'")
    if _is_denied(key):
        raise UsageError(f"the header {key} belongs to the transport and cannot be set")
    if not _can_travel(key, value):
        raise UsageError(
            f"the value of {key} must be one or more printable ASCII characters;"
            " anything else goes into a header whose name ends in -bin, as base64"
        )


def _is_denied(key: str) -> bool:
    return key in _DENIED_KEYS or (key.startswith(_DENIED_PREFIXES) and key not in _DESPITE_PREFIX)


def _can_travel(key: str, value: str | bytes) -> bool:
    # gRPC fails the whole outgoing call over one text value outside printable ASCII, yet accepts it
    # on the incoming one: a foreign header must not break the chain.
    if key.endswith("-bin"):
        return bool(value)
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None
