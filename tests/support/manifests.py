"""Render kube/ with `kubectl kustomize`, and query the objects."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
Combination = tuple[str, ...]

ROOT = Path(__file__).parents[2]
KUBE = ROOT / "kube"
IMAGE = "hello-servicemesh-grpc"
NAMESPACE = "grpc-tracing"

COMPONENTS: Combination = tuple(sorted(path.name for path in (KUBE / "components").iterdir()))
# Components interact only if they change the same object, which a pair shows.
COMBINATIONS: tuple[Combination, ...] = (
    *(chosen for length in range(3) for chosen in combinations(COMPONENTS, length)),
    COMPONENTS,
)

_KUBECTL = Path(sys.executable).with_name("kubectl")


@dataclass(frozen=True)
class Manifests:
    """The objects of a kustomization."""

    documents: tuple[Document, ...]

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def of(self, *kinds: str, group: str | None = None) -> list[Document]:
        """Return the objects of these kinds, optionally of one API group."""
        return [
            document
            for document in self.documents
            if document["kind"] in kinds and group in {None, group_of(document)}
        ]

    def one(self, kind: str, name: str, group: str | None = None) -> Document:
        """Return the only object of a kind and name."""
        found = [document for document in self.of(kind, group=group) if document["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind}/{name}"
        return found[0]

    def hops(self) -> list[Document]:
        """Return the Deployments of the hops, including a canary."""
        return [d for d in self.of("Deployment") if name_of(d).startswith("grpc-server-python-")]


Render = Callable[..., Manifests]
"""Renders kube/ with components, in that order: render("canary", "fault", image=…)."""


def kustomize(folder: Path) -> Manifests:
    """Render a kustomization with the real kubectl."""
    run = subprocess.run([_KUBECTL, "kustomize", folder], capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr  # such as deprecation warnings
    return Manifests(tuple(_parsed(text) for text in run.stdout.split("\n---\n")))


def overlay(folder: Path, chosen: Combination, image: str | None = None) -> Manifests:
    """Write a kustomization of kube/ with components to an empty folder, and render it."""
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_relative(KUBE, folder)],
        "components": [_relative(KUBE / "components" / name, folder) for name in chosen],
    }
    if image:
        name, _, tag = image.rpartition(":")
        kustomization["images"] = [{"name": IMAGE, "newName": name, "newTag": tag}]
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return kustomize(folder)


def group_of(document: Document) -> str:
    """Return the API group of an object, empty for the core group."""
    group, slash, _ = str(document["apiVersion"]).partition("/")
    return group if slash else ""


def name_of(document: Document) -> str:
    """Return the name of an object."""
    return str(document["metadata"]["name"])


def pod_of(deployment: Document) -> Document:
    """Return the pod spec of a Deployment."""
    spec: Document = deployment["spec"]["template"]["spec"]
    return spec


def container_of(deployment: Document) -> Document:
    """Return the only container of a Deployment."""
    (container,) = pod_of(deployment)["containers"]
    found: Document = container
    return found


def variables_of(deployment: Document) -> dict[str, str]:
    """Return the environment of a Deployment's container."""
    return {entry["name"]: entry["value"] for entry in container_of(deployment)["env"] if "value" in entry}


def selects(selector: dict[str, str], deployment: Document) -> bool:
    """Return whether a selector selects the pods of a Deployment."""
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def port_number(deployment: Document, port: int | str) -> int:
    """Return the number of a container's port by name or number."""
    for declared in container_of(deployment)["ports"]:
        if port in {declared["name"], declared["containerPort"]}:
            return int(declared["containerPort"])
    raise AssertionError(f"{name_of(deployment)} has no port {port}")


def values(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every scalar field of a document with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from values(value, f"{path}[{index}]")
    else:
        yield path, node


@cache
def _parsed(text: str) -> Document:
    # Combinations share most of their objects. Callers must not modify them.
    document: Document = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start.resolve())  # kustomize accepts only relative paths
