"""A mesh as text. Prints nothing."""

from collections.abc import Iterator

from hello_mesh.base.text import count, table
from hello_mesh.local.components import Component
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.topology import Topology


def ready_text(mesh: Mesh) -> str:
    """Return what a user needs to know about a mesh that is ready."""
    rows = {
        "gateway": mesh.gateway,
        "collector": f"{mesh.collector_grpc} (OTLP/gRPC), {mesh.collector_http} (OTLP/HTTP, Zipkin)",
        "spans": str(mesh.store),
    }
    lines = [f"mesh is ready: {summary(mesh.topology)}"]
    return "\n".join(lines + [f"  {name:<10} {value}" for name, value in rows.items()])


def status_text(mesh: Mesh, states: dict[Component, bool]) -> str:
    """Return a table of the components and whether each one is ready."""
    rows = [("component", "PID", "state", "address")]
    rows += [
        (component.name, str(component.pid), "ready" if is_ready else "not ready", component.address)
        for component, is_ready in states.items()
    ]
    return f"mesh: {summary(mesh.topology)}\n{table(rows)}"


def summary(topology: Topology) -> str:
    """Return what is special about a mesh, in one line."""
    return ", ".join(_features(topology))


def _features(topology: Topology) -> Iterator[str]:
    yield count(len(topology.hops), "hop")
    yield "W3C headers" if topology.tracer == "w3c" else "B3 headers"
    yield "mTLS"
    if topology.no_forward_hop is not None:
        yield f"{topology.no_forward_hop} drops headers"
    yield from map(str, topology.faults)
