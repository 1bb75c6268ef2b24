"""The configuration of a mesh as one value: its hops, their faults, and how they are traced."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt

Tracer = Literal["w3c", "b3"]

NAMESPACE = "grpc-tracing"
GATEWAY_NAME = "istio-ingressgateway"
GATEWAY_NAMESPACE = "istio-system"
GATEWAY_SERVICE = f"{GATEWAY_NAME}.{GATEWAY_NAMESPACE}"
GATEWAY_PORT = 9999
APP_PORT = 9996
"""The port of a hop's service in a cluster. Names of operations contain it."""

MAX_HOPS = 8
LOOPBACK = "127.0.0.1"

_PREFIX = "grpc-server-"
_FAULT_FORM = re.compile(
    r"(?P<hop>[^=]+)=(?:delay:(?P<delay>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s)|abort:(?P<status>[0-9]{1,2}))"
    r"(?:@(?P<percent>[0-9]+(?:\.[0-9]+)?)%)?"
)
_MAX_STATUS = 16
_MAX_DELAY_MS = 3_600_000


@dataclass(frozen=True)
class Fault:
    """A fault that the sidecar in front of a hop injects into incoming calls: a delay or a failure."""

    hop: str
    percent: float = 100.0
    """The share of calls that it applies to."""
    delay_ms: int | None = None
    """The delay in milliseconds."""
    status: int | None = None
    """The gRPC status of a failed call."""

    def __str__(self) -> str:
        what = f"delay:{self.delay_ms}ms" if self.status is None else f"abort:{self.status}"
        return f"{self.hop}={what}@{self.percent:g}%"


@dataclass(frozen=True)
class Topology:
    """A chain of hops with a sidecar each, and a gateway in front of the first.

    Raises:
        UsageError: no mesh can have this configuration.
    """

    hops: tuple[str, ...]
    """The names of the hops, first hop first."""
    gateway_port: int = GATEWAY_PORT
    """0 is any free port."""
    host: str = LOOPBACK
    """The address that the gateway listens on. Everything else is on loopback."""
    tracer: Tracer = "w3c"
    """The header family of the sidecars: Envoy's OpenTelemetry tracer uses W3C, its Zipkin tracer B3."""
    no_forward_hop: str | None = None
    """The hop whose application propagates no headers."""
    faults: tuple[Fault, ...] = ()
    access_log: bool = False
    """Whether each Envoy logs a line per call."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.hops) <= MAX_HOPS:
            raise UsageError(f"invalid number of hops {len(self.hops)}: use 1 to {MAX_HOPS}")
        if self.no_forward_hop == self.hops[-1]:
            raise UsageError(f"{self.no_forward_hop} is the last hop: choose one that calls another")
        for hop in (self.no_forward_hop, *(fault.hop for fault in self.faults)):
            if hop is not None and hop not in self.hops:
                raise UsageError(f"unknown hop {excerpt(hop)}: use {', '.join(self.hops)}")
        _check_address(self.host)

    def next_hop(self, hop: str) -> str | None:
        """Return the hop that a hop calls; None if it is the last."""
        following = self.hops[self.hops.index(hop) + 1 :]
        return following[0] if following else None


def hop_names(count: int) -> tuple[str, ...]:
    """Return the names of the first hops of the demo."""
    return tuple(f"{_PREFIX}svc{number}" for number in range(1, count + 1))


def service_name(name: str) -> str:
    """Return a hop's full name: `svc2` is `grpc-server-svc2`."""
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"


def span_service(hop: str) -> str:
    """Return the service name in a hop's spans."""
    return f"{hop}.{NAMESPACE}"


def span_services(hops: Sequence[str]) -> tuple[str, ...]:
    """Return the service names in several hops' spans."""
    return tuple(span_service(hop) for hop in hops)


def parse_fault(text: str) -> Fault:
    """Return the fault for `HOP=delay:200ms@50%` or `HOP=abort:14@10%`; the default is 100 %.

    Raises:
        UsageError: the text has neither form.
    """
    found = _FAULT_FORM.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"invalid fault {excerpt(text)!r}: use svc3=delay:200ms@50% or svc3=abort:14@10% (a gRPC status)"
        )
    percent = float(found["percent"] or 100)
    delay_ms = None if found["delay"] is None else _milliseconds(found["delay"], found["unit"])
    status = None if found["status"] is None else int(found["status"])
    if percent > 100:  # noqa: PLR2004 - per cent
        raise UsageError(f"invalid percentage in fault {excerpt(text)!r}: use 0 to 100")
    if status is not None and not 1 <= status <= _MAX_STATUS:
        raise UsageError(f"invalid gRPC status in fault {excerpt(text)!r}: use 1 to {_MAX_STATUS}")
    if delay_ms is not None and not 1 <= delay_ms <= _MAX_DELAY_MS:
        raise UsageError(f"invalid delay in fault {excerpt(text)!r}: use 1ms to 3600s")
    return Fault(service_name(found["hop"]), percent, delay_ms, status)


def topology_from_json(values: Mapping[str, Any]) -> Topology:
    """Return the topology of which `dataclasses.asdict` made `values`."""
    faults = tuple(Fault(**fault) for fault in values["faults"])
    return Topology(**{**values, "hops": tuple(values["hops"]), "faults": faults})


def _milliseconds(number: str, unit: str) -> int:
    return round(float(number) * (1000 if unit == "s" else 1))


def _check_address(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise UsageError(f"invalid IP address {excerpt(host)!r}: use an address of this host") from error
