"""The cluster of the fake API server: pods, namespaces, logs, commands, and the gateway."""

import json
import os
import signal
from pathlib import Path

import pytest
from apiserver.behaviour import Sidecars
from apiserver.gateway import NAME, SYSTEM
from apiserver.kinds import Object
from apiserver.plane import Plane
from planes import Kubectl, Planes, until
from samples import APPLY, deployment, namespace, service, text

# -- rollouts


@pytest.mark.usefixtures("applied")
def test_a_rollout_replaces_the_pods(kubectl: Kubectl, cluster: Plane) -> None:
    """Old pods are deleted after the new ones are ready."""
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    old = cluster.names("pods", "one")
    kubectl(*APPLY, stdin=text(deployment("hop:2", replicas=2)))
    done = kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s")
    assert done.stdout.splitlines()[-1] == 'deployment "dep" successfully rolled out'
    assert kubectl("wait", "--for=condition=Available", "deploy/dep", "-n", "one").returncode == 0
    until(lambda: len(cluster.objects("pods", "one")) == 2)
    assert not set(old) & set(cluster.names("pods", "one"))


@pytest.mark.usefixtures("applied")
def test_a_rollout_without_progress_fails(kubectl: Kubectl, cluster: Plane) -> None:
    """The timeout of kubectl or the progress deadline ends it. Pods and events have the reason."""
    cluster.settle()
    cluster.deployments_fail("dep")
    kubectl(*APPLY, stdin=text(deployment("hop:2")))
    impatient = kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "1s")
    assert (impatient.returncode, impatient.stderr) == (1, "error: timed out waiting for the condition\n")
    cluster.behaviour.progress_seconds = 0.5
    failed = kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s")
    assert (failed.returncode, failed.stderr) == (
        1,
        'error: deployment "dep" exceeded its progress deadline\n',
    )
    assert "0/1     ImagePullBackOff   0" in kubectl("get", "pods", "-n", "one").stdout
    events = kubectl("get", "events", "-n", "one", "--field-selector", "type=Warning").stdout
    assert 'Failed to pull image "hop:2": not found' in events
    assert "ScalingReplicaSet" not in events


@pytest.mark.usefixtures("applied")
def test_deleting_a_deployment_deletes_its_pods(kubectl: Kubectl, cluster: Plane) -> None:
    """The replica set is deleted first."""
    until(lambda: cluster.objects("pods", "one"))
    deleted = kubectl("delete", "deploy/dep", "-n", "one", "--timeout", "10s")
    assert deleted.stdout == 'deployment.apps "dep" deleted from one namespace\n'
    until(lambda: not cluster.objects("replicasets", "one") and not cluster.objects("pods", "one"))


@pytest.mark.parametrize(("sidecars", "where"), [("container", "containers"), ("native", "initContainers")])
def test_new_pods_of_an_injected_namespace_get_a_sidecar(
    kubectl: Kubectl, cluster: Plane, sidecars: Sidecars, where: str
) -> None:
    """Existing pods stay without one."""
    cluster.behaviour.sidecars = sidecars
    kubectl(*APPLY, stdin=text(namespace(), deployment()))
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    kubectl("label", "namespace/one", "istio-injection=enabled")
    [pod] = cluster.objects("pods", "one")
    assert [container["name"] for container in pod["spec"]["containers"]] == ["hop"]
    kubectl("rollout", "restart", "deploy/dep", "-n", "one")
    cluster.settle()
    [pod] = cluster.objects("pods", "one")
    assert "istio-proxy" in [container["name"] for container in pod["spec"][where]]
    assert "2/2     Running" in kubectl("get", "pods", "-n", "one").stdout


@pytest.mark.usefixtures("applied")
def test_a_failing_rollout_affects_only_new_pods(kubectl: Kubectl, cluster: Plane) -> None:
    """Old pods keep running. A failing image is fixed by the next one."""
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    cluster.deployments_fail("hop:broken", "CrashLoopBackOff")
    kubectl(*APPLY, stdin=text(deployment("hop:broken")))
    until(lambda: "CrashLoopBackOff" in kubectl("get", "pods", "-n", "one").stdout)
    assert "1/1     1            1" in kubectl("get", "deploy", "-n", "one").stdout
    kubectl(*APPLY, stdin=text(deployment("hop:3")))
    assert kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s").returncode == 0


