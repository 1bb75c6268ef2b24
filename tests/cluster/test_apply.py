"""apply.sh with the real kubectl and fake API servers."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from apiserver.kinds import ANY_PLANE, WORKLOADS, Object
from manifests import COMPONENTS, group_of, overlay
from planes import ACK, ASM, FUTURE_ASM, OLD_ASM, Kubectl, Planes
from script_runs import (
    DEPLOYMENTS,
    NAMESPACE,
    PORT,
    ROOT,
    SERVICES,
    PlanesOf,
    fails,
    found,
    left_running,
    messages,
    output,
    run,
    start,
    succeeds,
)

PART_OF = "app.kubernetes.io/part-of"
OURS = "hello-servicemesh-grpc"

apply = partial(run, "apply.sh")


def _no_files_left() -> bool:
    return not list((ROOT / "kube").glob(".apply.*"))


# -- success


def test_objects_are_applied_to_their_planes_and_the_next_command_is_shown(asm: Planes) -> None:
    done = apply(asm)
    succeeds(done)
    assert asm.cluster.names("deployments", NAMESPACE) == DEPLOYMENTS
    assert asm.cluster.names("services", NAMESPACE) == SERVICES
    assert asm.cluster.names("serviceaccounts", NAMESPACE) == ["default", "grpc-tracing-sa"]
    assert asm.mesh.names("gateways", NAMESPACE) == ["tracing-gateway"]
    assert asm.mesh.names("virtualservices", NAMESPACE) == [*SERVICES, "tracing-vs"]
    assert asm.mesh.names("destinationrules", NAMESPACE) == SERVICES
    assert asm.mesh.names("peerauthentications", NAMESPACE) == ["default"]
    assert asm.mesh.names("telemetries", NAMESPACE) == ["default"]
    for plane in (asm.cluster, asm.mesh):
        labels = found(plane, "namespaces", NAMESPACE, "")["metadata"]["labels"]
        assert (labels["istio-injection"], labels[PART_OF]) == ("enabled", OURS)
    assert done.stdout.splitlines()[-2:] == ["ready at 127.0.0.1:9999. Test it:", "  ./test.sh asm"]
    assert _no_files_left()


def test_pods_are_created_after_injection_is_on_in_both_planes(asm: Planes) -> None:
    succeeds(apply(asm))
    pods = asm.cluster.objects("pods", NAMESPACE)
    assert len(pods) == len(DEPLOYMENTS)
    assert all("istio-proxy" in [one["name"] for one in pod["spec"]["containers"]] for pod in pods)


def test_all_objects_have_one_field_manager(asm: Planes) -> None:
    succeeds(apply(asm))
    applied = [request for plane in (asm.cluster, asm.mesh) for request in plane.writes()]
    assert len(applied) == 20
    assert {(request.method, request.query["fieldManager"]) for request in applied} == {("PATCH", OURS)}


@pytest.mark.parametrize("arguments", [(), ("--component", "canary", "--component", "ha")], ids=str)
def test_applying_again_changes_nothing(asm: Planes, arguments: tuple[str, ...]) -> None:
    succeeds(apply(asm, *arguments))
    with asm.cluster.nothing_changes(), asm.mesh.nothing_changes():
        done = apply(asm, *arguments)
    succeeds(done)
    assert done.stdout.count(" unchanged\n") == 2
    assert "./test.sh asm" in done.stdout


def test_with_data_plane_kubeapi_access_one_kubeconfig_is_enough(one_plane: Planes) -> None:
    one_plane.add_gateway(PORT)
    done = apply(one_plane, env={"ASM_KUBECONFIG": ""})
    succeeds(done)
    assert one_plane.cluster.names("deployments", NAMESPACE) == DEPLOYMENTS
    assert one_plane.cluster.names("telemetries", NAMESPACE) == ["default"]
    with one_plane.cluster.nothing_changes():
        succeeds(apply(one_plane, env={"ASM_KUBECONFIG": ""}))


def test_istio_uses_the_kubeconfig_of_kubectl(one_plane: Planes) -> None:
    one_plane.add_gateway(PORT)
    nowhere = {"ACK_KUBECONFIG": "/nowhere", "ASM_KUBECONFIG": "/nowhere"}  # for another target
    done = apply(one_plane, target="istio", env=nowhere | {"KUBECONFIG": str(one_plane.cluster.kubeconfig)})
    succeeds(done)
    assert "  ./test.sh istio\n" in done.stdout
    assert one_plane.cluster.names("virtualservices", NAMESPACE) == [*SERVICES, "tracing-vs"]


def test_kubeconfig_paths_are_relative_to_the_working_directory(asm: Planes) -> None:
    folder = asm.cluster.kubeconfig.parent
    options = ("--ack-kubeconfig", asm.cluster.kubeconfig.name, "--asm-kubeconfig", asm.mesh.kubeconfig.name)
    done = apply(asm, *options, cwd=folder, env={"ACK_KUBECONFIG": "", "ASM_KUBECONFIG": ""})
    succeeds(done)
    assert done.stdout.splitlines()[-1].endswith(
        " --kubeconfig ack.kubeconfig --asm-kubeconfig asm.kubeconfig"
    )


def test_a_kubeconfig_may_have_a_space_in_its_path(asm: Planes, tmp_path: Path) -> None:
    config = asm.cluster.kubeconfig_for(tmp_path / "my config")
    done = apply(asm, "--kubeconfig", str(config))
    succeeds(done)
    assert done.stdout.splitlines()[-1].endswith(r"/my\ config")


def test_a_symlink_to_the_script_works(asm: Planes, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT / "apply.sh")
    done = run(str(tmp_path / "link"), asm)
    succeeds(done)


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["bash"], ["bash", "--posix"]], ids=" ".join)
def test_it_runs_in_every_shell(asm: Planes, shell: list[str]) -> None:
    succeeds(apply(asm, under=shell))


def test_asm_is_the_default_target(asm: Planes) -> None:
    done = apply(asm, target="")
    succeeds(done)
    assert "  ./test.sh asm\n" in done.stdout


# -- the image


@pytest.mark.parametrize(
    ("option", "image"),
    [
        (None, "hello-servicemesh-grpc:1.0.0"),
        ("demo", "demo:latest"),
        ("demo:2", "demo:2"),
        ("registry.example.com:5000/me/demo", "registry.example.com:5000/me/demo:latest"),
        ("registry.example.com:5000/me/demo:2.1", "registry.example.com:5000/me/demo:2.1"),
        (f"me/demo@sha256:{'a' * 64}", f"me/demo@sha256:{'a' * 64}"),
    ],
)
def test_the_image_option_sets_the_image(asm: Planes, option: str | None, image: str) -> None:
    succeeds(apply(asm, *(("--image", option) if option else ())))
    images = [_containers(asm, name)[0]["image"] for name in DEPLOYMENTS]
    assert images == [image] * len(DEPLOYMENTS)


def _containers(planes: Planes, deployment: str) -> list[Object]:
    pods = found(planes.cluster, "deployments", deployment)["spec"]["template"]["spec"]
    containers: list[Object] = pods["containers"]
    return containers


def test_without_the_image_option_the_deployed_image_stays(asm: Planes) -> None:
    succeeds(apply(asm, "--image", "demo:2"))
    done = apply(asm, "--component", "canary")
    succeeds(done)
    assert done.stdout.splitlines()[0] == "image: demo:2, as deployed"
    assert _containers(asm, "grpc-server-python-3-v2")[0]["image"] == "demo:2"
    succeeds(apply(asm, "--image", "hello-servicemesh-grpc:1.0.0"))
    assert _containers(asm, "grpc-server-python-3")[0]["image"] == "hello-servicemesh-grpc:1.0.0"


# -- components


def test_objects_of_a_removed_component_are_deleted(asm: Planes) -> None:
    succeeds(apply(asm, "--component", "canary", "--component", "ha", "--component", "fault"))
    assert "grpc-server-python-3-v2" in asm.cluster.names("deployments", NAMESPACE)
    assert "fault" in found(asm.mesh, "virtualservices", "grpc-server-svc3")["spec"]["http"][0]
    assert asm.cluster.names("poddisruptionbudgets", NAMESPACE) == SERVICES
    done = apply(asm)
    succeeds(done)
    assert 'deployment.apps "grpc-server-python-3-v2" deleted' in done.stdout
    assert asm.cluster.names("deployments", NAMESPACE) == DEPLOYMENTS
    assert asm.cluster.names("poddisruptionbudgets", NAMESPACE) == []
    assert "fault" not in found(asm.mesh, "virtualservices", "grpc-server-svc3")["spec"]["http"][0]


def test_routes_are_added_only_after_pods_are_ready(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.deployments_fail("grpc-server-python-3-v2")
    before = asm.mesh.state()
    done = apply(asm, "--component", "canary", "--timeout", "2")
    fails(done, 1, "not ready within 2 s: grpc-server-python-3-v2")
    assert asm.mesh.state() == before


def test_objects_of_other_managers_stay(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.create("configmaps", {"metadata": {"name": "mine"}}, NAMESPACE)
    asm.mesh.create("destinationrules", {"metadata": {"name": "mine"}, "spec": {"host": "mine"}}, NAMESPACE)
    succeeds(apply(asm, "--component", "fault"))
    succeeds(apply(asm))
    assert asm.cluster.get("configmaps", "mine", NAMESPACE)
    assert asm.mesh.get("destinationrules", "mine", NAMESPACE)


def test_an_object_with_our_label_and_another_manager_stays(asm: Planes) -> None:
    succeeds(apply(asm))
    exposed = (
        "expose",
        "deployment/grpc-server-python-1",
        "-n",
        NAMESPACE,
        "--name",
        "mine",
        "--port",
        "9996",
    )
    done = Kubectl(asm.cluster)(*exposed, "--dry-run=client", "-o", "json")
    copied = json.loads(done.stdout)  # kubectl expose copies the labels
    assert copied["metadata"]["labels"][PART_OF] == OURS
    asm.cluster.create("services", copied, NAMESPACE)
    succeeds(apply(asm))
    assert asm.cluster.get("services", "mine", NAMESPACE)
    done = apply(asm, "--delete", "--yes")
    assert "stays, because it has other objects: Service/mine" in done.stdout


def test_the_gateway_api_replaces_the_istio_gateway_and_back(asm: Planes) -> None:
    succeeds(apply(asm))
    succeeds(apply(asm, "--component", "gateway-api"))
    assert asm.mesh.names("gateways", NAMESPACE) == []
    assert asm.cluster.names("gateways.gateway.networking.k8s.io", "istio-system") == ["tracing-gateway"]
    assert asm.cluster.names("grpcroutes", NAMESPACE) == ["tracing-route"]
    succeeds(apply(asm))
    assert asm.mesh.names("gateways", NAMESPACE) == ["tracing-gateway"]
    assert asm.cluster.names("gateways.gateway.networking.k8s.io", "istio-system") == []


def test_an_old_mesh_needs_the_component_legacy_api(planes_of: PlanesOf) -> None:
    planes = planes_of(mesh=OLD_ASM)
    planes.add_gateway(PORT)
    fails(apply(planes), 3, "networking.istio.io/v1 is not served", "--component legacy-api")
    succeeds(apply(planes, "--component", "legacy-api"))
    assert planes.mesh.names("virtualservices", NAMESPACE) == [*SERVICES, "tracing-vs"]


def test_a_mesh_without_the_old_versions_refuses_legacy_api(planes_of: PlanesOf) -> None:
    planes = planes_of(mesh=FUTURE_ASM)
    planes.add_gateway(PORT)
    text = "networking.istio.io/v1beta1 is not served: leave out --component legacy-api"
    fails(apply(planes, "--component", "legacy-api"), 3, text)
    succeeds(apply(planes))


# -- the gateway


def test_a_closed_port_is_reported_with_the_command_that_opens_it(planes: Planes) -> None:
    planes.add_gateway()
    with planes.cluster.nothing_changes(), planes.mesh.nothing_changes():
        done = apply(planes)
    fails(done, 3, "port 9999 of the gateway istio-system/istio-ingressgateway is closed", "--with-gateway")
    (command,) = [line.strip() for line in done.stderr.splitlines() if line.startswith("  kubectl")]
    patched = subprocess.run(
        ["sh", "-c", command], env=planes.environment, check=True, capture_output=True, text=True, timeout=60
    )
    assert "patched" in patched.stdout
    succeeds(apply(planes, "--timeout", "30", "--with-gateway"))  # waits for the controller of ASM


def test_with_gateway_opens_the_port_and_keeps_the_others(planes: Planes) -> None:
    planes.add_gateway(("mysql", 3306))
    succeeds(apply(planes, "--with-gateway"))
    gateway = found(planes.mesh, "istiogateways", "ingressgateway", "istio-system")
    assert [port["port"] for port in gateway["spec"]["ports"]] == [80, 443, 3306, 9999]
    service = found(planes.cluster, "services", "istio-ingressgateway", "istio-system")
    assert [port["port"] for port in service["spec"]["ports"]] == [80, 443, 3306, 9999]
    with planes.cluster.nothing_changes(), planes.mesh.nothing_changes():
        succeeds(apply(planes, "--with-gateway"))


@pytest.mark.parametrize("ports", [None, []])
def test_an_istio_gateway_without_ports_gets_those_of_its_service_and_ours(
    planes: Planes, ports: list[int] | None
) -> None:
    planes.add_gateway(("mysql", 3306))
    planes.mesh.controllers.clear()  # no controller copies its ports to the Service
    planes.mesh.change("istiogateways", "ingressgateway", {"spec": {"ports": ports}}, "istio-system")
    fails(apply(planes, "--with-gateway", "--timeout", "1"), 1, "is still closed after 1 s")
    gateway = found(planes.mesh, "istiogateways", "ingressgateway", "istio-system")
    assert [port["port"] for port in gateway["spec"]["ports"]] == [80, 443, 3306, 9999]
    with planes.mesh.nothing_changes():  # its ports include 9999 already
        fails(apply(planes, "--with-gateway", "--timeout", "1"), 1, "is still closed after 1 s")
        fails(apply(planes), 3, "although its IstioGateway has it")


def test_a_port_that_cannot_be_opened_is_reported(planes: Planes) -> None:
    planes.add_gateway()
    planes.mesh.delete("istiogateways", "ingressgateway", "istio-system")
    text = "is closed, and istiogateway ingressgateway, which can open it, cannot be read"
    fails(apply(planes, "--with-gateway"), 3, text, "not found")


def test_a_gateway_that_refuses_the_port_is_reported(planes: Planes) -> None:
    planes.add_gateway()
    planes.mesh.refuse(
        403, when=lambda request: request.method == "PATCH" and "istiogateways" in request.path
    )
    text = "cannot open the port (see above); nothing else was changed"
    fails(apply(planes, "--with-gateway"), 1, "Forbidden", text)
    assert planes.cluster.writes() == []


def test_with_istio_the_port_is_opened_on_the_service(one_plane: Planes) -> None:
    one_plane.add_gateway()
    one_plane.cluster.delete("istiogateways", "ingressgateway", "istio-system")
    config = {"KUBECONFIG": str(one_plane.cluster.kubeconfig)}
    fails(
        apply(one_plane, target="istio", env=config), 3, "patch service -n istio-system istio-ingressgateway"
    )
    succeeds(apply(one_plane, "--with-gateway", target="istio", env=config))
    service = found(one_plane.cluster, "services", "istio-ingressgateway", "istio-system")
    assert [port["port"] for port in service["spec"]["ports"]] == [80, 443, 9999]


def test_another_gateway_is_selected_by_its_labels(asm: Planes) -> None:
    service = found(asm.cluster, "services", "istio-ingressgateway", "istio-system")
    labels = {"app": "istio-blue", "istio": "blue"}
    ports = [{"name": port["name"], "port": port["port"]} for port in service["spec"]["ports"]]
    spec = {"type": "LoadBalancer", "selector": labels, "ports": ports}
    asm.cluster.create("services", {"metadata": {"name": "istio-blue"}, "spec": spec}, "istio-system")
    pod = {
        "metadata": {"name": "blue", "labels": labels},
        "spec": {"containers": [{"name": "p", "image": "p"}]},
    }
    fails(apply(asm, "--gateway-service", "istio-blue"), 3, "has no pods: no pod has the labels")
    asm.cluster.create("pods", pod, "istio-system")
    done = apply(asm, "--gateway-service", "istio-blue")
    succeeds(done)
    assert found(asm.mesh, "gateways", "tracing-gateway")["spec"]["selector"] == labels
    assert "--gateway-service istio-system/istio-blue" in done.stdout.splitlines()[-1]


def test_the_gateway_api_gateway_is_removed_when_another_gateway_is_used(asm: Planes) -> None:
    succeeds(apply(asm, "--component", "gateway-api"))
    asm.cluster.create_namespace("other")
    asm.cluster.settle()  # a pod needs the service account that comes with it
    _make_gateway(asm, "other", "gateway", {"istio": "other"})
    succeeds(apply(asm, "--gateway-service", "other/gateway"))
    assert asm.cluster.names("gateways.gateway.networking.k8s.io", "istio-system") == []


def _make_gateway(planes: Planes, namespace: str, name: str, labels: dict[str, str]) -> None:
    spec = {"selector": labels, "ports": [{"port": 9999}]}
    planes.cluster.create("services", {"metadata": {"name": name}, "spec": spec}, namespace)
    pod = {"containers": [{"name": "p", "image": "p"}]}
    planes.cluster.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": pod}, namespace)


def test_a_gateway_without_an_address_is_not_a_failure(asm: Planes) -> None:
    asm.cluster.behaviour.load_balancer = None
    asm.cluster.change(
        "services", "istio-ingressgateway", {"status": {"loadBalancer": {"ingress": None}}}, "istio-system"
    )
    done = apply(asm)
    succeeds(done)
    assert "has no address yet" in done.stdout
    assert "  ./test.sh asm --in-cluster" in done.stdout


# -- preflight checks: a failed check is reported, and nothing is changed


@pytest.fixture
def unchanged(asm: Planes) -> Iterator[Planes]:
    """Return the planes, and assert after the test that nothing was written to them."""
    with asm.cluster.nothing_changes(), asm.mesh.nothing_changes():
        yield asm
    assert _no_files_left()


def test_without_kubectl(unchanged: Planes, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "basename", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    fails(apply(unchanged, under=["bash"], env={"PATH": str(tools)}), 3, "kubectl not found: install it")


def test_without_a_kubeconfig(unchanged: Planes) -> None:
    done = apply(unchanged, env={"ACK_KUBECONFIG": "", "ASM_KUBECONFIG": ""})
    fails(done, 3, "no kubeconfig", "--ack-kubeconfig or ACK_KUBECONFIG", "./apply.sh local")


@pytest.mark.parametrize("variable", ["ACK_KUBECONFIG", "ASM_KUBECONFIG"])
def test_with_a_missing_kubeconfig(unchanged: Planes, variable: str) -> None:
    fails(apply(unchanged, env={variable: "/nowhere"}), 3, "cannot read kubeconfig /nowhere")


def test_with_an_invalid_kubeconfig(unchanged: Planes, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("garbage: [")
    done = apply(unchanged, env={"ACK_KUBECONFIG": str(tmp_path / "garbage")})
    fails(done, 3, "no usable response from the ACK cluster", str(tmp_path / "garbage"))


def test_with_the_kubeconfigs_exchanged(unchanged: Planes) -> None:
    ack, asm = str(unchanged.mesh.kubeconfig), str(unchanged.cluster.kubeconfig)
    fails(
        apply(unchanged, env={"ACK_KUBECONFIG": ack, "ASM_KUBECONFIG": asm}),
        3,
        "serves no Istio resources",
        "check that it is the kubeconfig of an ASM instance",
    )


@pytest.mark.parametrize(("plane", "name"), [("cluster", "the ACK cluster"), ("mesh", "the ASM instance")])
@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "You must be logged in"), (403, "Forbidden"), (500, "Internal"), (0, "refused")],
)
def test_with_an_api_server_that_refuses_requests(
    asm: Planes, plane: str, name: str, status: int, text: str
) -> None:
    server = getattr(asm, plane)
    if status:
        server.refuse(status)
    else:
        server.refuse_connections()
    done = apply(asm)
    server.recover()
    fails(done, 3, f"no usable response from {name}", text)
    assert [str(request) for request in asm.cluster.writes() + asm.mesh.writes()] == []


def test_with_an_api_server_that_never_responds(unchanged: Planes) -> None:
    unchanged.mesh.stop_responding()
    started = time.monotonic()
    done = apply(unchanged)
    unchanged.mesh.recover()
    fails(done, 3, "no usable response from the ASM instance")
    assert time.monotonic() - started < 60


def test_without_data_plane_kubeapi_access(unchanged: Planes) -> None:
    done = apply(unchanged, env={"ASM_KUBECONFIG": ""})
    fails(done, 3, "the ACK cluster does not serve Istio resources", "data-plane KubeAPI access")


def test_with_an_asm_kubeconfig_for_istio(unchanged: Planes) -> None:
    done = apply(unchanged, "--asm-kubeconfig", str(unchanged.mesh.kubeconfig), target="istio")
    fails(done, 2, "the target istio has one kubeconfig: set it with --kubeconfig")


def test_without_a_writable_folder(unchanged: Planes, tmp_path: Path) -> None:
    (tmp_path / "mktemp").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "mktemp").chmod(0o755)
    path = os.pathsep.join((str(tmp_path), unchanged.environment["PATH"]))
    fails(apply(unchanged, env={"PATH": path}), 3, f"cannot write into {ROOT}/kube")


def test_without_istio(unchanged: Planes) -> None:
    done = apply(unchanged, target="istio", env={"KUBECONFIG": str(unchanged.cluster.kubeconfig)})
    fails(done, 3, "the cluster does not serve Istio resources", "install Istio")


def test_without_a_gateway(planes: Planes) -> None:
    fails(apply(planes), 3, "no gateway", "has no Service istio-ingressgateway in istio-system", "kube/asm/")
    planes.cluster.create_namespace("istio-system")
    planes.cluster.create(
        "services", {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}}, "default"
    )
    fails(apply(planes, "--gateway-service", "default/other"), 3, "default/other selects no pods")
    assert planes.mesh.writes() == []


def test_without_pods_of_the_gateway(planes: Planes) -> None:
    planes.add_gateway(PORT, pods=0)
    fails(
        apply(planes), 3, "has no pods: no pod has the labels app=istio-ingressgateway,istio=ingressgateway"
    )


def test_without_the_gateway_api(planes_of: PlanesOf) -> None:
    planes = planes_of(cluster=(*ANY_PLANE, *WORKLOADS))
    planes.add_gateway(PORT)
    done = apply(planes, "--component", "gateway-api")
    fails(done, 3, "the ACK cluster does not serve GRPCRoute: install the resources of Gateway API")


@pytest.mark.parametrize("plane", ["cluster", "mesh"])
def test_with_a_namespace_of_another_manager(asm: Planes, plane: str) -> None:
    server = getattr(asm, plane)
    server.create_namespace(NAMESPACE)
    done = apply(asm)
    fails(
        done,
        3,
        "was not created by this script",
        f"label namespace {NAMESPACE} --overwrite istio-injection=enabled",
    )
    disabled = {"metadata": {"labels": {"istio-injection": "disabled"}}}
    server.change("namespaces", NAMESPACE, disabled)
    fails(apply(asm), 3, "has no sidecar injection")
    server.change("namespaces", NAMESPACE, {"metadata": {"labels": {"istio-injection": "enabled"}}})
    before = server.get("namespaces", NAMESPACE)
    succeeds(apply(asm))
    assert server.get("namespaces", NAMESPACE) == before
    succeeds(apply(asm, "--delete", "--yes"))
    assert server.get("namespaces", NAMESPACE) == before


@pytest.mark.parametrize("component", ["gateway-api", "network-policy"])
def test_with_a_component_that_needs_the_gateway_in_istio_system(asm: Planes, component: str) -> None:
    asm.cluster.create_namespace("other")
    asm.cluster.settle()  # a pod needs the service account that comes with it
    _make_gateway(asm, "other", "gateway", {"istio": "other"})
    done = apply(asm, "--component", component, "--gateway-service", "other/gateway")
    fails(done, 2, f"--component {component} needs a gateway in istio-system, not other/gateway")
    assert asm.mesh.writes() == []


def test_without_a_permission_that_only_the_last_step_needs(asm: Planes) -> None:
    asm.cluster.refuse(403, when=lambda request: "poddisruptionbudgets" in request.path)
    done = apply(asm)
    asm.cluster.recover()
    fails(done, 3, "the ACK cluster does not return the demo's objects (see above); nothing was changed")
    assert [str(request) for request in asm.cluster.writes() + asm.mesh.writes()] == []


@pytest.mark.parametrize(("plane", "name"), [("cluster", "the ACK cluster"), ("mesh", "the ASM instance")])
@pytest.mark.parametrize("again", [False, True])
def test_without_permission_to_write(asm: Planes, plane: str, name: str, again: bool) -> None:
    if again:
        succeeds(apply(asm))
        asm.cluster.forget_requests()
        asm.mesh.forget_requests()
    getattr(asm, plane).refuse(403, when=lambda request: request.method in {"POST", "PATCH"})
    done = apply(asm, "--component", "fault", "--component", "canary")
    fails(done, 3, "Forbidden", f"the dry run in {name} failed (see above); nothing was changed")
    assert [str(request) for request in asm.cluster.writes() + asm.mesh.writes()] == []


@pytest.mark.parametrize("tool", ["awk", "diff"])
def test_without_a_tool(unchanged: Planes, tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {"bash", "basename", "dirname", "kubectl", "awk", "diff"} - {tool}:
        (tools / name).symlink_to(str(shutil.which(name, path=unchanged.environment["PATH"])))
    fails(apply(unchanged, under=["bash"], env={"PATH": str(tools)}), 3, f"{tool} is not on PATH")


def test_with_a_gateway_that_cannot_be_read(unchanged: Planes) -> None:
    unchanged.cluster.refuse(403, when=lambda request: "/services/" in request.path)
    done = apply(unchanged)
    unchanged.cluster.recover()
    fails(done, 3, "Forbidden", "the ACK cluster does not return the Service of the gateway")


def test_with_a_kubectl_that_cannot_render(unchanged: Planes, tmp_path: Path) -> None:
    real = shutil.which("kubectl", path=unchanged.environment["PATH"])
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\n[ "$1" != kustomize ] || exit 1\nexec {real} "$@"\n')
    (tmp_path / "kubectl").chmod(0o755)
    path = os.pathsep.join((str(tmp_path), unchanged.environment["PATH"]))
    fails(apply(unchanged, env={"PATH": path}), 3, "kubectl cannot render kube/ (see above): update kubectl")


def test_with_a_namespace_that_is_being_deleted(asm: Planes) -> None:
    asm.cluster.create_namespace(NAMESPACE)
    kept = {"metadata": {"name": "kept", "finalizers": ["example.com/keep"]}}
    asm.cluster.create("configmaps", kept, NAMESPACE)
    asm.cluster.delete("namespaces", NAMESPACE)
    fails(apply(asm), 3, "is being deleted")


def test_with_objects_of_another_manager_under_our_names(asm: Planes) -> None:
    for plane in (asm.cluster, asm.mesh):
        plane.create_namespace(NAMESPACE, {"istio-injection": "enabled"})
    spec = {"ports": [{"port": 9996}], "selector": {"app": "theirs"}}
    asm.cluster.create("services", {"metadata": {"name": "grpc-server-svc2"}, "spec": spec}, NAMESPACE)
    asm.mesh.create("telemetries", {"metadata": {"name": "default"}, "spec": {}}, NAMESPACE)
    with asm.cluster.nothing_changes(), asm.mesh.nothing_changes():
        done = apply(asm)
    fails(done, 3, "were not created by this script: Service/grpc-server-svc2 Telemetry/default")


# -- failures after the preflight checks


def test_a_failed_rollout_is_reported_with_pods_events_and_logs(asm: Planes) -> None:
    asm.cluster.deployments_fail("grpc-server-python-2", "CrashLoopBackOff")
    asm.cluster.write_logs("grpc-server-deploy2", "Error: it broke")
    done = apply(asm, "--timeout", "3")
    fails(
        done,
        1,
        "not ready within 3 s: grpc-server-python-2. See their pods",
        "CrashLoopBackOff",
        "Error: it broke",
    )
    assert "BackOff" in done.stderr
    asm.cluster.deployments_work()
    succeeds(apply(asm))


def test_an_image_that_cannot_be_pulled_is_reported(asm: Planes) -> None:
    asm.cluster.deployments_fail("grpc-server-python-1", "ImagePullBackOff")
    done = apply(asm, "--timeout", "3", "--image", "nowhere/demo:1")
    fails(done, 1, "the cluster cannot pull nowhere/demo:1", "docker/build.sh --push", "--image")


def test_pods_without_sidecars_are_reported(asm: Planes) -> None:
    asm.cluster.behaviour.sidecars = None
    done = apply(asm)
    succeeds(done)
    assert "no sidecar in grpc-client-" in messages(done)
    assert "rollout restart deployment -n grpc-tracing" in messages(done)


def test_a_native_sidecar_is_recognized(asm: Planes) -> None:
    asm.cluster.behaviour.sidecars = "native"
    done = apply(asm)
    succeeds(done)
    assert "no sidecar" not in done.stderr


def test_changes_of_other_managers_are_overwritten_only_with_force(asm: Planes) -> None:
    succeeds(apply(asm))
    Kubectl(asm.cluster)(
        *("set", "env", "deployment/grpc-server-python-2", "-n", NAMESPACE, "GRPC_HELLO_BACKEND=elsewhere")
    )
    done = apply(asm)
    fails(done, 1, "conflict", "GRPC_HELLO_BACKEND", "--force overwrites that; nothing was changed")
    fails(apply(asm, "--dry-run"), 1, "conflict", "--force overwrites that")
    done = apply(asm, "--dry-run", "--force")
    succeeds(done)
    assert re.search(r"^-\s+value: elsewhere$", done.stdout, re.MULTILINE)
    succeeds(apply(asm, "--force"))
    (container, *_) = _containers(asm, "grpc-server-python-2")
    assert {"name": "GRPC_HELLO_BACKEND", "value": "grpc-server-svc3"} in container["env"]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_signal_ends_it_and_it_can_be_run_again(asm: Planes, number: signal.Signals) -> None:
    asm.cluster.deployments_fail("grpc-server-python-1", "Pending")
    with start("apply.sh", asm) as running:
        for line in output(running):
            if "Waiting for deployment" in line:
                break
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 128 + number, out + err
    assert "apply.sh: interrupted: what was applied so far stays" in err
    assert _no_files_left()
    assert left_running(str(asm.cluster.kubeconfig)) == []
    asm.cluster.deployments_work()
    succeeds(apply(asm))


# -- a dry run


def test_a_dry_run_shows_new_objects_and_changes_nothing(unchanged: Planes) -> None:
    done = apply(unchanged, "--dry-run")
    succeeds(done)
    assert done.stdout.count("+kind: Namespace\n") == 2
    assert "+  name: tracing-vs" in done.stdout
    assert "+  name: grpc-server-python-3" in done.stdout
    assert done.stdout.splitlines()[-1] == "nothing was changed (--dry-run)"


def test_a_dry_run_shows_changes_and_removals(asm: Planes) -> None:
    succeeds(apply(asm, "--component", "canary"))
    with asm.cluster.nothing_changes(), asm.mesh.nothing_changes():
        done = apply(asm, "--dry-run", "--image", "demo:2")
    succeeds(done)
    assert re.search(r"^-\s+(- )?image: hello-servicemesh-grpc:1.0.0$", done.stdout, re.MULTILINE)
    assert re.search(r"^\+\s+(- )?image: demo:2$", done.stdout, re.MULTILINE)
    assert "this would be removed\n  Deployment grpc-server-python-3-v2\n" in done.stdout


def test_a_dry_run_opens_no_port(planes: Planes) -> None:
    planes.add_gateway()
    with planes.cluster.nothing_changes(), planes.mesh.nothing_changes():
        done = apply(planes, "--dry-run", "--with-gateway")
    succeeds(done)
    assert "is closed. Open it" in done.stderr
    assert "+  name: tracing-vs" in done.stdout


# -- delete


def _objects(planes: Planes) -> dict[str, set[str]]:
    """Return all objects after the controllers are idle, without events, which are never deleted."""
    for plane in (planes.cluster, planes.mesh):
        plane.settle()
    return {
        plane.name: {key for key in plane.state() if not key.startswith("events")}
        for plane in (planes.cluster, planes.mesh)
    }


def test_delete_removes_all_objects_the_mesh_first(asm: Planes) -> None:
    before = _objects(asm)
    succeeds(apply(asm, "--component", "canary", "--component", "network-policy"))
    assert _objects(asm) != before
    done = apply(asm, "--delete", "--yes")
    succeeds(done)
    assert _objects(asm) == before
    order = [line.split()[0] for line in done.stdout.splitlines() if '" deleted' in line]
    ends = [order.index(kind) for kind in ("gateway.networking.istio.io", "deployment.apps", "namespace")]
    assert ends == sorted(ends)
    again = apply(asm, "--delete", "--yes")
    assert (again.returncode, again.stdout) == (0, "nothing to remove: the demo is not deployed\n")


def test_delete_removes_istio_resources_that_outlive_their_namespace(one_plane: Planes) -> None:
    one_plane.add_gateway(PORT)
    one_plane.cluster.behaviour.mesh_outlives_namespaces = True  # as with data-plane KubeAPI access
    succeeds(apply(one_plane, env={"ASM_KUBECONFIG": ""}))
    succeeds(apply(one_plane, "--delete", "--yes", env={"ASM_KUBECONFIG": ""}))
    assert one_plane.cluster.get("namespaces", NAMESPACE) is None
    left = [key for key in one_plane.cluster.state() if f"istio.io/{NAMESPACE}/" in key]
    assert left == []


def test_delete_keeps_other_objects_and_their_namespace(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.create("secrets", {"metadata": {"name": "mine"}}, NAMESPACE)
    asm.mesh.create("destinationrules", {"metadata": {"name": "mine"}, "spec": {"host": "mine"}}, NAMESPACE)
    done = apply(asm, "--delete", "--yes")
    succeeds(done)
    assert (
        "the namespace grpc-tracing of the ACK cluster stays, because it has other objects: Secret/mine"
        in done.stdout
    )
    assert "of the ASM instance stays, because it has other objects: DestinationRule/mine" in done.stdout
    assert asm.cluster.names("secrets", NAMESPACE) == ["mine"]
    assert asm.mesh.names("destinationrules", NAMESPACE) == ["mine"]
    assert asm.cluster.names("deployments", NAMESPACE) == []
    assert found(asm.cluster, "services", "istio-ingressgateway", "istio-system")


def test_delete_reports_objects_that_are_not_removed_in_time(asm: Planes) -> None:
    succeeds(apply(asm))
    finalizers = {"metadata": {"finalizers": ["example.com/keep"]}}
    asm.mesh.change("telemetries", "default", finalizers, NAMESPACE)
    fails(apply(asm, "--delete", "--yes", "--timeout", "1"), 1, "not everything was removed")
    asm.mesh.change("telemetries", "default", {"metadata": {"finalizers": None}}, NAMESPACE)
    asm.cluster.behaviour.namespaces_end_after = 60
    done = apply(asm, "--delete", "--yes", "--timeout", "1")
    fails(done, 1, "the namespace grpc-tracing of the ACK cluster was not deleted within 1 s")


OTHERS: dict[str, Object] = {
    "serviceaccounts": {},
    "networkpolicies": {"spec": {"podSelector": {}}},
    "poddisruptionbudgets": {"spec": {"maxUnavailable": 1}},
    "replicasets": {
        "spec": {
            "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
            "replicas": 0,
        }
    },
    "grpcroutes": {"spec": {}},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_delete_keeps_a_namespace_with_an_object_of_any_kind(asm: Planes, kind: str) -> None:
    succeeds(apply(asm))
    asm.cluster.create(kind, {"metadata": {"name": "mine"}, **OTHERS[kind]}, NAMESPACE)
    done = apply(asm, "--delete", "--yes")
    succeeds(done)
    assert "/mine" in next(
        line for line in done.stdout.splitlines() if "stays, because it has other objects" in line
    )
    assert asm.cluster.names(kind, NAMESPACE)[-1] == "mine"


def test_delete_keeps_a_namespace_whose_objects_it_cannot_list(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.refuse(403, when=lambda request: request.path.endswith("/secrets"))
    done = apply(asm, "--delete", "--yes")
    fails(done, 1, "of the ACK cluster stays: its other objects cannot be listed")
    asm.cluster.recover()
    asm.cluster.refuse(403, when=lambda request: request.path.endswith("/deployments"))
    fails(
        apply(asm, "--delete", "--yes"),
        3,
        "does not return the demo's objects (see above); nothing was removed",
    )
    assert asm.cluster.get("namespaces", NAMESPACE)


def test_settings_of_kubectl_have_no_effect(asm: Planes) -> None:
    home = asm.cluster.kubeconfig.parent
    (home / ".kube").mkdir()
    (home / ".kube/kuberc").write_text(
        "apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\ndefaults:\n"
        "- command: delete\n  options:\n  - name: interactive\n    default: 'true'\n"
    )
    succeeds(apply(asm, env={"KUBECTL_EXTERNAL_DIFF": "true"}))
    assert asm.cluster.names("deployments", NAMESPACE) == DEPLOYMENTS
    succeeds(apply(asm, "--delete", "--yes"))
    assert asm.cluster.get("namespaces", NAMESPACE) is None


def test_delete_reports_a_terminating_namespace(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.behaviour.namespaces_end_after = 60
    fails(apply(asm, "--delete", "--yes", "--timeout", "1"), 1, "was not deleted within 1 s")
    done = apply(asm, "--delete", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        "the namespace grpc-tracing of the ACK cluster is being deleted\n",
    )


def test_delete_reports_how_to_continue_without_the_mesh(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.mesh.refuse_connections()
    fails(apply(asm, "--delete", "--yes"), 3, "leave out the kubeconfig of the ASM instance")
    succeeds(apply(asm, "--delete", "--yes", env={"ASM_KUBECONFIG": ""}))


def test_delete_without_a_writable_folder_is_reported(asm: Planes, tmp_path: Path) -> None:
    done = apply(asm, "--delete", "--yes", env={"TMPDIR": str(tmp_path / "nowhere")})
    fails(done, 3, f"cannot write into {tmp_path}/nowhere")


def test_delete_needs_yes_without_a_terminal(asm: Planes) -> None:
    succeeds(apply(asm))
    with asm.cluster.nothing_changes(), asm.mesh.nothing_changes():
        done = apply(asm, "--delete")
    fails(done, 2, "add --yes if there is no terminal")
    assert "  Deployment grpc-server-python-1\n" in done.stdout


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, DEPLOYMENTS), ("y\n", 0, [])])
def test_delete_follows_the_confirmation(asm: Planes, answer: str, code: int, left: list[str]) -> None:
    succeeds(apply(asm))
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    done = apply(asm, "--delete", stdin=theirs)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == code, done.stderr
    assert "Remove all of it? [y/N]" in done.stdout
    assert asm.cluster.names("deployments", NAMESPACE) == left


def test_delete_of_the_cluster_works_without_the_mesh(asm: Planes) -> None:
    succeeds(apply(asm))
    done = apply(asm, "--delete", "--yes", env={"ASM_KUBECONFIG": ""})
    succeeds(done)
    assert "objects in the ASM instance stay, unless you set its kubeconfig" in messages(done)
    assert asm.cluster.get("namespaces", NAMESPACE) is None
    assert asm.mesh.names("gateways", NAMESPACE) == ["tracing-gateway"]


# -- logs


def test_logs_follow_all_hops_and_prefix_each_line(asm: Planes) -> None:
    succeeds(apply(asm))
    for number in (1, 2, 3):
        asm.cluster.write_logs(f"grpc-server-deploy{number}", f"hop {number} is up")
    with start("apply.sh", asm, "logs") as running:
        lines = sorted(output(running).readline() for _ in range(3))
        assert lines == [f"grpc-server-svc{number} | hop {number} is up\n" for number in (1, 2, 3)]
        asm.cluster.write_logs("grpc-server-deploy2", "later")
        assert output(running).readline() == "grpc-server-svc2 | later\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 130, err
    assert left_running(str(asm.cluster.kubeconfig)) == []


def test_logs_that_cannot_be_followed_fail(asm: Planes) -> None:
    succeeds(apply(asm))
    asm.cluster.refuse(403, when=lambda request: request.path.endswith("/log"))
    done = apply(asm, "logs")
    fails(done, 1, "cannot follow the logs")
    assert "grpc-server-svc2 | " in done.stdout


def test_logs_without_a_deployment_are_reported(asm: Planes) -> None:
    fails(apply(asm, "logs"), 1, "nothing is deployed in the ACK cluster: run ./apply.sh asm")


# -- usage


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--image",), "--image needs a value"),
        (("--image", "x y"), "invalid image x y"),
        (("--image", "demo:"), "invalid image demo:"),
        (("--image", "Demo:1"), "invalid image Demo:1"),
        (("--image", "https://example.com/demo:1"), "invalid image"),
        (("--image", "demo@sha256:abc"), "invalid image demo@sha256:abc"),
        (("--image", "demo:1:2"), "invalid image demo:1:2"),
        (("--component", "nothing"), "unknown component nothing: use one of"),
        (("--timeout", "0"), "--timeout takes a whole number"),
        (("--timeout", "soon"), "--timeout takes a whole number"),
        (("--gateway-service", "a/b/c"), "takes NAME or NAMESPACE/NAME"),
        (("--gateway-service", "Upper"), "takes NAME or NAMESPACE/NAME"),
        (("--delete", "--dry-run"), "--delete and --dry-run exclude each other"),
        (("logs", "--delete"), "logs and --delete exclude each other"),
        (("--nonsense",), "unknown option: --nonsense"),
        (("--dry-run", "local"), "write the target first"),
    ],
)
def test_wrong_usage_is_reported(unchanged: Planes, arguments: tuple[str, ...], text: str) -> None:
    done = apply(unchanged, *arguments)
    fails(done, 2, text)


def _lists_of_the_scripts() -> dict[str, list[str]]:
    text = (ROOT / "scripts/cluster/manifests.sh").read_text(encoding="utf-8")
    return {name: value.split() for name, value in re.findall(r"^(\w+)='([^']*)'", text, re.MULTILINE)}


def test_the_components_are_those_of_kube() -> None:
    folders = sorted(folder.name for folder in (ROOT / "kube/components").iterdir())
    assert sorted(_lists_of_the_scripts()["COMPONENTS"]) == folders


def test_the_scripts_list_every_kind_in_kube(tmp_path: Path) -> None:
    lists = _lists_of_the_scripts()
    names = {resource.full_name: (resource.group, resource.kind) for resource in (*ACK, *ASM)}
    looked_for = {names[name] for name in lists["CLUSTER_KINDS"] + lists["MESH_KINDS"]}
    brought = set()
    for number, left_out in enumerate(({}, {"gateway-api"})):
        folder = tmp_path / str(number)
        folder.mkdir()
        documents = overlay(folder, tuple(name for name in COMPONENTS if name not in left_out))
        brought |= {(group_of(document), document["kind"]) for document in documents}
    assert brought - looked_for == {("", "Namespace")}  # which has checks of its own
    assert looked_for <= brought  # no unused kind in the lists
