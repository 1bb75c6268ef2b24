"""The schema checks and the Pod Security check find mistakes."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from manifests import (
    COMPONENTS,
    KUBE,
    Document,
    Render,
    group_of,
    kustomize,
)
from pod_security import violations
from schemas import KUBERNETES_VERSIONS, problems

_LATEST = KUBERNETES_VERSIONS[-1:]

# Maps with arbitrary keys.
_FREE = {
    "annotations",
    "data",
    "headers",
    "labels",
    "limits",
    "matchLabels",
    "requests",
    "selector",
    "serviceAnnotations",
}


@pytest.fixture(scope="module")
def one_of_each(render: Render) -> list[Document]:
    """Return one object of every kind and API version in kube/."""
    found = [
        *render(*COMPONENTS),
        *render(*(name for name in COMPONENTS if name not in {"gateway-api", "legacy-api"})),
        *render("canary", "fault", "legacy-api"),
        *kustomize(KUBE / "asm"),
    ]
    return list({(document["apiVersion"], document["kind"]): document for document in found}.values())


def test_these_checks_cover_every_kind_in_kube(one_of_each: list[Document]) -> None:
    kinds = {f"{group_of(document)}/{document['kind']}" for document in one_of_each}
    assert kinds == {
        "/Namespace",
        "/Service",
        "/ServiceAccount",
        "apps/Deployment",
        "gateway.networking.k8s.io/GRPCRoute",
        "gateway.networking.k8s.io/Gateway",
        "istio.alibabacloud.com/IstioGateway",
        "networking.istio.io/DestinationRule",
        "networking.istio.io/Gateway",
        "networking.istio.io/VirtualService",
        "networking.k8s.io/NetworkPolicy",
        "policy/PodDisruptionBudget",
        "security.istio.io/PeerAuthentication",
        "telemetry.istio.io/Telemetry",
    }


def test_an_unknown_field_is_refused_at_every_level(one_of_each: list[Document]) -> None:
    for document in one_of_each:
        for path in _mappings(document):
            changed = copy.deepcopy(document)
            _at(changed, path)["surprise"] = "x"
            assert problems(changed, _LATEST), f"{document['apiVersion']} {document['kind']} {path}"


def test_a_value_of_the_wrong_type_is_refused_in_every_field(one_of_each: list[Document]) -> None:
    for document in one_of_each:
        spec = {key: value for key, value in document.items() if key not in {"apiVersion", "kind"}}
        for path in _scalars(spec):
            changed = copy.deepcopy(document)
            _at(changed, path[:-1])[path[-1]] = {"of": "the wrong type"}
            assert problems(changed, _LATEST), f"{document['apiVersion']} {document['kind']} {path}"


def test_an_unknown_api_version_is_refused(one_of_each: list[Document]) -> None:
    for document in one_of_each:
        group = group_of(document)
        version = f"{group}/v9" if group else "v9"
        assert problems(document | {"apiVersion": version}, _LATEST), document["kind"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "volume root"),
        ({"securityContext": {}}, "it: root"),
        ({"securityContext": {"runAsNonRoot": True}}, "it: seccompProfile"),
        ({"securityContext.sysctls": [{"name": "kernel.msgmax", "value": "1"}]}, "sysctls"),
        ({"container.securityContext": {}}, "it: capabilities"),
        ({"container.securityContext.allowPrivilegeEscalation": True}, "it: allowPrivilegeEscalation"),
        ({"container.securityContext.capabilities": {"drop": ["NET_RAW"]}}, "it: capabilities"),
        ({"container.securityContext.capabilities.add": ["NET_ADMIN"]}, "it: capabilities"),
        ({"container.securityContext.privileged": True}, "it: privileged"),
        ({"container.securityContext.procMount": "Unmasked"}, "it: procMount"),
        ({"container.securityContext.runAsNonRoot": False}, "it: root"),
        ({"container.securityContext.runAsUser": 0}, "it: root"),
        ({"container.securityContext.seccompProfile": {"type": "Unconfined"}}, "it: seccompProfile"),
        ({"container.securityContext.seLinuxOptions": {"user": "x"}}, "it: another security module"),
        ({"container.ports": [{"containerPort": 1, "hostPort": 1}]}, "it: hostPort"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_pod_that_violates_pod_security_is_refused(changes: dict[str, Any], found: str) -> None:
    container: Document = {
        "name": "it",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod: Document = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    assert violations(pod) == []
    for path, value in changes.items():
        *parents, field = path.split(".")
        target = container if parents[:1] == ["container"] else pod
        for parent in parents[parents[:1] == ["container"] :]:
            target = target[parent]
        target[field] = value
    assert found in violations(pod)


Path = tuple[str | int, ...]


def _mappings(node: object, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all mappings with keys from a schema."""
    if isinstance(node, dict) and not _FREE.intersection(path[-1:]):
        yield path
    for key, value in _children(node):
        yield from _mappings(value, (*path, key))


def _scalars(node: object, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all scalar fields."""
    if not isinstance(node, dict | list):
        yield path
    for key, value in _children(node):
        yield from _scalars(value, (*path, key))


def _children(node: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list):
        yield from enumerate(node)


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node[key]
    return node
