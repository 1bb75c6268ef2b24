"""Topology → the Envoy configuration of each sidecar and of the gateway, as Istio would make it.

A sidecar has an inbound listener, for calls to its application, and an outbound listener, for calls of its
application to the next hop. The gateway has one listener, from outside to the first hop. All
functions here are pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hello_mesh.local.topology import (
    APP_PORT,
    GATEWAY_NAME,
    GATEWAY_NAMESPACE,
    GATEWAY_PORT,
    GATEWAY_SERVICE,
    LOOPBACK,
    NAMESPACE,
    Fault,
    Topology,
    span_service,
)

Config = dict[str, Any]

TRUST_DOMAIN = "cluster.local"
HOP_IDENTITY = f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/grpc-tracing-sa"
GATEWAY_IDENTITY = f"spiffe://{TRUST_DOMAIN}/ns/{GATEWAY_NAMESPACE}/sa/{GATEWAY_NAME}-service-account"

COLLECTOR = "collector"
"""The name of the collector among components, clusters and hosts."""

ANY = "0.0.0.0"  # noqa: S104 - a hop on a host of its own must be reachable

_TYPES = "type.googleapis.com/envoy"

# Envoy's defaults limit the streams of a connection and the requests of a cluster, as protection. Here a
# thousand streams at once are a test.
_HTTP2 = {"max_concurrent_streams": 2**31 - 1}
_NO_BREAKER = {"max_connections": 2**32 - 1, "max_pending_requests": 2**32 - 1, "max_requests": 2**32 - 1}

# Export spans soon: by default, Envoy exports them every five seconds. Export them together: one request per
# span would be more work for the collector than for the servers.
_FLUSH = {"flush_interval_ms": 200, "min_flush_spans": 1000}

_ACCESS_LOG_FORMAT = (
    "[%START_TIME%] %REQ(:PATH)% grpc=%GRPC_STATUS% flags=%RESPONSE_FLAGS% ms=%DURATION%"
    " request=%REQ(X-REQUEST-ID)% upstream=%UPSTREAM_HOST%\n"
)


@dataclass(frozen=True)
class Identity:
    """The certificate files of an Envoy: its own, and the authority that it trusts."""

    chain: Path
    key: Path
    root: Path


@dataclass(frozen=True)
class Addresses:
    """Where the components of a mesh listen: ports by hop, and hosts if there are several."""

    gateway: int
    inbound: Mapping[str, int]
    outbound: Mapping[str, int]
    applications: Mapping[str, int]
    collector: int
    """The collector's port for the protocol of the tracer."""
    hop_identity: Identity | None = None
    """The identity of the hops' sidecars; None is plaintext."""
    gateway_identity: Identity | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The host names of hops, each with its sidecar, and of the collector. Others are on loopback."""


@dataclass(frozen=True)
class _Listener:
    """The differences between the listeners of sidecars and gateway."""

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
    reserved: bool = True
    """Whether the port is shared with the socket that reserves it."""
    http: Config = field(default_factory=dict)
    """Additional settings of its HTTP connection manager."""


def gateway(topology: Topology, addresses: Addresses) -> Config:
    """Return the configuration of the gateway in front of the first hop."""
    first = topology.hops[0]
    listener = _Listener(
        name="gateway",
        address=_address(addresses.gateway, topology.host),
        direction="OUTBOUND",
        service=GATEWAY_SERVICE,
        operation=_operation(first, GATEWAY_PORT),
        cluster=f"outbound|{GATEWAY_PORT}||{span_service(first)}",
        edge=True,
        reserved=topology.gateway_port == 0,
    )
    tls = _upstream_tls(addresses.gateway_identity, HOP_IDENTITY)
    cluster = _grpc_cluster(listener.cluster, _sidecar_address(addresses, first), tls)
    return _bootstrap(topology, addresses, f"router~{LOOPBACK}~{GATEWAY_NAME}", [listener], [cluster])


def sidecar(topology: Topology, hop: str, addresses: Addresses) -> Config:
    """Return the configuration of a hop's sidecar."""
    following = topology.next_hop(hop)
    listeners = [_inbound_listener(topology, hop, addresses)]
    clusters = [_grpc_cluster(listeners[0].cluster, _address(addresses.applications[hop]))]
    if following is not None:
        listeners.append(_outbound_listener(hop, following, addresses))
        tls = _upstream_tls(addresses.hop_identity, HOP_IDENTITY)
        clusters.append(_grpc_cluster(listeners[1].cluster, _sidecar_address(addresses, following), tls))
    return _bootstrap(topology, addresses, f"sidecar~{LOOPBACK}~{hop}", listeners, clusters)


def _inbound_listener(topology: Topology, hop: str, addresses: Addresses) -> _Listener:
    identity = addresses.hop_identity
    # As in Istio, the application can read the caller's identity from x-forwarded-client-cert.
    names = {
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": True, "uri": True},
    }
    return _Listener(
        name="virtualInbound",
        address=_address(addresses.inbound[hop], ANY if hop in addresses.hosts else LOOPBACK),
        direction="INBOUND",
        service=span_service(hop),
        operation=_operation(hop, APP_PORT),
        cluster=f"inbound|{APP_PORT}||",
        faults=[fault for fault in topology.faults if fault.hop == hop],
        tls=_downstream_tls(identity) if identity else None,
        http=names if identity else {},
    )


