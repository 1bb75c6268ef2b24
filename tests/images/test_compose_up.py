"""docker/compose.yaml in real containers: traces through gateway, sidecars and hops."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hello_mesh.local.components import GATEWAY
from hello_mesh.local.compose import JAEGER, TOPOLOGY
from hello_mesh.local.topology import GATEWAY_SERVICE

BIN = Path(sys.executable).parent
FILE = Path(__file__).parent.parent.parent / "docker/compose.yaml"
HOPS = ",".join(TOPOLOGY.hops)
STORE = "/tmp/traces.db"  # noqa: S108 - in a container of its own, see mesh.Dockerfile

Compose = Callable[..., str]

# The first test also builds the images.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def compose(workshop: Any, image: str, mesh_image: str) -> Iterator[Compose]:
    """Start all services on free ports, with our collector instead of Jaeger.

    The result runs podman-compose, asserts success, and returns its output.
    """
    images = {"HELLO_IMAGE": image, "ENVOY_IMAGE": mesh_image, "JAEGER_IMAGE": mesh_image}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"GATEWAY_PORT": str(one.getsockname()[1]), "JAEGER_PORT": str(other.getsockname()[1])}

    def compose(*arguments: str) -> str:
        command = (BIN / "podman-compose", "--project-name", workshop.network, "--file", FILE, *arguments)
        done = workshop.root(*command, timeout=60, **images, **ports)
        assert done.returncode == 0, done.stdout + done.stderr
        output: str = done.stdout
        return output

    try:
        compose("up", "--detach")
        yield compose
    finally:
        compose("down", "--timeout", "1")


def test_a_call_through_all_containers_is_one_complete_trace(compose: Compose) -> None:
    output = compose("--profile", "client", "run", "--rm", "client")
    assert output.count("connected: one trace (W3C) over 3 hops, a new parent at each") == 4
    trace_ids = re.findall("trace id: ([0-9a-f]{32})", output)
    command = ("hello-grpc-traces", "verify", "--store", STORE, "--hops", HOPS)
    verdicts = compose("exec", "-T", JAEGER, *command, "--gateway", GATEWAY_SERVICE, *trace_ids)
    assert verdicts.count(": OK: 6 spans, one tree") == 4


def test_the_port_of_the_gateway_is_published(compose: Compose) -> None:
    port = compose("port", GATEWAY, "9999").strip()
    command: list[str | Path] = [BIN / "hello-grpc-client", "talk", "--port", port]
    command += ["--connect-timeout", "60", "--expect-sidecars", "--expect-hops", HOPS]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("compose")
def test_every_container_is_hardened(workshop: Any) -> None:
    names = workshop.podman("ps", "--format", "{{.Names}}").split()
    assert len(names) == 2 + 2 * len(TOPOLOGY.hops)
    for container in json.loads(workshop.podman("inspect", *names)):
        assert not container["EffectiveCaps"], container["Name"]
        assert container["HostConfig"]["ReadonlyRootfs"] is True
        assert container["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
        assert container["Config"]["User"] == "10001:10001"
