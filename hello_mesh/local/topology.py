"""What a mesh is to be, as one value: its hops, what becomes of their calls, and how they are traced."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt

Tracer = Literal["w3c", "b3"]

NAMESPACE = "grpc-tracing"
GATEWAY = "istio-ingressgateway"
GATEWAY_NAMESPACE = "istio-system"
GATEWAY_SERVICE = f"{GATEWAY}.{GATEWAY_NAMESPACE}"
GATEWAY_PORT = 9999
APP_PORT = 9996
"""The port that a hop's service has in a cluster, and so in the names of operations."""

MOST_HOPS = 8
LOOPBACK = "127.0.0.1"

_PREFIX = "grpc-server-"
_FAULT = re.compile(
    r"(?P<hop>[^=]+)=(?:delay:(?P<delay>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s)|abort:(?P<status>[0-9]{1,2}))"
    r"(?:@(?P<percent>[0-9]+(?:\.[0-9]+)?)%)?"
)
_HIGHEST_STATUS = 16
_LONGEST_DELAY_MS = 3_600_000


@dataclass(frozen=True)
class Fault:
    """What the sidecar before a hop does to a part of the calls that come in: it delays or fails them."""

    hop: str
    percent: float = 100.0
    delay_ms: int | None = None
    """How long it holds a call back."""
    status: int | None = None
    """The gRPC status with which it fails a call."""

    def __str__(self) -> str:
        what = f"delay:{self.delay_ms}ms" if self.status is None else f"abort:{self.status}"
        return f"{self.hop}={what}@{self.percent:g}%"


@dataclass(frozen=True)
class Topology:
    """A chain of hops, a sidecar beside each, a gateway before the first."""

    hops: tuple[str, ...]
    """Their names, first hop first."""
    gateway_port: int = GATEWAY_PORT
    """0: any free one."""
    host: str = LOOPBACK
    """The address that the gateway listens on; all else is on loopback."""
    tracer: Tracer = "w3c"
    """Which headers the sidecars read and write: those of Envoy's OpenTelemetry or of its Zipkin tracer."""
    drop_at: str | None = None
    """The hop whose application forwards no headers."""
    faults: tuple[Fault, ...] = ()
    mtls: bool = True
    """Whether sidecars take calls over mutual TLS only."""
    access_log: bool = False
    """Whether each Envoy logs a line for every call."""

    def __post_init__(self) -> None:
        """Raises UsageError for what no mesh can be."""
        if not 1 <= len(self.hops) <= MOST_HOPS:
            raise UsageError(f"a mesh has 1 to {MOST_HOPS} hops, not {len(self.hops)}")
        if self.drop_at == self.hops[-1]:
            raise UsageError(f"{self.drop_at} is the last hop: it has nobody to forward headers to")
        for hop in (self.drop_at, *(fault.hop for fault in self.faults)):
            if hop is not None and hop not in self.hops:
                raise UsageError(f"no hop is named {excerpt(hop)}: use {', '.join(self.hops)}")
        _check_address(self.host)

    def next_hop(self, hop: str) -> str | None:
        """Whom a hop calls; None: it is the last."""
        following = self.hops[self.hops.index(hop) + 1 :]
        return following[0] if following else None


def hop_names(count: int) -> tuple[str, ...]:
    """The names of the demo's hops, as many as asked for."""
    return tuple(f"{_PREFIX}svc{number}" for number in range(1, count + 1))


def full_name(name: str) -> str:
    """A hop's name in full: `svc2` is `grpc-server-svc2`."""
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"


def service(hop: str) -> str:
    """A hop as spans name it."""
    return f"{hop}.{NAMESPACE}"


def services(hops: Sequence[str]) -> tuple[str, ...]:
    """Several of them."""
    return tuple(service(hop) for hop in hops)


def parse_fault(text: str) -> Fault:
    """From `HOP=delay:200ms@50%` or `HOP=abort:14@10%`; without a percentage it meets every call.

    Raises:
        UsageError: where it is neither.
    """
    found = _FAULT.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{excerpt(text)!r} is no fault: write svc3=delay:200ms@50% or svc3=abort:14@10% (a gRPC status)"
        )
    percent = float(found["percent"] or 100)
    delay_ms = None if found["delay"] is None else _milliseconds(found["delay"], found["unit"])
    status = None if found["status"] is None else int(found["status"])
    if percent > 100:  # noqa: PLR2004 - per cent
        raise UsageError(f"{excerpt(text)!r}: a percentage is from 0 to 100")
    if status is not None and not 1 <= status <= _HIGHEST_STATUS:
        raise UsageError(f"{excerpt(text)!r}: a gRPC status that fails a call is from 1 to {_HIGHEST_STATUS}")
    if delay_ms is not None and not 1 <= delay_ms <= _LONGEST_DELAY_MS:
        raise UsageError(f"{excerpt(text)!r}: a delay is from 1 ms to an hour")
    return Fault(full_name(found["hop"]), percent, delay_ms, status)


def from_json(values: Mapping[str, Any]) -> Topology:
    """The topology of which `dataclasses.asdict` made `values`."""
    faults = tuple(Fault(**fault) for fault in values["faults"])
    return Topology(**{**values, "hops": tuple(values["hops"]), "faults": faults})


def _milliseconds(number: str, unit: str) -> int:
    return round(float(number) * (1000 if unit == "s" else 1))


def _check_address(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise UsageError(f"{excerpt(host)!r} is no IP address that a gateway could listen on") from error
