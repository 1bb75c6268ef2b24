"""A whole mesh as processes, in the order in which they start and stop."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hello_mesh.base.extras import extra
from hello_mesh.base.listening import join_host_port
from hello_mesh.local import envoy, ports
from hello_mesh.local.components import (
    GATEWAY,
    Component,
    collector_ports,
    server_port,
    sidecar_name,
    start_collector,
    start_envoy,
    start_server,
    wait_until_ready,
)
from hello_mesh.local.envoy import COLLECTOR, Addresses, Config, Identity
from hello_mesh.local.files import file_errors
from hello_mesh.local.processes import Program, guarded, program_group
from hello_mesh.local.topology import LOOPBACK, Topology


@dataclass(frozen=True)
class Mesh:
    """What its users need to know about a mesh that is ready."""

    topology: Topology
    gateway: str
    """The address to call."""
    collector_grpc: str
    """The collector's address for OTLP/gRPC."""
    collector_http: str
    """The collector's address for OTLP/HTTP and Zipkin."""
    store: Path
    """The file of spans."""
    components: tuple[Component, ...]


@dataclass(frozen=True)
class RunningMesh:
    """A mesh and its processes."""

    mesh: Mesh
    programs: tuple[Program, ...]

    def first_exited(self) -> Program | None:
        """Return a component that has exited; None if all are running."""
        return next((program for program in self.programs if program.popen.poll() is not None), None)


def bootstraps(topology: Topology, addresses: Addresses) -> dict[str, Config]:
    """Return the configuration of each Envoy by its name."""
    sidecars = {sidecar_name(hop): envoy.sidecar(topology, hop, addresses) for hop in topology.hops}
    return sidecars | {GATEWAY: envoy.gateway(topology, addresses)}


@contextmanager
def running_mesh(
    topology: Topology, folder: Path, store: Path, binary: Path, inherited: Sequence[int] = ()
) -> Iterator[RunningMesh]:
    """Start a mesh and wait until it is ready. Nothing of it runs when the context ends.

    Args:
        topology: the mesh.
        folder: the folder for configuration, certificates and logs.
        store: the file for its spans.
        binary: the Envoy.
        inherited: file descriptors that every component keeps open.

    Raises:
        RuntimeEnvironmentError: a component cannot be started.
    """
    if topology.gateway_port:
        ports.check_free(topology.host, topology.gateway_port, "--gateway-port")
    with ExitStack() as stack:
        guard = stack.enter_context(guarded(inherited))
        # They stop in reverse: first no caller is left, then no server, and then all spans are stored.
        backend, servers, envoys = (stack.enter_context(program_group(guard)) for _ in range(3))
        reserved = stack.enter_context(ExitStack())
        inbound, outbound = (reserved.enter_context(_ports_per_hop(topology)) for _ in range(2))
        gateway_port = (
            topology.gateway_port or reserved.enter_context(ports.reserved_ports(1, topology.host))[0]
        )
        collector = start_collector(backend, folder, store)
        for hop in topology.hops:
            start_server(servers, topology, hop, folder, outbound[hop])
        hop_identity, gateway_identity = _write_identities(folder)  # while the others start
        span_ports = collector_ports(collector)
        addresses = Addresses(
            gateway=gateway_port,
            inbound=inbound,
            outbound=outbound,
            applications={server.name: server_port(server) for server in servers},
            collector=span_ports[0] if topology.tracer == "w3c" else span_ports[1],
            hop_identity=hop_identity,
            gateway_identity=gateway_identity,
        )
        listeners = _listeners(topology, addresses, span_ports[0])
        if not ports.SHARED:
            reserved.close()
        for name, config in bootstraps(topology, addresses).items():
            start_envoy(envoys, binary, folder, name, config)
        for program in envoys:
            wait_until_ready(program, listeners[program.name])
        programs = (*backend, *servers, *envoys)
        mesh = Mesh(
            topology,
            gateway=listeners[GATEWAY],
            collector_grpc=listeners[COLLECTOR],
            collector_http=join_host_port(LOOPBACK, span_ports[1]),
            store=store,
            components=tuple(Component(each.name, each.popen.pid, listeners[each.name]) for each in programs),
        )
        yield RunningMesh(mesh, programs)


@contextmanager
def _ports_per_hop(topology: Topology) -> Iterator[Mapping[str, int]]:
    with ports.reserved_ports(len(topology.hops)) as found:
        yield dict(zip(topology.hops, found, strict=True))


def _write_identities(folder: Path) -> tuple[Identity, Identity]:
    """Write new certificates, and return the identities of the hops' sidecars and of the gateway."""
    with extra("mesh"):
        from hello_mesh.local.certificates import write_identities
    with file_errors():
        found = write_identities(folder, {"hop": envoy.HOP_IDENTITY, "gateway": envoy.GATEWAY_IDENTITY})
    return found["hop"], found["gateway"]


def _listeners(topology: Topology, addresses: Addresses, collector_port: int) -> dict[str, str]:
    """Return the address at which each component accepts calls, by its name."""
    local = {COLLECTOR: collector_port}
    for hop in topology.hops:
        local |= {hop: addresses.applications[hop], sidecar_name(hop): addresses.inbound[hop]}
    return {name: join_host_port(LOOPBACK, port) for name, port in local.items()} | {
        GATEWAY: join_host_port(topology.host, addresses.gateway)
    }