def test_pods_that_pod_security_refuses_are_not_created(kubectl: Kubectl, cluster: Plane) -> None:
    """The privileged istio-init violates it. A mesh with a CNI plugin has no istio-init."""
    labels = {"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}
    kubectl(*APPLY, stdin=text(namespace(**labels), deployment()))
    until(lambda: "ReplicaFailure" in json.dumps(cluster.objects("deployments", "one")))
    events = kubectl("get", "events", "-n", "one", "--field-selector", "reason=FailedCreate").stdout
    assert 'is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities' in events
    assert not cluster.objects("pods", "one")
    cluster.behaviour.cni = True
    assert kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s").returncode == 0


# -- namespaces


@pytest.mark.usefixtures("applied")
def test_deleting_a_namespace_deletes_its_objects(kubectl: Kubectl, cluster: Plane) -> None:
    """kubectl waits for the deletion."""
    deleted = kubectl("delete", "namespace", "one", "--timeout", "20s")
    assert (deleted.returncode, deleted.stdout) == (0, 'namespace "one" deleted\n')
    assert cluster.get("namespaces", "one") is None
    assert not cluster.objects("pods", "one")
    assert not cluster.objects("virtualservices", "one")


@pytest.mark.usefixtures("applied")
def test_deleting_a_namespace_may_keep_istio_resources(kubectl: Kubectl, cluster: Plane) -> None:
    """With data-plane KubeAPI access they are stored in the ASM instance, and stay there."""
    cluster.behaviour.mesh_outlives_namespaces = True
    assert kubectl("delete", "namespace", "one", "--timeout", "20s").returncode == 0
    assert not cluster.objects("services", "one")
    assert cluster.names("virtualservices", "one") == ["vs"]


@pytest.mark.usefixtures("applied")
def test_a_terminating_namespace_refuses_new_objects(kubectl: Kubectl, cluster: Plane) -> None:
    """It stays until its last finalizer is removed."""
    cluster.create("configmaps", {"metadata": {"name": "stays", "finalizers": ["a/b"]}}, "one")
    kubectl("delete", "namespace", "one", "--wait=false")
    assert "one           Terminating" in kubectl("get", "namespaces").stdout
    other = service() | {"metadata": {"name": "new", "namespace": "one"}}
    refused = kubectl(*APPLY, stdin=text(other))
    assert 'Error from server (Forbidden): services "new" is forbidden: ' in refused.stderr
    assert "new content in namespace one because it is being terminated" in refused.stderr
    cluster.change("configmaps", "stays", {"metadata": {"finalizers": None}}, "one")
    until(lambda: cluster.get("namespaces", "one") is None)


# -- logs and commands


@pytest.mark.usefixtures("applied")
def test_logs_can_be_followed(kubectl: Kubectl, cluster: Plane) -> None:
    """Old and new lines are sent until the pod is deleted."""
    cluster.write_logs("hop", "one", "two", "three")
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    assert kubectl("logs", "deploy/dep", "-n", "one", "--tail", "2").stdout == "two\nthree\n"
    [pod] = cluster.names("pods", "one")
    with kubectl.start("logs", "-f", "-l", "app=hop", "-n", "one", "--prefix", "--tail", "1") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == f"[pod/{pod}/hop] three\n"
        cluster.write_logs("hop", "four")
        assert follower.stdout.readline() == f"[pod/{pod}/hop] four\n"
        cluster.delete("deployments", "dep", "one")
        assert follower.wait(10) == 0


@pytest.mark.usefixtures("applied")
def test_a_container_that_has_not_started_has_no_logs(kubectl: Kubectl, cluster: Plane) -> None:
    """The error has the reason."""
    cluster.settle()
    cluster.deployments_fail("dep")
    kubectl("rollout", "restart", "deploy/dep", "-n", "one")
    until(lambda: "ImagePullBackOff" in json.dumps(cluster.objects("pods", "one")))
    [pod] = [
        p["metadata"]["name"] for p in cluster.objects("pods", "one") if "ImagePullBackOff" in json.dumps(p)
    ]
    refused = kubectl("logs", pod, "-n", "one")
    assert (
        f'container "hop" in pod "{pod}" is waiting to start: trying and failing to pull image'
        in refused.stderr
    )


@pytest.mark.usefixtures("applied")
def test_a_command_runs_in_a_container(kubectl: Kubectl, cluster: Plane) -> None:
    """It gets the environment, and its streams and exit code are returned."""
    cluster.settle()
    script = 'echo "A is $A"; echo trouble >&2; exit 3'
    ended = kubectl("exec", "deploy/dep", "-n", "one", "--", "sh", "-c", script)
    assert (ended.returncode, ended.stdout) == (3, "A is 1\n")
    assert ended.stderr == "trouble\ncommand terminated with exit code 3\n"
    echoed = kubectl("exec", "-i", "deploy/dep", "-n", "one", "--", "cat", stdin="through and back")
    assert (echoed.returncode, echoed.stdout) == (0, "through and back")
    elsewhere = kubectl("exec", "deploy/dep", "-c", "other", "-n", "one", "--", "true")
    assert "error: container other is not valid for pod" in elsewhere.stderr
    missing = kubectl("exec", "deploy/dep", "-n", "one", "--", "no-such-program")
    assert missing.returncode == 1
    assert "executable file not found in $PATH" in missing.stderr


@pytest.mark.usefixtures("applied")
def test_a_command_ends_with_its_kubectl(kubectl: Kubectl, cluster: Plane, tmp_path: Path) -> None:
    """Interrupting kubectl leaves no process running."""
    cluster.settle()
    note = tmp_path / "pid"
    with kubectl.start(
        "exec", "deploy/dep", "-n", "one", "--", "sh", "-c", f"echo $$ > {note}; exec sleep 60"
    ) as one:
        until(lambda: note.exists() and note.read_text().strip())
        one.send_signal(signal.SIGTERM)
    until(lambda: not _runs(int(note.read_text())))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- the gateway


@pytest.mark.parametrize(("where", "shown"), [({"ip": "10.0.0.9"}, "10.0.0.9"), (None, "<pending>")])
def test_a_gateway_has_the_configured_address(planes: Planes, where: Object | None, shown: str) -> None:
    """Without an address it is pending."""
    planes.cluster.behaviour.load_balancer = where
    planes.add_gateway()
    kubectl = Kubectl(planes.cluster)

    def external_ip() -> str:
        return kubectl("get", "svc", NAME, "-n", SYSTEM, "--no-headers").stdout.split()[3]

    until(lambda: external_ip() == shown)
    kubectl("rollout", "status", f"deploy/{NAME}", "-n", SYSTEM)
    pods = kubectl("get", "pods", "-n", SYSTEM, "-l", "istio=ingressgateway", "-o", "name").stdout
    assert pods.startswith(f"pod/{NAME}-")


@pytest.mark.parametrize("apart", [True, False], ids=["two planes", "one plane"])
def test_the_service_gets_the_ports_of_the_istio_gateway(request: pytest.FixtureRequest, apart: bool) -> None:
    """The controller of ASM copies them from the mesh to the cluster."""
    planes: Planes = request.getfixturevalue("planes" if apart else "one_plane")
    planes.add_gateway()
    port = {"name": "grpc", "port": 9999, "targetPort": 9999}
    patch = json.dumps([{"op": "add", "path": "/spec/ports/-", "value": port}])
    kubectl = Kubectl(planes.mesh)
    done = kubectl("patch", "istiogateway", "ingressgateway", "-n", SYSTEM, "--type", "json", "-p", patch)
    assert done.stdout == "istiogateway.istio.alibabacloud.com/ingressgateway patched\n"

    def ports() -> list[int]:
        service = planes.cluster.get("services", NAME, SYSTEM)
        return [port["port"] for port in service["spec"]["ports"]] if service else []

    until(lambda: ports() == [80, 443, 9999])


# -- faults


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "error: You must be logged in to the server (Unauthorized)"),
        (403, "Error from server (Forbidden): "),
        (500, "Error from server (InternalError): Internal error occurred: "),
    ],
)
def test_a_server_refuses_matching_requests(
    kubectl: Kubectl, cluster: Plane, status: int, message: str
) -> None:
    """`recover` ends it."""
    cluster.refuse(status, lambda request: request.path.endswith("/namespaces"))
    refused = kubectl("get", "namespaces")
    assert refused.returncode == 1
    assert refused.stderr.startswith(message)
    cluster.recover()
    assert kubectl("get", "namespaces").returncode == 0


