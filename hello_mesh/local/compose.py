"""Topology → a compose file: the mesh as containers, for who has docker or podman and no cluster.

A sidecar stands in the network namespace of its hop, as in a pod: the hop is on loopback there, and all that
others reach is the sidecar. `scripts/generate` writes what is made here into docker/.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from textwrap import indent

from hello_mesh.base.listening import join_host_port
from hello_mesh.local.envoy import ANY, COLLECTOR, Addresses
from hello_mesh.local.mesh import GATEWAY, bootstraps, sidecar_name
from hello_mesh.local.topology import APP_PORT, GATEWAY_PORT, LOOPBACK, Topology, hop_names

TOPOLOGY = Topology(hop_names(3), host=ANY, mtls=False)
"""Three hops behind a gateway. Without mTLS: keys that are in a repository, or in an image, are none."""

JAEGER = "jaeger"
JAEGER_PORT = 16686
"""Of its web page."""

# As in Istio's sidecars.
_INBOUND_PORT = 15006
_OUTBOUND_PORT = 15001

_OTLP_PORT = 4317

_HEAD = """\
# Made by scripts/generate from hello_mesh/local/compose.py; a change here is lost.
#
# The demo as containers: a gateway, hops that each have an Envoy beside them, and Jaeger. A sidecar is in
# the network of its hop, as in a pod. Sidecars speak plaintext to each other: mutual TLS needs keys, and keys
# that are in a repository are none. ./apply.sh local makes its own at each start.
#
#   docker/build.sh
#   docker compose --file docker/compose.yaml up --detach
#   docker compose --file docker/compose.yaml --profile client run --rm client
#
# The traces are at http://{LOOPBACK}:{JAEGER_PORT}. With podman-compose it is the same. Variables choose
# other images and other ports on this machine.
name: hello-servicemesh-grpc

x-hardened: &hardened
  user: "10001:10001"
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  restart: "no"

x-hop: &hop
  <<: *hardened
  image: ${{HELLO_IMAGE:-hello-servicemesh-grpc:{version}}}
  stop_grace_period: 15s # it drains for ten

x-envoy: &envoy
  <<: *hardened
  image: ${{ENVOY_IMAGE:-docker.io/envoyproxy/envoy:distroless-v1.39.1}}
  entrypoint: [/usr/local/bin/envoy, --config-path, /etc/envoy/mesh.json]
  command: [--concurrency, "1", --log-level, warning, --disable-hot-restart]

services:
  {JAEGER}:
    <<: *hardened
    image: ${{JAEGER_IMAGE:-docker.io/jaegertracing/jaeger:2.19.0}}
    ports: ["{LOOPBACK}:${{JAEGER_PORT:-{JAEGER_PORT}}}:{JAEGER_PORT}"]
"""

_HOP = """
{hop}:
  <<: *hop
  environment:
    GRPC_HELLO_NAME: {hop}
    GRPC_HELLO_HOST: {LOOPBACK} # its sidecar alone reaches it
    GRPC_HELLO_PORT: "{APP_PORT}"
"""

_BACKEND = """\
    GRPC_HELLO_BACKEND: {backend} # its sidecar, which knows the next hop
"""

_SIDECAR = """
{name}:
  <<: *envoy
  network_mode: service:{hop}
  volumes: ["./envoy/{name}.json:/etc/envoy/mesh.json:ro,z"]
  depends_on: [{hop}, {JAEGER}]
"""

_GATEWAY = """
{GATEWAY}:
  <<: *envoy
  volumes: ["./envoy/{GATEWAY}.json:/etc/envoy/mesh.json:ro,z"]
  ports: ["{LOOPBACK}:${{GATEWAY_PORT:-{GATEWAY_PORT}}}:{GATEWAY_PORT}"]
  depends_on: [{sidecars}]

client:
  <<: *hop
  profiles: [client] # runs when asked to
  entrypoint: [hello-grpc-client]
  command: [all, --connect-timeout, "60", --expect-sidecars, --expect-hops, "{hops}"]
  environment:
    GRPC_SERVER: {GATEWAY}
    GRPC_SERVER_PORT: "{GATEWAY_PORT}"
  depends_on: [{GATEWAY}]
"""


def write(folder: Path) -> None:
    """Writes the compose file, and what its Envoys get, into docker/ below `folder`."""
    for name, text in files(TOPOLOGY).items():
        path = folder / "docker" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def files(topology: Topology) -> Mapping[str, str]:
    """What a file is to hold, by its path below docker/."""
    configs = bootstraps(topology, _addresses(topology))
    return {"compose.yaml": _compose(topology)} | {
        f"envoy/{name}.json": f"{json.dumps(config, indent=2)}\n" for name, config in configs.items()
    }


def _addresses(topology: Topology) -> Addresses:
    """The same ports at each hop, as each is a host of its own."""
    return Addresses(
        gateway=GATEWAY_PORT,
        inbound=dict.fromkeys(topology.hops, _INBOUND_PORT),
        outbound=dict.fromkeys(topology.hops, _OUTBOUND_PORT),
        applications=dict.fromkeys(topology.hops, APP_PORT),
        collector=_OTLP_PORT,
        hosts={hop: hop for hop in topology.hops} | {COLLECTOR: JAEGER},
    )


def _compose(topology: Topology) -> str:
    head = _HEAD.format(
        LOOPBACK=LOOPBACK, JAEGER=JAEGER, JAEGER_PORT=JAEGER_PORT, version=version("hello-servicemesh-grpc")
    )
    services = [*(_hop(topology, hop) for hop in topology.hops), _gateway(topology)]
    return head + indent("".join(services), "  ")


def _hop(topology: Topology, hop: str) -> str:
    """A hop and its sidecar."""
    server = _HOP.format(hop=hop, LOOPBACK=LOOPBACK, APP_PORT=APP_PORT)
    if topology.next_hop(hop) is not None:
        server += _BACKEND.format(backend=join_host_port(LOOPBACK, _OUTBOUND_PORT))
    return server + _SIDECAR.format(name=sidecar_name(hop), hop=hop, JAEGER=JAEGER)


def _gateway(topology: Topology) -> str:
    """The gateway, and who calls it."""
    return _GATEWAY.format(
        GATEWAY=GATEWAY,
        GATEWAY_PORT=GATEWAY_PORT,
        LOOPBACK=LOOPBACK,
        sidecars=", ".join(map(sidecar_name, topology.hops)),
        hops=",".join(topology.hops),
    )
