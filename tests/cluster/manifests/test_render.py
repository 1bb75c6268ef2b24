"""Promises for every combination of components: none, each one, each pair, and all."""

import json
import re
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from manifests import (
    COMPONENTS,
    IMAGE,
    KUBE,
    NAMESPACE,
    ROOT,
    Combination,
    Manifests,
    Render,
    container_of,
    group_of,
    kustomize,
    name_of,
    pod_of,
    values,
)
from pod_security import violations
from schemas import problems

Every = dict[Combination, Manifests]

_OURS = ("app.kubernetes.io/part-of", "hello-servicemesh-grpc")

# apply.sh renders in a hidden folder of kube/, which is not a manifest.
_FILES = [
    path for path in KUBE.rglob("*") if path.is_file() and "/." not in f"/{path.relative_to(KUBE).as_posix()}"
]

# kubectl cannot render a Component alone.
_ALONE = sorted(
    path.parent
    for path in _FILES
    if path.name == "kustomization.yaml"
    and yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] == "Kustomization"
)


def test_the_components_are_the_documented_ones() -> None:
    assert COMPONENTS == (
        "canary",
        "fault",
        "gateway-api",
        "ha",
        "legacy-api",
        "network-policy",
    )


@pytest.mark.parametrize("folder", _ALONE, ids=lambda folder: str(folder.relative_to(KUBE)))
def test_every_kustomization_alone_is_valid(folder: Path) -> None:
    for document in kustomize(folder):
        assert problems(document) == [], name_of(document)


def test_every_combination_is_valid(every: Every) -> None:
    for chosen, manifests in every.items():
        for document in manifests:
            assert problems(document) == [], f"{chosen}: {document['kind']} {name_of(document)}"


def test_every_object_has_our_label_and_no_selector_uses_it(every: Every) -> None:
    for chosen, manifests in every.items():
        for document in manifests:
            what = f"{chosen}: {document['kind']} {name_of(document)}"
            assert _OURS in document["metadata"]["labels"].items(), what
            if document["kind"] == "Deployment":
                assert _OURS in document["spec"]["template"]["metadata"]["labels"].items(), what
            if document["kind"] in {"Deployment", "Service"}:
                assert _OURS[0] not in json.dumps(document["spec"]["selector"]), what


def test_object_names_are_unique(every: Every) -> None:
    for chosen, manifests in every.items():
        names = [(group_of(d), d["kind"], d["metadata"].get("namespace"), name_of(d)) for d in manifests]
        assert len(names) == len(set(names)), chosen


def test_only_the_gateway_of_the_gateway_api_is_in_another_namespace(every: Every) -> None:
    for chosen, manifests in every.items():
        elsewhere = {
            (group_of(document), document["kind"]): document["metadata"].get("namespace")
            for document in manifests
            if document["metadata"].get("namespace") != NAMESPACE
        }
        gateway = {("gateway.networking.k8s.io", "Gateway"): "istio-system"}
        assert elsewhere == {("", "Namespace"): None} | (gateway if "gateway-api" in chosen else {}), chosen


def test_no_object_is_a_secret_or_has_a_cluster_domain_or_a_timeout(every: Every) -> None:
    for chosen, manifests in every.items():
        assert not manifests.of("Secret"), chosen
        for document in manifests:
            for path, value in values(document):
                assert "cluster.local" not in str(value), f"{chosen}: {name_of(document)}{path}"
                # Each would limit a whole stream.
                assert not re.search(r"(?i)\.(timeout|perTryTimeout|idleTimeout)$", path), (
                    f"{chosen}: {name_of(document)}{path}"
                )


def test_every_pod_meets_pod_security_restricted(every: Every) -> None:
    for chosen, manifests in every.items():
        for deployment in manifests.of("Deployment"):
            assert violations(pod_of(deployment)) == [], f"{chosen}: {name_of(deployment)}"


def test_every_pod_is_hardened_and_limits_only_memory(every: Every) -> None:
    for chosen, manifests in every.items():
        for deployment in manifests.of("Deployment"):
            what = f"{chosen}: {name_of(deployment)}"
            pod, container = pod_of(deployment), container_of(deployment)
            assert pod["automountServiceAccountToken"] is False, what
            assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 10001, what
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, what
            resources = container["resources"]
            assert resources["requests"].keys() == {"cpu", "memory"}, what
            assert resources["limits"].keys() == {"memory"}, what  # a CPU limit would only throttle calls
            assert manifests.one("ServiceAccount", pod["serviceAccountName"]), what


def test_every_pod_runs_the_image_of_this_version(every: Every) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for chosen, manifests in every.items():
        images = {
            name_of(deployment): container_of(deployment)["image"]
            for deployment in manifests.of("Deployment")
        }
        assert set(images.values()) == {f"{IMAGE}:{version}"}, chosen


def test_another_image_changes_only_the_image(render: Render) -> None:
    plain, other = render(*COMPONENTS), render(*COMPONENTS, image="registry.example:5000/a/b:7")
    for before, after in zip(plain, other, strict=True):
        changed = {path: value for path, value in values(after) if (path, value) not in set(values(before))}
        ours = before["kind"] == "Deployment"
        image = {".spec.template.spec.containers[0].image": "registry.example:5000/a/b:7"}
        assert changed == (image if ours else {}), name_of(before)


@pytest.mark.parametrize("pair", list(combinations(COMPONENTS, 2)), ids="+".join)
def test_the_order_of_two_components_does_not_matter_except_for_ha(pair: Combination, render: Render) -> None:
    forward, backward = render(*pair), render(*reversed(pair))
    differing = [name_of(a) for a, b in zip(forward, backward, strict=True) if a != b]
    # ha doubles only existing Deployments: hence the order in kube/kustomization.yaml.
    assert differing == (["grpc-server-python-3-v2"] if pair == ("canary", "ha") else [])


def test_every_file_in_kube_is_used() -> None:
    roots = [KUBE, KUBE / "asm", *(KUBE / "components" / name for name in COMPONENTS)]
    reached = {path for root in roots for path in _reached(root)}
    assert set(_FILES) == reached


def _reached(path: Path) -> set[Path]:
    if path.is_file():
        return {path}
    file = path / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    nexts = [*kustomization.get("resources", []), *kustomization.get("components", [])]
    return {file}.union(*(_reached((path / name).resolve()) for name in nexts))


def test_the_example_gateway_is_not_part_of_the_demo(every: Every) -> None:
    for manifests in every.values():
        assert not manifests.of("IstioGateway")
    (gateway,) = kustomize(KUBE / "asm")
    # Without our label, --delete keeps a gateway that a user created from it.
    assert _OURS[0] not in gateway["metadata"]["labels"]
