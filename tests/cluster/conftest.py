"""A cluster and its mesh, as the scripts meet them: API servers of our own, and the real kubectl.

What a test gets:

    def test_it(planes: Planes, kubectl: Kubectl) -> None:
        planes.add_gateway()                                # Service, pods, IstioGateway; ports 80 and 443
        run("./apply.sh", env=planes.environment)           # the two kubeconfigs, and PATH with kubectl
        planes.cluster.names("deployments", "grpc-tracing")  # what is there
        planes.mesh.get("telemetries", "default", "grpc-tracing")
        with planes.cluster.nothing_changes(): ...          # neither an object nor an attempt

`planes` are two servers, as with ASM; `one_plane` is one that serves both, as with Istio or with ASM's
data-plane KubeAPI access; `plane_of` makes any other, by what it serves. What can be done with a server says
`Plane`:

    make, change, delete, make_namespace         as somebody else than the scripts
    objects, names, get, asked, writes, state    look at it
    deployments_fail, say, runs, behaviour       how the pods fare, what they write, how `kubectl exec` runs
    refuse, fall_silent, refuse_connections      until `recover`

`behaviour.load_balancer` is the gateway's address: {"ip": …}, {"hostname": …} or None. `behaviour.sidecars`
is what the mesh injects: "container", "native" or None.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from apiserver.kinds import Resource
from apiserver.plane import Plane
from planes import ACK, ASM, BOTH, Kubectl, PlaneOf, Planes
from samples import ALL, APPLY
from script_runs import PORT, PlanesOf


@pytest.fixture
def plane_of(tmp_path: Path) -> Iterator[PlaneOf]:
    """Starts a server: plane_of("ack", resources)."""
    with ExitStack() as stack:

        def plane_of(name: str, resources: Sequence[Resource]) -> Plane:
            return stack.enter_context(Plane(name, resources, tmp_path).running())

        yield plane_of


@pytest.fixture
def planes(plane_of: PlaneOf) -> Planes:
    """An ACK cluster and an ASM instance, without a gateway."""
    return Planes(plane_of("ack", ACK), plane_of("asm", ASM))


@pytest.fixture
def one_plane(plane_of: PlaneOf) -> Planes:
    """A cluster that serves the mesh's resources too, without a gateway."""
    plane = plane_of("both", BOTH)
    return Planes(plane, plane)


@pytest.fixture
def cluster(one_plane: Planes) -> Plane:
    """The one server of `one_plane`."""
    return one_plane.cluster


@pytest.fixture
def kubectl(cluster: Plane) -> Kubectl:
    """kubectl towards `cluster`."""
    return Kubectl(cluster)


@pytest.fixture
def applied(kubectl: Kubectl) -> None:
    """One namespace, with a service, a deployment and a route."""
    done = kubectl(*APPLY, stdin=ALL)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def planes_of(plane_of: PlaneOf) -> PlanesOf:
    """Two planes of another kind: planes_of(mesh=OLD_ASM)."""

    def planes_of(cluster: Sequence[Resource] = ACK, mesh: Sequence[Resource] = ASM) -> Planes:
        return Planes(plane_of("ack", cluster), plane_of("asm", mesh))

    return planes_of


@pytest.fixture
def asm(planes: Planes) -> Planes:
    """An ACK cluster and an ASM instance, with a gateway that has the demo's port."""
    planes.add_gateway(PORT)
    return planes