def _outbound_listener(hop: str, following: str, addresses: Addresses) -> _Listener:
    return _Listener(
        name="virtualOutbound",
        address=_address(addresses.outbound[hop]),
        direction="OUTBOUND",
        service=span_service(hop),
        operation=_operation(following, APP_PORT),
        cluster=f"outbound|{APP_PORT}||{span_service(following)}",
    )


def _operation(hop: str, port: int) -> str:
    return f"{span_service(hop)}:{port}/*"


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
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _runtime(topology)}]},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "static_resources": {
            "listeners": [_listener_config(topology, listener) for listener in listeners],
            "clusters": [*clusters, _collector_cluster(topology, addresses)],
        },
    }


def _runtime(topology: Topology) -> Config:
    tracer = "opentelemetry" if topology.tracer == "w3c" else "zipkin"
    return {f"tracing.{tracer}.{key}": value for key, value in _FLUSH.items()}


def _connection_limit() -> Config:
    # Higher than any host allows; without a limit, Envoy warns at each start.
    name = "envoy.resource_monitors.global_downstream_max_connections"
    kind = "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return _typed(name, kind, {"max_active_downstream_connections": 1_000_000})


def _listener_config(topology: Topology, listener: _Listener) -> Config:
    chain: Config = {
        "filters": [
            _typed(
                "envoy.filters.network.http_connection_manager",
                "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                _connection_manager(topology, listener),
            )
        ]
    }
    if listener.tls:
        chain["transport_socket"] = listener.tls
    return {
        "name": listener.name,
        "traffic_direction": listener.direction,
        "address": listener.address,
        # A port that the user chose is not shared: a second gateway on it must fail.
        "enable_reuse_port": listener.reserved,
        "filter_chains": [chain],
    }


def _connection_manager(topology: Topology, listener: _Listener) -> Config:
    router = _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return {
        "stat_prefix": listener.name,
        "codec_type": "AUTO",
        "http2_protocol_options": _HTTP2,
        "use_remote_address": listener.edge,
        "generate_request_id": True,
        # A stream may be silent for any time.
        "stream_idle_timeout": "0s",
        "tracing": _tracing(topology, listener.service),
        "access_log": _access_log() if topology.access_log else [],
        "http_filters": [*map(_fault_filter, listener.faults), router],
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
        # Each side of a call gets its own span, as with OpenTelemetry.
        "shared_span_context": False,
    }
    return _typed("envoy.tracers.zipkin", "config.trace.v3.ZipkinConfig", values)


def _access_log() -> list[Config]:
    values = {"log_format": {"text_format_source": {"inline_string": _ACCESS_LOG_FORMAT}}}
    return [
        _typed("envoy.access_loggers.stderr", "extensions.access_loggers.stream.v3.StderrAccessLog", values)
    ]


def _fault_filter(fault: Fault) -> Config:
    # Millionths keep fractions of a per cent.
    percentage = {"numerator": round(fault.percent * 10_000), "denominator": "MILLION"}
    if fault.status is not None:
        values: Config = {"abort": {"grpc_status": fault.status, "percentage": percentage}}
    else:
        seconds = f"{(fault.delay_ms or 0) / 1000:g}s"
        values = {"delay": {"fixed_delay": seconds, "percentage": percentage}}
    return _typed("envoy.filters.http.fault", "extensions.filters.http.fault.v3.HTTPFault", values)


def _sidecar_address(addresses: Addresses, hop: str) -> Config:
    """Return the address at which others call a hop's sidecar."""
    return _address(addresses.inbound[hop], addresses.hosts.get(hop, LOOPBACK))


def _grpc_cluster(name: str, address: Config, tls: Config | None = None) -> Config:
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


def _collector_cluster(topology: Topology, addresses: Addresses) -> Config:
    # The OpenTelemetry tracer exports over gRPC, the Zipkin tracer over HTTP/1.1.
    make = _grpc_cluster if topology.tracer == "w3c" else _http1_cluster
    return make(COLLECTOR, _address(addresses.collector, addresses.hosts.get(COLLECTOR, LOOPBACK)))


def _http1_cluster(name: str, address: Config) -> Config:
    endpoint = {"endpoint": {"address": address}}
    is_name = address["socket_address"]["address"] != LOOPBACK
    return {
        "name": name,
        **({"cluster_type": _dns_cluster()} if is_name else {"type": "STATIC"}),
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _dns_cluster() -> Config:
    # The listeners are on IPv4. A name that cannot be resolved yet is soon looked up again.
    values = {"dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "1s"}
    return _typed("envoy.clusters.dns", "extensions.clusters.dns.v3.DnsCluster", values)


def _downstream_tls(identity: Identity) -> Config:
    values = {
        "require_client_certificate": True,
        "common_tls_context": _tls_context(identity, f"spiffe://{TRUST_DOMAIN}/"),
    }
    return _typed(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", values
    )


def _upstream_tls(identity: Identity | None, peer: str) -> Config | None:
    if identity is None:
        return None
    values = {"common_tls_context": _tls_context(identity, peer)}
    return _typed(
        "envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", values
    )


def _tls_context(identity: Identity, peer: str) -> Config:
    """Present a certificate, and require one of `peer`, or of any identity below it if it ends in a slash."""
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
