"""What `kubectl kustomize` makes of kube/, and questions to it."""

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
# None, each one, every pair, and all: components that touch the same object meet in a pair.
COMBINATIONS: tuple[Combination, ...] = (
    *(chosen for length in range(3) for chosen in combinations(COMPONENTS, length)),
    COMPONENTS,
)

_KUBECTL = Path(sys.executable).with_name("kubectl")


@dataclass(frozen=True)
class Manifests:
    """The objects of one kustomization."""

    documents: tuple[Document, ...]

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def of(self, *kinds: str, group: str | None = None) -> list[Document]:
        """The objects of these kinds; of one API group where it matters which."""
        return [
            document
            for document in self.documents
            if document["kind"] in kinds and group in {None, group_of(document)}
        ]

    def one(self, kind: str, name: str, group: str | None = None) -> Document:
        """The object of this kind and name."""
        found = [document for document in self.of(kind, group=group) if document["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind}/{name}"
        return found[0]

    def hops(self) -> list[Document]:
        """The Deployments of the hops, a canary's included."""
        return [d for d in self.of("Deployment") if name_of(d).startswith("grpc-server-python-")]


Render = Callable[..., Manifests]
"""All of kube/ with the components named, in that order: render("canary", "fault", image=…)."""


def kustomize(folder: Path) -> Manifests:
    """The objects of a kustomization, as the real kubectl renders it."""
    run = subprocess.run([_KUBECTL, "kustomize", folder], capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr  # deprecations and the like
    return Manifests(tuple(_parsed(text) for text in run.stdout.split("\n---\n")))


def overlay(folder: Path, chosen: Combination, image: str | None = None) -> Manifests:
    """All of kube/ with components, in the order given; written to an empty folder first."""
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
    """The API group of an object, empty for the core's."""
    group, slash, _ = str(document["apiVersion"]).partition("/")
    return group if slash else ""


def name_of(document: Document) -> str:
    """The name of an object."""
    return str(document["metadata"]["name"])


def pod_of(deployment: Document) -> Document:
    """The spec of a Deployment's pods."""
    spec: Document = deployment["spec"]["template"]["spec"]
    return spec


def container_of(deployment: Document) -> Document:
    """The one container of a Deployment's pods."""
    (container,) = pod_of(deployment)["containers"]
    found: Document = container
    return found


def variables_of(deployment: Document) -> dict[str, str]:
    """The variables that a Deployment's container gets, those from a Secret left out."""
    return {entry["name"]: entry["value"] for entry in container_of(deployment)["env"] if "value" in entry}


def selects(selector: dict[str, str], deployment: Document) -> bool:
    """Whether these labels select a Deployment's pods."""
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def port_number(deployment: Document, port: int | str) -> int:
    """The number of a container's port, which may be named."""
    for declared in container_of(deployment)["ports"]:
        if port in {declared["name"], declared["containerPort"]}:
            return int(declared["containerPort"])
    raise AssertionError(f"{name_of(deployment)} has no port {port}")


def values(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every field of a document that is no mapping or list itself, with the path to it."""
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
    # Combinations share most of their objects; nobody changes what comes back.
    document: Document = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start.resolve())  # kustomize takes no absolute paths
