"""The fake API server behaves like a real one, as seen by the real kubectl.

The expected texts are those of a real kube-apiserver.
"""

import json

import pytest
from apiserver.kinds import Object
from apiserver.plane import Plane
from planes import OLD_ASM, Kubectl, PlaneOf, Planes
from samples import ALL, APPLY, DIFF, deployment, gateway, namespace, service, text, virtual_service

# -- server-side apply


def test_applying_the_same_objects_again_changes_nothing(kubectl: Kubectl, cluster: Plane) -> None:
    """Versions, generations and times stay."""
    first = kubectl(*APPLY, stdin=ALL)
    assert first.stdout.splitlines() == [
        "namespace/one serverside-applied",
        "service/svc serverside-applied",
        "deployment.apps/dep serverside-applied",
        "virtualservice.networking.istio.io/vs serverside-applied",
    ]
    cluster.settle()
    before = cluster.state()
    assert kubectl(*APPLY, stdin=ALL).stdout == first.stdout
    assert cluster.state() == before


@pytest.mark.usefixtures("applied")
def test_a_diff_shows_changes_without_making_them(kubectl: Kubectl, cluster: Plane) -> None:
    """Exit code 0: no difference; 1: a difference."""
    with cluster.nothing_changes():
        same = kubectl(*DIFF, stdin=ALL)
        other = kubectl(*DIFF, stdin=text(deployment("hop:2")))
    assert (same.returncode, same.stdout) == (0, "")
    assert other.returncode == 1
    changed = [line.strip() for line in other.stdout.splitlines() if line[:1] in "+-" and "image" in line]
    assert [line.replace(" ", "") for line in changed] == ["-image:hop:1", "+image:hop:2"]


@pytest.mark.usefixtures("applied")
def test_fields_that_are_no_longer_applied_are_removed(kubectl: Kubectl, cluster: Plane) -> None:
    """This holds for fields and for list items with keys. Defaults return."""
    less = deployment()
    del less["spec"]["replicas"]
    less["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "B", "value": "2"}]
    more = service()
    more["spec"]["ports"][0]["port"] = 9999
    assert kubectl(*APPLY, stdin=text(less, more)).returncode == 0
    found = cluster.get("deployments", "dep", "one")
    assert found is not None
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]
    assert found["metadata"]["generation"] == 2
    changed = cluster.get("services", "svc", "one")
    assert changed is not None
    assert [port["port"] for port in changed["spec"]["ports"]] == [9999]


@pytest.mark.usefixtures("applied")
def test_a_field_of_another_manager_is_a_conflict(kubectl: Kubectl, cluster: Plane) -> None:
    """The error names the manager and the field. Without force nothing changes."""
    kubectl("set", "image", "deploy/dep", "hop=hop:9", "-n", "one")
    kubectl("scale", "deploy/dep", "--replicas", "3", "-n", "one")
    refused = kubectl(*APPLY, stdin=text(deployment()))
    assert refused.returncode == 1
    version = "using apps/v1"
    assert refused.stderr.splitlines()[:5] == [
        f'error: Apply failed with 2 conflicts: conflicts with "kubectl" with subresource "scale" {version}:',
        "- .spec.replicas",
        f'conflicts with "kubectl-set" {version}:',
        '- .spec.template.spec.containers[name="hop"].image',
        "Please review the fields above--they currently have other managers. Here",
    ]
    found = cluster.get("deployments", "dep", "one")
    assert found is not None
    assert found["spec"]["replicas"] == 3
    assert kubectl(*APPLY, "--force-conflicts", stdin=text(deployment())).returncode == 0
    assert kubectl(*APPLY, stdin=text(deployment())).returncode == 0


@pytest.mark.usefixtures("applied")
def test_lists_of_istio_resources_change_as_a_whole(kubectl: Kubectl) -> None:
    """A conflict names the whole list. Another API version is the same object."""
    other = virtual_service(http=[{"route": [{"destination": {"host": "other"}}]}])
    other["apiVersion"] = "networking.istio.io/v1beta1"
    refused = kubectl("apply", "--server-side", "--field-manager", "others", "-f", "-", stdin=text(other))
    assert 'Apply failed with 1 conflict: conflict with "us": .spec.http' in refused.stderr


