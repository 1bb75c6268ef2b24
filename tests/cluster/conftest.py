"""Fake API servers of a cluster and its mesh, for the scripts and the real kubectl.

Example:

    def test_it(planes: Planes, kubectl: Kubectl) -> None:
        planes.add_gateway()                                # Service, pods, IstioGateway; ports 80 and 443
        run("./apply.sh", env=planes.environment)           # the two kubeconfigs, and PATH with kubectl
        planes.cluster.names("deployments", "grpc-tracing")  # objects in the cluster
        planes.mesh.get("telemetries", "default", "grpc-tracing")
        with planes.cluster.nothing_changes(): ...          # no change, and no attempt

`planes` has two servers, as with ASM. `one_plane` has one server with all resources, as with Istio or with
data-plane KubeAPI access. `plane_of` starts a server with any resources. Methods of a `Plane`:

    create, change, delete, create_namespace        write objects, as another field manager than the scripts
    objects, names, get, requests, writes, state    read objects and recorded requests
    deployments_fail, write_logs, exec_with         set the state of pods, their logs, and `kubectl exec`
    refuse, stop_responding, refuse_connections     inject faults until `recover`

`behaviour.load_balancer` is the address of the gateway: {"ip": …}, {"hostname": …} or None.
`behaviour.sidecars` is the injected sidecar: "container", "native" or None.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from apiserver.kinds import Resource
from apiserver.plane import Plane
from meshes import Meshes
from planes import ACK, ASM, BOTH, Kubectl, PlaneOf, Planes
from samples import ALL, APPLY
from script_runs import PORT, PlanesOf


@pytest.fixture
def plane_of(tmp_path: Path) -> Iterator[PlaneOf]:
    """Start a server: plane_of("ack", resources)."""
    with ExitStack() as stack:

        def plane_of(name: str, resources: Sequence[Resource]) -> Plane:
            return stack.enter_context(Plane(name, resources, tmp_path).running())

        yield plane_of


@pytest.fixture
def planes(plane_of: PlaneOf) -> Planes:
    """Start an ACK cluster and an ASM instance, without a gateway."""
    return Planes(plane_of("ack", ACK), plane_of("asm", ASM))


@pytest.fixture
def one_plane(plane_of: PlaneOf) -> Planes:
    """Start a cluster that also serves the resources of the mesh, without a gateway."""
    plane = plane_of("both", BOTH)
    return Planes(plane, plane)


@pytest.fixture
def cluster(one_plane: Planes) -> Plane:
    """Return the server of `one_plane`."""
    return one_plane.cluster


@pytest.fixture
def kubectl(cluster: Plane) -> Kubectl:
    """Return kubectl for `cluster`."""
    return Kubectl(cluster)


@pytest.fixture
def applied(kubectl: Kubectl) -> None:
    """Apply a namespace with a service, a deployment and a route."""
    done = kubectl(*APPLY, stdin=ALL)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def planes_of(plane_of: PlaneOf) -> PlanesOf:
    """Start two planes with other resources: planes_of(mesh=OLD_ASM)."""

    def planes_of(cluster: Sequence[Resource] = ACK, mesh: Sequence[Resource] = ASM) -> Planes:
        return Planes(plane_of("ack", cluster), plane_of("asm", mesh))

    return planes_of


@pytest.fixture
def asm(planes: Planes) -> Planes:
    """Start an ACK cluster and an ASM instance, with a gateway that has port 9999."""
    planes.add_gateway(PORT)
    return planes


@pytest.fixture(scope="module")
def mesh_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshes]:
    """Start a mesh with given settings: mesh_at(no_forward_hop="grpc-server-svc2")."""
    meshes = Meshes(lambda: tmp_path_factory.mktemp("mesh"))
    yield meshes
    meshes.end()
