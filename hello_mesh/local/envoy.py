"""Topology → what each Envoy gets: the bootstrap of a sidecar or of the gateway, as Istio would make it.

A sidecar has an inbound listener, through which calls reach its application, and an outbound one, through
which the application calls the next hop. The gateway has one listener, from outside to the first hop. Every
function here is pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hello_mesh.local.topology import (
    APP_PORT,
    GATEWAY,
    GATEWAY_NAMESPACE,
    GATEWAY_PORT,
    GATEWAY_SERVICE,
    LOOPBACK,
    NAMESPACE,
    Fault,
    Topology,
    service,
)

Config = dict[str, Any]

TRUST_DOMAIN = "cluster.local"
HOP_IDENTITY = f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/grpc-tracing-sa"
GATEWAY_IDENTITY = f"spiffe://{TRUST_DOMAIN}/ns/{GATEWAY_NAMESPACE}/sa/{GATEWAY}-service-account"

COLLECTOR = "collector"
"""What the collector is called among clusters and hosts."""

ANY = "0.0.0.0"  # noqa: S104 - a hop with a host of its own is there to be called

_TYPES = "type.googleapis.com/envoy"

# Envoy's own defaults bound what one connection and one cluster take, to protect what stands behind them.
# Here a thousand streams at once are a test, not an attack.
_HTTP2 = {"max_concurrent_streams": 2**31 - 1}
_NO_BREAKER = {"max_connections": 2**32 - 1, "max_pending_requests": 2**32 - 1, "max_requests": 2**32 - 1}

# Spans leave soon, so that nobody waits for a trace; by default they leave every five seconds. And they leave
# together: a request for each would be more work for the collector than for the servers.
_FLUSH = {"flush_interval_ms": 200, "min_flush_spans": 1000}

_ACCESS_LOG_FORMAT = (
    "[%START_TIME%] %REQ(:PATH)% grpc=%GRPC_STATUS% flags=%RESPONSE_FLAGS% ms=%DURATION%"
    " request=%REQ(X-REQUEST-ID)% upstream=%UPSTREAM_HOST%\n"
)


@dataclass(frozen=True)
class Identity:
    """The files by which an Envoy shows who it is and learns whom to trust."""

    chain: Path
    key: Path
    root: Path


@dataclass(frozen=True)
class Addresses:
    """Where the parts of a mesh listen: ports, by hop; and on which hosts, where these are several."""

    gateway: int
    inbound: Mapping[str, int]
    outbound: Mapping[str, int]
    applications: Mapping[str, int]
    collector: int
    """The collector's port for what the tracer speaks."""
    hop_identity: Identity | None = None
    """Of the hops' sidecars; None where there is no mTLS."""
    gateway_identity: Identity | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The host names of hops, each with its sidecar, and of the collector; without one, it is on loopback."""


@dataclass(frozen=True)
class _Listener:
    """What the listeners of sidecars and gateway differ in."""

    name: str
    address: Config
    direction: str
    service: str
    operation: str
    cluster: str
    faults: Sequence[Fault] = ()
    tls: Config | None = None
    edge: bool = False
    """Whether callers are outside the mesh."""
    http: Config = field(default_factory=dict)
    """More of its HTTP connection manager."""


def gateway(topology: Topology, addresses: Addresses) -> Config:
    """The bootstrap of the gateway before the first hop."""
    first = topology.hops[0]
    listener = _Listener(
        name="gateway",
        address=_address(addresses.gateway, topology.host),
        direction="OUTBOUND",
        service=GATEWAY_SERVICE,
        operation=_operation(first, GATEWAY_PORT),
        cluster=f"outbound|{GATEWAY_PORT}||{service(first)}",
        edge=True,
    )
    tls = _upstream_tls(addresses.gateway_identity, HOP_IDENTITY)
    cluster = _cluster(listener.cluster, _sidecar_address(addresses, first), tls)
    return _bootstrap(topology, addresses, f"router~{LOOPBACK}~{GATEWAY}", [listener], [cluster])


def sidecar(topology: Topology, hop: str, addresses: Addresses) -> Config:
    """The bootstrap of the sidecar of a hop."""
    following = topology.next_hop(hop)
    listeners = [_inbound(topology, hop, addresses)]
    clusters = [_cluster(listeners[0].cluster, _address(addresses.applications[hop]))]
    if following is not None:
        listeners.append(_outbound(hop, following, addresses))
        tls = _upstream_tls(addresses.hop_identity, HOP_IDENTITY)
        clusters.append(_cluster(listeners[1].cluster, _sidecar_address(addresses, following), tls))
    return _bootstrap(topology, addresses, f"sidecar~{LOOPBACK}~{hop}", listeners, clusters)


def _inbound(topology: Topology, hop: str, addresses: Addresses) -> _Listener:
    identity = addresses.hop_identity
    # The application learns who called from x-forwarded-client-cert, as in Istio.
    names = {
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": True, "uri": True},
    }
    return _Listener(
        name="virtualInbound",
        address=_address(addresses.inbound[hop], ANY if hop in addresses.hosts else LOOPBACK),
        direction="INBOUND",
        service=service(hop),
        operation=_operation(hop, APP_PORT),
        cluster=f"inbound|{APP_PORT}||",
        faults=[fault for fault in topology.faults if fault.hop == hop],
        tls=_downstream_tls(identity) if identity else None,
        http=names if identity else {},
    )


def _outbound(hop: str, following: str, addresses: Addresses) -> _Listener:
    return _Listener(
        name="virtualOutbound",
        address=_address(addresses.outbound[hop]),
        direction="OUTBOUND",
        service=service(hop),
        operation=_operation(following, APP_PORT),
        cluster=f"outbound|{APP_PORT}||{service(following)}",
    )


def _operation(hop: str, port: int) -> str:
    return f"{service(hop)}:{port}/*"


def _bootstrap(
    topology: Topology,
    addresses: Addresses,
    node: str,
    listeners: Sequence[_Listener],
    clusters: list[Config],
) -> Config:
    name = listeners[0].service
    namespace = name.partition(".")[2]
    return {
        "node": {"id": f"{node}.{namespace}~{namespace}.svc.{TRUST_DOMAIN}", "cluster": name},
        "admin": {"address": _address(0)},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _runtime(topology)}]},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "static_resources": {
            "listeners": [_listener(topology, listener) for listener in listeners],
            "clusters": [*clusters, _collector(topology, addresses)],
        },
    }


def _runtime(topology: Topology) -> Config:
    tracer = "opentelemetry" if topology.tracer == "w3c" else "zipkin"
    return {f"tracing.{tracer}.{key}": value for key, value in _FLUSH.items()}


def _connection_limit() -> Config:
    # Far more than a machine has; without it Envoy warns at each start.
    name = "envoy.resource_monitors.global_downstream_max_connections"
    kind = "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return _typed(name, kind, {"max_active_downstream_connections": 1_000_000})


def _listener(topology: Topology, listener: _Listener) -> Config:
    chain: Config = {
        "filters": [
            _typed(
                "envoy.filters.network.http_connection_manager",
                "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                _http(topology, listener),
            )
        ]
    }
    if listener.tls:
        chain["transport_socket"] = listener.tls
    return {
        "name": listener.name,
        "traffic_direction": listener.direction,
        "address": listener.address,
        # Inside, ports are reserved for us, and shared with who holds them. At the edge the port is what
        # somebody asked for, and a second gateway on it must fail, not get a part of the calls.
        "enable_reuse_port": not listener.edge,
        "filter_chains": [chain],
    }


def _http(topology: Topology, listener: _Listener) -> Config:
    router = _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return {
        "stat_prefix": listener.name,
        "codec_type": "AUTO",
        "http2_protocol_options": _HTTP2,
        "use_remote_address": listener.edge,
        "generate_request_id": True,
        # A stream may be silent, and last, as long as the caller likes.
        "stream_idle_timeout": "0s",
        "tracing": _tracing(topology, listener.service),
        "access_log": _access_log() if topology.access_log else [],
        "http_filters": [*map(_fault, listener.faults), router],
        "route_config": _routes(listener),
        **listener.http,
    }


def _routes(listener: _Listener) -> Config:
    route = {
        "match": {"prefix": "/"},
        "decorator": {"operation": listener.operation},
        "route": {"cluster": listener.cluster, "timeout": "0s"},
    }
    host = {"name": listener.cluster, "domains": ["*"], "routes": [route]}
    return {"name": listener.cluster, "virtual_hosts": [host], "validate_clusters": True}


def _tracing(topology: Topology, service_name: str) -> Config:
    everything = {"value": 100}
    name, _, namespace = service_name.partition(".")
    tags = {
        "istio.canonical_revision": "latest",
        "istio.canonical_service": name,
        "istio.mesh_id": TRUST_DOMAIN,
        "istio.namespace": namespace,
    }
    return {
        "provider": _open_telemetry(service_name) if topology.tracer == "w3c" else _zipkin(),
        "client_sampling": everything,
        "random_sampling": everything,
        "overall_sampling": everything,
        "custom_tags": [{"tag": tag, "literal": {"value": value}} for tag, value in tags.items()],
    }


def _open_telemetry(service_name: str) -> Config:
    values = {
        "grpc_service": {"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "5s"},
        "service_name": service_name,
    }
    return _typed("envoy.tracers.opentelemetry", "config.trace.v3.OpenTelemetryConfig", values)


def _zipkin() -> Config:
    values = {
        "collector_cluster": COLLECTOR,
        "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": "HTTP_JSON",
        "trace_id_128bit": True,
        # Each side of a call gets a span of its own, as with OpenTelemetry.
        "shared_span_context": False,
    }
    return _typed("envoy.tracers.zipkin", "config.trace.v3.ZipkinConfig", values)


def _access_log() -> list[Config]:
    values = {"log_format": {"text_format_source": {"inline_string": _ACCESS_LOG_FORMAT}}}
    return [
        _typed("envoy.access_loggers.stderr", "extensions.access_loggers.stream.v3.StderrAccessLog", values)
    ]


def _fault(fault: Fault) -> Config:
    # Envoy counts in millionths, so that a tenth of a per cent is not rounded away.
    percentage = {"numerator": round(fault.percent * 10_000), "denominator": "MILLION"}
    if fault.status is not None:
        values: Config = {"abort": {"grpc_status": fault.status, "percentage": percentage}}
    else:
        seconds = f"{(fault.delay_ms or 0) / 1000:g}s"
        values = {"delay": {"fixed_delay": seconds, "percentage": percentage}}
    return _typed("envoy.filters.http.fault", "extensions.filters.http.fault.v3.HTTPFault", values)


def _sidecar_address(addresses: Addresses, hop: str) -> Config:
    """Where others call the sidecar of a hop."""
    return _address(addresses.inbound[hop], addresses.hosts.get(hop, LOOPBACK))


def _cluster(name: str, address: Config, tls: Config | None = None) -> Config:
    protocol = {"explicit_http_config": {"http2_protocol_options": _HTTP2}}
    cluster = _http1_cluster(name, address) | {
        "circuit_breakers": {"thresholds": [_NO_BREAKER]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                **protocol,
            }
        },
    }
    return cluster | ({"transport_socket": tls} if tls else {})


def _collector(topology: Topology, addresses: Addresses) -> Config:
    # The OpenTelemetry tracer speaks gRPC, the Zipkin tracer HTTP/1.1.
    make = _cluster if topology.tracer == "w3c" else _http1_cluster
    return make(COLLECTOR, _address(addresses.collector, addresses.hosts.get(COLLECTOR, LOOPBACK)))


def _http1_cluster(name: str, address: Config) -> Config:
    endpoint = {"endpoint": {"address": address}}
    is_name = address["socket_address"]["address"] != LOOPBACK
    return {
        "name": name,
        **({"cluster_type": _by_name()} if is_name else {"type": "STATIC"}),
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _by_name() -> Config:
    # ANY is every IPv4 address. A name that is not known yet is looked up again soon.
    values = {"dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "1s"}
    return _typed("envoy.clusters.dns", "extensions.clusters.dns.v3.DnsCluster", values)


def _downstream_tls(identity: Identity) -> Config:
    values = {
        "require_client_certificate": True,
        "common_tls_context": _tls(identity, f"spiffe://{TRUST_DOMAIN}/"),
    }
    return _typed(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", values
    )


def _upstream_tls(identity: Identity | None, peer: str) -> Config | None:
    if identity is None:
        return None
    values = {"common_tls_context": _tls(identity, peer)}
    return _typed(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", values
    )


def _tls(identity: Identity, peer: str) -> Config:
    """Shows a certificate and demands one: of `peer`, or where that ends in a slash of anyone below it."""
    matcher = {"prefix": peer} if peer.endswith("/") else {"exact": peer}
    return {
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(identity.chain)},
                "private_key": {"filename": str(identity.key)},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(identity.root)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": matcher}],
        },
    }


def _address(port: int, host: str = LOOPBACK) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def _typed(name: str, kind: str, values: Mapping[str, Any] | None = None) -> Config:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **(values or {})}}
