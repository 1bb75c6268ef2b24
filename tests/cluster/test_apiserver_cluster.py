"""What is behind our API server does what a cluster does: pods, namespaces, logs, commands, the gateway."""

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
def test_a_rollout_is_waited_for(kubectl: Kubectl, cluster: Plane) -> None:
    """The pods of the former template go when the new ones are ready."""
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    old = cluster.names("pods", "one")
    kubectl(*APPLY, stdin=text(deployment("hop:2", replicas=2)))
    done = kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s")
    assert done.stdout.splitlines()[-1] == 'deployment "dep" successfully rolled out'
    assert kubectl("wait", "--for=condition=Available", "deploy/dep", "-n", "one").returncode == 0
    until(lambda: len(cluster.objects("pods", "one")) == 2)
    assert not set(old) & set(cluster.names("pods", "one"))


@pytest.mark.usefixtures("applied")
def test_a_rollout_that_stands_still_fails(kubectl: Kubectl, cluster: Plane) -> None:
    """By kubectl's patience or by the deployment's, whichever ends first; and pods and events say why."""
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
def test_a_deployment_that_is_deleted_takes_its_pods_along(kubectl: Kubectl, cluster: Plane) -> None:
    """Its replica set first."""
    until(lambda: cluster.objects("pods", "one"))
    gone = kubectl("delete", "deploy/dep", "-n", "one", "--timeout", "10s")
    assert gone.stdout == 'deployment.apps "dep" deleted from one namespace\n'
    until(lambda: not cluster.objects("replicasets", "one") and not cluster.objects("pods", "one"))


@pytest.mark.parametrize(("sidecars", "where"), [("container", "containers"), ("native", "initContainers")])
def test_pods_of_injected_namespaces_get_a_sidecar(
    kubectl: Kubectl, cluster: Plane, sidecars: Sidecars, where: str
) -> None:
    """Those that are made from then on."""
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
def test_of_a_failing_rollout_only_the_new_pods_fail(kubectl: Kubectl, cluster: Plane) -> None:
    """What ran goes on; an image can fail as well as a deployment, and the next one mends it."""
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    cluster.deployments_fail("hop:broken", "CrashLoopBackOff")
    kubectl(*APPLY, stdin=text(deployment("hop:broken")))
    until(lambda: "CrashLoopBackOff" in kubectl("get", "pods", "-n", "one").stdout)
    assert "1/1     1            1" in kubectl("get", "deploy", "-n", "one").stdout
    kubectl(*APPLY, stdin=text(deployment("hop:3")))
    assert kubectl("rollout", "status", "deploy/dep", "-n", "one", "--timeout", "20s").returncode == 0


def test_pods_that_are_refused_are_never_made(kubectl: Kubectl, cluster: Plane) -> None:
    """Pod Security does not let the sidecar's privileged helper pass; a mesh with a CNI plugin has none."""
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
def test_a_namespace_takes_all_with_it(kubectl: Kubectl, cluster: Plane) -> None:
    """kubectl waits until it is gone."""
    gone = kubectl("delete", "namespace", "one", "--timeout", "20s")
    assert (gone.returncode, gone.stdout) == (0, 'namespace "one" deleted\n')
    assert cluster.get("namespaces", "one") is None
    assert not cluster.objects("pods", "one")
    assert not cluster.objects("virtualservices", "one")


@pytest.mark.usefixtures("applied")
def test_a_namespace_may_leave_the_mesh_behind(kubectl: Kubectl, cluster: Plane) -> None:
    """With data-plane KubeAPI access it does: what belongs to the mesh is elsewhere, and stays there."""
    cluster.behaviour.mesh_outlives_namespaces = True
    assert kubectl("delete", "namespace", "one", "--timeout", "20s").returncode == 0
    assert not cluster.objects("services", "one")
    assert cluster.names("virtualservices", "one") == ["vs"]


@pytest.mark.usefixtures("applied")
def test_a_namespace_that_ends_takes_nothing_new(kubectl: Kubectl, cluster: Plane) -> None:
    """It ends as long as something in it is not ready to go."""
    cluster.make("configmaps", {"metadata": {"name": "stays", "finalizers": ["a/b"]}}, "one")
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
def test_logs_are_followed(kubectl: Kubectl, cluster: Plane) -> None:
    """What was written, and what is written from then on, until the pod is gone."""
    cluster.say("hop", "one", "two", "three")
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    assert kubectl("logs", "deploy/dep", "-n", "one", "--tail", "2").stdout == "two\nthree\n"
    [pod] = cluster.names("pods", "one")
    with kubectl.start("logs", "-f", "-l", "app=hop", "-n", "one", "--prefix", "--tail", "1") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == f"[pod/{pod}/hop] three\n"
        cluster.say("hop", "four")
        assert follower.stdout.readline() == f"[pod/{pod}/hop] four\n"
        cluster.delete("deployments", "dep", "one")
        assert follower.wait(10) == 0


@pytest.mark.usefixtures("applied")
def test_a_container_that_never_started_has_no_logs(kubectl: Kubectl, cluster: Plane) -> None:
    """It says what it waits for."""
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
    """With its variables, its output apart, and its exit code."""
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
def test_a_command_ends_with_its_caller(kubectl: Kubectl, cluster: Plane, tmp_path: Path) -> None:
    """Whoever interrupts kubectl leaves no process behind."""
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
def test_a_gateway_has_the_address_that_the_test_says(
    planes: Planes, where: Object | None, shown: str
) -> None:
    """Or none yet."""
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
def test_the_service_follows_the_istio_gateway(request: pytest.FixtureRequest, apart: bool) -> None:
    """A port that is opened in the mesh is open in the cluster a moment later."""
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


# -- what goes wrong


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "error: You must be logged in to the server (Unauthorized)"),
        (403, "Error from server (Forbidden): "),
        (500, "Error from server (InternalError): Internal error occurred: "),
    ],
)
def test_a_server_refuses_what_it_is_told_to(
    kubectl: Kubectl, cluster: Plane, status: int, said: str
) -> None:
    """Until it is told to recover."""
    cluster.refuse(status, lambda asked: asked.path.endswith("/namespaces"))
    refused = kubectl("get", "namespaces")
    assert refused.returncode == 1
    assert refused.stderr.startswith(said)
    cluster.recover()
    assert kubectl("get", "namespaces").returncode == 0


def test_a_server_is_silent_or_not_there(kubectl: Kubectl, cluster: Plane) -> None:
    """Until it is told to recover; then it is what it was."""
    cluster.fall_silent()
    silent = kubectl("get", "namespaces", "--request-timeout", "1s")
    assert silent.returncode == 1
    assert "Client.Timeout" in silent.stderr or "deadline exceeded" in silent.stderr
    cluster.recover()
    cluster.refuse_connections()
    gone = kubectl("get", "namespaces")
    assert f"The connection to the server 127.0.0.1:{cluster.port} was refused" in gone.stderr
    cluster.recover()
    assert kubectl("get", "namespaces", "-o", "name").stdout == "namespace/default\nnamespace/kube-system\n"


def test_a_server_remembers_what_it_was_asked(kubectl: Kubectl, cluster: Plane) -> None:
    """Who writes cannot say afterwards that they did not."""
    kubectl(*APPLY, stdin=text(namespace()))
    assert [str(asked) for asked in cluster.writes()] == ["PATCH /api/v1/namespaces/one 201"]
    [asked] = cluster.writes()
    assert asked.query["fieldManager"] == "us"
    assert asked.agent.startswith("kubectl/")
    with pytest.raises(AssertionError), cluster.nothing_changes():
        kubectl("label", "namespace/one", "a=b")