@pytest.mark.usefixtures("applied")
def test_managed_fields_list_the_fields_of_each_manager(kubectl: Kubectl) -> None:
    """The format is that of a real server."""
    kubectl("label", "deploy/dep", "-n", "one", "more=1")
    shown = kubectl("get", "deploy/dep", "-n", "one", "--show-managed-fields", "-o", "json")
    entries = {e["manager"]: e for e in json.loads(shown.stdout)["metadata"]["managedFields"]}
    item: Object = {".": {}, "f:name": {}, "f:value": {}}
    container = {".": {}, "f:env": {'k:{"name":"A"}': item}, "f:image": {}, "f:name": {}}
    template = {
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {"f:containers": {'k:{"name":"hop"}': container}},
    }
    spec = {"f:replicas": {}, "f:selector": {}, "f:template": template}
    assert entries["us"]["fieldsV1"] == {"f:spec": spec}
    assert entries["us"]["operation"] == "Apply"
    assert entries["kubectl-label"]["fieldsV1"] == {"f:metadata": {"f:labels": {".": {}, "f:more": {}}}}


# -- validation


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (
            deployment(replicaz=1),
            "(one/dep; apps/v1, Kind=Deployment): .spec.replicaz: field not declared in schema",
        ),
        (
            deployment(replicas="many"),  # type: ignore[arg-type]
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            virtual_service(http=[{"route": [{"destination": {"host": "a", "prt": 1}}]}]),
            ".spec.http[0].route[0].destination.prt: field not declared in schema",
        ),
        (
            service() | {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}},
            '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]',
        ),
        (
            gateway({"number": 9999, "name": "grpc"}),
            'The Gateway "gw" is invalid: \n* spec.servers[0].port.protocol: Required value\n',
        ),
        (deployment(selector={"matchLabels": {"app": "other"}}), "spec.selector: Invalid value: "),
        (
            deployment("hop:1") | {"metadata": {"name": "dep", "namespace": "two"}},
            'Error from server (NotFound): namespaces "two" not found',
        ),
        (
            deployment(
                template={"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}}
            ),
            "spec.template.spec.containers[0].image: Required value",
        ),
    ],
)
@pytest.mark.usefixtures("applied")
def test_an_invalid_object_is_refused(
    kubectl: Kubectl, cluster: Plane, invalid: Object, message: str
) -> None:
    """The message names the field, and nothing changes."""
    cluster.settle()
    before = cluster.state()
    refused = kubectl(*APPLY, stdin=text(invalid))
    assert refused.returncode == 1
    assert message in refused.stderr
    assert cluster.state() == before


@pytest.mark.usefixtures("applied")
def test_every_write_checks_unknown_fields(kubectl: Kubectl) -> None:
    """Create refuses them, and patch warns."""
    invalid = service() | {"metadata": {"name": "other", "namespace": "one"}}
    invalid["spec"]["portz"] = []
    created = kubectl("create", "-f", "-", stdin=text(invalid))
    assert 'strict decoding error: unknown field "spec.portz"' in created.stderr
    patch = '[{"op": "add", "path": "/spec/nope", "value": 1}]'
    patched = kubectl("patch", "svc/svc", "-n", "one", "--type", "json", "-p", patch)
    assert patched.stdout == "service/svc patched (no change)\n"
    assert patched.stderr == 'Warning: unknown field "spec.nope"\n'


@pytest.mark.usefixtures("applied")
def test_replacing_an_outdated_version_is_refused(kubectl: Kubectl) -> None:
    """A replacement needs the latest resource version."""
    old = kubectl("get", "svc/svc", "-n", "one", "-o", "yaml").stdout
    kubectl("label", "svc/svc", "-n", "one", "new=1")
    refused = kubectl("replace", "-f", "-", stdin=old)
    assert "the object has been modified; please apply your changes to the latest version" in refused.stderr


# -- patches


