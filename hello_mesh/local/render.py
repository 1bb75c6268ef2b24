"""A mesh → text for people. Prints nothing."""

from collections.abc import Iterator

from hello_mesh.local.mesh import Mesh, Part
from hello_mesh.local.topology import Topology


def ready(name: str, mesh: Mesh) -> str:
    """What somebody who has started a mesh wants to know."""
    rows = {
        "gateway": mesh.gateway,
        "collector": f"{mesh.collector_grpc} (OTLP/gRPC), {mesh.collector_http} (OTLP/HTTP, Zipkin)",
        "spans": str(mesh.store),
    }
    lines = [f"mesh {name} is ready: {summary(mesh.topology)}"]
    return "\n".join(lines + [f"  {what:<10} {where}" for what, where in rows.items()])


def status(name: str, mesh: Mesh, states: dict[Part, bool]) -> str:
    """A line for each part."""
    rows = [("part", "pid", "state", "address", "admin")]
    rows += [
        (part.name, str(part.pid), "ready" if is_ready else "not ready", part.address, part.admin or "")
        for part, is_ready in states.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join([f"mesh {name}: {summary(mesh.topology)}", *lines])


def summary(topology: Topology) -> str:
    """What is particular about a mesh, in a line."""
    return ", ".join(_particulars(topology))


def _particulars(topology: Topology) -> Iterator[str]:
    count = len(topology.hops)
    yield "1 hop" if count == 1 else f"{count} hops"
    yield "W3C headers" if topology.tracer == "w3c" else "B3 headers"
    yield "mTLS" if topology.mtls else "no mTLS"
    if topology.drop_at is not None:
        yield f"{topology.drop_at} drops headers"
    yield from map(str, topology.faults)
