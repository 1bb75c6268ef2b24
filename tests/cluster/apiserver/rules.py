"""Validation rules beyond the structure."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from apiserver.errors import Cause, duplicate, invalid_value, not_supported, required
from apiserver.kinds import Object

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
    "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex "
    "used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_PORT_TEXT = "must be between 1 and 65535, inclusive"
_LABEL_KINDS = {"Namespace", "Service"}
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def rule_violations(group: str, old: Object | None, new: Object) -> Iterator[Cause]:
    """Yield the causes why an object, or its change, is invalid."""
    yield from _metadata(new)
    known = _RULES.get((group, new["kind"]))
    if known:
        yield from known(old, new)


def _metadata(new: Object) -> Iterator[Cause]:
    meta = new["metadata"]
    strict = new["kind"] in _LABEL_KINDS
    if not (_LABEL if strict else _SUBDOMAIN).fullmatch(meta["name"]):
        yield invalid_value("metadata.name", meta["name"], _LABEL_TEXT if strict else _SUBDOMAIN_TEXT)
    yield from _labels("metadata.labels", meta.get("labels") or {})


def _labels(path: str, labels: dict[str, str]) -> Iterator[Cause]:
    for value in labels.values():
        if not _LABEL_VALUE.fullmatch(value):
            yield invalid_value(path, value, _LABEL_VALUE_TEXT)


def _service(old: Object | None, new: Object) -> Iterator[Cause]:
    spec = new["spec"]
    if spec["type"] not in _SERVICE_TYPES:
        yield not_supported("spec.type", spec["type"], _SERVICE_TYPES)
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName":
        yield required("spec.ports")
    names: set[str] = set()
    for number, port in enumerate(ports):
        path = f"spec.ports[{number}]"
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        elif port.get("name") in names:
            yield duplicate(f"{path}.name", port["name"])
        names.add(port.get("name", ""))
        yield from _port(f"{path}.port", port.get("port"))
    if old and old["spec"].get("clusterIP") not in {spec.get("clusterIP"), None}:
        yield invalid_value("spec.clusterIPs[0]", spec.get("clusterIP"), "may not change once set")


def _port(path: str, port: Any) -> Iterator[Cause]:
    if not isinstance(port, int) or not 1 <= port <= 65535:
        yield invalid_value(path, port, _PORT_TEXT)


def _deployment(old: Object | None, new: Object) -> Iterator[Cause]:
    spec = new["spec"]
    labels = spec.get("template", {}).get("metadata", {}).get("labels") or {}
    selector = spec.get("selector", {})
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        yield invalid_value(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    yield from _labels("spec.template.metadata.labels", labels)
    yield from _pod_spec("spec.template.spec", spec.get("template", {}).get("spec") or {})
    if old and old["spec"]["selector"] != selector:
        yield invalid_value("spec.selector", selector, "field is immutable")


def _pod(_old: Object | None, new: Object) -> Iterator[Cause]:
    yield from _pod_spec("spec", new["spec"])


def _pod_spec(path: str, spec: Object) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    names: set[str] = set()
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or []):
            yield from _container(f"{path}.{kind}[{number}]", container, names)


def _container(path: str, container: Object, names: set[str]) -> Iterator[Cause]:
    if container["name"] in names:
        yield duplicate(f"{path}.name", container["name"])
    names.add(container["name"])
    if not container.get("image"):
        yield required(f"{path}.image")
    for number, port in enumerate(container.get("ports") or []):
        yield from _port(f"{path}.ports[{number}].containerPort", port.get("containerPort"))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if "grpc" in container.get(probe, {}):
            yield from _port(f"{path}.{probe}.grpc.port", container[probe]["grpc"].get("port"))


_RULES: dict[tuple[str, str], Callable[[Object | None, Object], Iterator[Cause]]] = {
    ("", "Service"): _service,
    ("", "Pod"): _pod,
    ("apps", "Deployment"): _deployment,
}