@pytest.mark.usefixtures("applied")
def test_a_json_patch_adds_a_port_and_keeps_the_other_ports(kubectl: Kubectl, cluster: Plane) -> None:
    """A patch with a missing path is refused."""
    port = {"name": "more", "port": 9999, "targetPort": 9999}
    patch = json.dumps([{"op": "add", "path": "/spec/ports/-", "value": port}])
    assert kubectl("patch", "svc/svc", "-n", "one", "--type", "json", "-p", patch).returncode == 0
    found = cluster.get("services", "svc", "one")
    assert found is not None
    assert [port["port"] for port in found["spec"]["ports"]] == [9996, 9999]
    invalid = '[{"op": "remove", "path": "/spec/nope"}]'
    refused = kubectl("patch", "svc/svc", "-n", "one", "--type", "json", "-p", invalid)
    assert (
        "The request is invalid: the server rejected our request due to an error in our request"
        in refused.stderr
    )


@pytest.mark.usefixtures("applied")
def test_a_strategic_patch_merges_containers_by_name(kubectl: Kubectl, cluster: Plane) -> None:
    """Other fields stay."""
    patch = '{"spec": {"template": {"spec": {"containers": [{"name": "hop", "image": "hop:3"}]}}}}'
    kubectl("patch", "deploy/dep", "-n", "one", "-p", patch)
    found = cluster.get("deployments", "dep", "one")
    assert found is not None
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["env"]) == ("hop:3", [{"name": "A", "value": "1"}])


# -- reading


@pytest.mark.usefixtures("applied")
def test_lists_are_tables(kubectl: Kubectl) -> None:
    """Missing objects have the usual messages."""
    kubectl("rollout", "status", "deploy/dep", "-n", "one")
    shown = kubectl("get", "deploy,svc,vs", "-n", "one").stdout.splitlines()
    assert shown[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert shown[1].split()[:4] == ["deployment.apps/dep", "1/1", "1", "1"]
    assert shown[3].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert shown[4].split()[:5] == ["service/svc", "ClusterIP", "10.96.0.2", "<none>", "9996/TCP"]
    assert shown[6].split() == ["NAME", "GATEWAYS", "HOSTS", "AGE"]
    assert kubectl("get", "deploy", "-n", "two").stderr == "No resources found in two namespace.\n"
    missing = kubectl("get", "deploy/other", "-n", "one")
    assert missing.stderr == 'Error from server (NotFound): deployments.apps "other" not found\n'
    unknown = kubectl("get", "nonsense")
    assert unknown.stderr == 'error: the server doesn\'t have a resource type "nonsense"\n'


@pytest.mark.usefixtures("applied")
def test_label_selectors_filter_lists(kubectl: Kubectl) -> None:
    """Every kind of requirement works."""
    kubectl("label", "svc/svc", "-n", "one", "a=b")
    for selector, names in {
        "a=b": "service/svc\n",
        "a!=b": "",
        "a": "service/svc\n",
        "!a": "",
        "a in (b,c)": "service/svc\n",
        "a notin (b)": "",
    }.items():
        assert kubectl("get", "svc", "-n", "one", "-l", selector, "-o", "name").stdout == names, selector


def test_discovery_lists_the_served_resources(planes: Planes, plane_of: PlaneOf) -> None:
    """The planes serve different groups, and an old mesh serves old versions."""
    of_cluster, of_mesh = Kubectl(planes.cluster), Kubectl(planes.mesh)
    assert "deployments.apps" in of_cluster("api-resources", "-o", "name").stdout.split()
    assert "deployments.apps" not in of_mesh("api-resources", "-o", "name").stdout.split()
    missing = of_cluster("get", "--raw", "/apis/networking.istio.io")
    assert (
        missing.stderr == "Error from server (NotFound): the server could not find the requested resource\n"
    )
    group = "/apis/networking.istio.io"
    assert '"networking.istio.io/v1"' in of_mesh("get", "--raw", group).stdout
    old = Kubectl(plane_of("old", OLD_ASM))
    assert '"networking.istio.io/v1"' not in old("get", "--raw", group).stdout
    assert '"networking.istio.io/v1beta1"' in old("get", "--raw", group).stdout
    refused = old(*APPLY, stdin=text(namespace(), virtual_service()))
    assert 'no matches for kind "VirtualService" in version "networking.istio.io/v1"' in refused.stderr
