"""The compose file without containers: its services fit each other."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hello_mesh.local.components import installed_envoy, sidecar_name
from hello_mesh.local.compose import TOPOLOGY

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "docker/compose.yaml"
ENVOYS = sorted((ROOT / "docker/envoy").iterdir())

HARDENED = {
    "user": "10001:10001",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "no",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))["services"]
    return found


def sockets(config: Any) -> Iterator[tuple[str, int]]:
    """Yield each address and port in the configuration of an Envoy."""
    if isinstance(config, dict):
        if "socket_address" in config:
            yield config["socket_address"]["address"], config["socket_address"]["port_value"]
        for inner in config.values():
            yield from sockets(inner)
    elif isinstance(config, list):
        for inner in config:
            yield from sockets(inner)


@pytest.mark.parametrize("path", ENVOYS, ids=lambda path: path.stem)
def test_envoy_accepts_its_configuration(path: Path) -> None:
    command = [str(installed_envoy()), "--mode", "validate", "-l", "warning", "-c", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    assert {name: {key: each.get(key) for key in HARDENED} for name, each in services.items()} == (
        dict.fromkeys(services, HARDENED)
    )


def test_a_sidecar_shares_the_network_of_its_hop(services: dict[str, Any]) -> None:
    for hop in TOPOLOGY.hops:
        assert services[sidecar_name(hop)]["network_mode"] == f"service:{hop}"
        assert "ports" not in services[sidecar_name(hop)]
        assert hop in services[sidecar_name(hop)]["depends_on"]


def test_each_envoy_mounts_its_own_configuration(services: dict[str, Any]) -> None:
    given = [volume for each in services.values() for volume in each.get("volumes", ())]
    parts = [volume.split(":") for volume in given]
    assert {(inside, mode) for _, inside, mode in parts} == {("/etc/envoy/mesh.json", "ro,z")}
    assert sorted((COMMITTED.parent / file).resolve() for file, _, _ in parts) == ENVOYS


def test_each_host_that_is_called_is_a_service_that_listens(services: dict[str, Any]) -> None:
    configs = {path.stem: json.loads(path.read_text("utf-8")) for path in ENVOYS}
    called = {
        found for config in configs.values() for found in sockets(config["static_resources"]["clusters"])
    }
    # In a namespace of its own, an address of a sidecar is one of its hop.
    listening = {
        (name.removesuffix("-sidecar"), port)
        for name, config in configs.items()
        for address, port in sockets(config["static_resources"]["listeners"])
        if address == "0.0.0.0"
    }
    by_name = {(address, port) for address, port in called if address != "127.0.0.1"}
    assert by_name == {(hop, 15006) for hop in TOPOLOGY.hops} | {("jaeger", 4317)}
    assert by_name - {("jaeger", 4317)} == listening - {("gateway", 9999)}
    assert {address for address, _ in by_name} <= services.keys()


def test_a_hop_and_its_sidecar_agree_on_ports(services: dict[str, Any]) -> None:
    for hop in TOPOLOGY.hops:
        config = json.loads((ROOT / f"docker/envoy/{sidecar_name(hop)}.json").read_text("utf-8"))
        settings = services[hop]["environment"]
        sockets_of_hop = {f"{address}:{port}" for address, port in sockets(config["static_resources"])}
        assert f"{settings['GRPC_HELLO_HOST']}:{settings['GRPC_HELLO_PORT']}" in sockets_of_hop
        assert settings.get("GRPC_HELLO_BACKEND", "127.0.0.1:9996") in sockets_of_hop
        assert ("GRPC_HELLO_BACKEND" in settings) is (TOPOLOGY.next_hop(hop) is not None)
        assert settings["GRPC_HELLO_NAME"] == hop


def test_only_the_gateway_and_jaeger_are_published_and_only_on_loopback(services: dict[str, Any]) -> None:
    assert {name: each["ports"] for name, each in services.items() if "ports" in each} == {
        "gateway": ["127.0.0.1:${GATEWAY_PORT:-9999}:9999"],
        "jaeger": ["127.0.0.1:${JAEGER_PORT:-16686}:16686"],
    }


def test_every_image_has_a_version_and_a_variable(services: dict[str, Any]) -> None:
    for each in services.values():
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z./-]+:[a-z-]*v?\d+\.\d+\.\d+\}", each["image"]), each[
            "image"
        ]
    assert services["client"]["image"] == "${HELLO_IMAGE:-hello-servicemesh-grpc:1.0.0}"