def test_a_server_can_stop_responding_or_listening(kubectl: Kubectl, cluster: Plane) -> None:
    """`recover` ends it, and the objects stay."""
    cluster.stop_responding()
    silent = kubectl("get", "namespaces", "--request-timeout", "1s")
    assert silent.returncode == 1
    assert "Client.Timeout" in silent.stderr or "deadline exceeded" in silent.stderr
    cluster.recover()
    cluster.refuse_connections()
    refused = kubectl("get", "namespaces")
    assert f"The connection to the server 127.0.0.1:{cluster.port} was refused" in refused.stderr
    cluster.recover()
    assert kubectl("get", "namespaces", "-o", "name").stdout == "namespace/default\nnamespace/kube-system\n"


def test_a_server_records_requests(kubectl: Kubectl, cluster: Plane) -> None:
    """`writes` and `nothing_changes` use the record."""
    kubectl(*APPLY, stdin=text(namespace()))
    assert [str(request) for request in cluster.writes()] == ["PATCH /api/v1/namespaces/one 201"]
    [request] = cluster.writes()
    assert request.query["fieldManager"] == "us"
    assert request.agent.startswith("kubectl/")
    with pytest.raises(AssertionError), cluster.nothing_changes():
        kubectl("label", "namespace/one", "a=b")
