"""Tables of objects, which the server formats for `kubectl get`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from apiserver.kinds import Object, Resource

ACCEPT = "as=Table"

Cell = Callable[[Object], Any]
Column = tuple[str, int, Cell]
"""The name, the priority (1: only with -o wide), and the cell."""


def table(resource: Resource, objects: Sequence[Object], version: str) -> Object:
    """Return objects as a Table."""
    columns = list(_COLUMNS.get((resource.group, resource.kind), _OTHERS))
    if resource.kind != "Event":
        columns.insert(0, ("Name", 0, _name))
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": priority,
            }
            for name, priority, _ in columns
        ],
        "rows": [
            {
                "cells": [cell(one) for _, _, cell in columns],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": one["metadata"],
                },
            }
            for one in objects
        ],
    }


def since(time: str | None) -> str:
    """Return the age of a time, as short as a real server writes it."""
    if time is None:
        return "<unknown>"
    then = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    return f"{minutes}m" if minutes < 180 else f"{minutes // 60}h"


def _name(one: Object) -> str:
    found: str = one["metadata"]["name"]
    return found


def _age(one: Object) -> str:
    return since(one["metadata"].get("creationTimestamp"))


def _at(*path: str, missing: Any = "<none>") -> Cell:
    def cell(one: Object) -> Any:
        node: Any = one
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        return missing if node is None else node

    return cell


def _texts(*path: str) -> Cell:
    """Format a list as a custom column does."""
    inner = _at(*path, missing=[])
    return lambda one: "[" + ",".join(f'"{text}"' for text in inner(one)) + "]" if inner(one) else ""


def _labels(*path: str) -> Cell:
    inner = _at(*path, missing={})
    return lambda one: ",".join(f"{key}={value}" for key, value in sorted(inner(one).items())) or "<none>"


def _ready_containers(pod: Object) -> str:
    statuses = pod["status"].get("containerStatuses", [])
    native = [c for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"]
    names = {container["name"] for container in native}
    statuses = statuses + [s for s in pod["status"].get("initContainerStatuses", []) if s["name"] in names]
    number = len(pod["spec"]["containers"]) + len(native)
    return f"{sum(status['ready'] for status in statuses)}/{number}"


def _pod_state(pod: Object) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in pod["status"].get("containerStatuses", []):
        reason = status["state"].get("waiting", {}).get("reason")
        if reason:
            return str(reason)
    return str(pod["status"].get("phase", "Unknown"))


def _restarts(pod: Object) -> str:
    return str(sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])))


def _ready_replicas(one: Object) -> str:
    return f"{one['status'].get('readyReplicas', 0)}/{one['spec'].get('replicas', 1)}"


def _containers(name: str) -> Cell:
    return lambda one: ",".join(c[name] for c in one["spec"]["template"]["spec"]["containers"])


def _external_ip(service: Object) -> str:
    if service["spec"]["type"] != "LoadBalancer":
        return "<none>"
    ingress = service["status"].get("loadBalancer", {}).get("ingress", [])
    return ",".join(one.get("ip") or one.get("hostname", "") for one in ingress) or "<pending>"


def _ports(service: Object) -> str:
    def text(port: Object) -> str:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node_port}/{port['protocol']}"

    return ",".join(text(port) for port in service["spec"].get("ports", [])) or "<none>"


def _event_object(event: Object) -> str:
    about = event["involvedObject"]
    return f"{about['kind'].lower()}/{about['name']}"


def _versions(definition: Object) -> str:
    versions = definition["spec"]["versions"]
    return ",".join(one["name"] + ("(storage)" if one["storage"] else "") for one in versions)


_AGE: Column = ("Age", 0, _age)
_OTHERS: tuple[Column, ...] = (_AGE,)
_TEMPLATE: tuple[Column, ...] = (
    ("Containers", 1, _containers("name")),
    ("Images", 1, _containers("image")),
    ("Selector", 1, _labels("spec", "selector", "matchLabels")),
)
_NETWORKING = "networking.istio.io"
_GATEWAY_API = "gateway.networking.k8s.io"
_COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("", "Namespace"): (("Status", 0, _at("status", "phase")), _AGE),
    ("", "Pod"): (
        ("Ready", 0, _ready_containers),
        ("Status", 0, _pod_state),
        ("Restarts", 0, _restarts),
        _AGE,
        ("IP", 1, _at("status", "podIP")),
        ("Node", 1, _at("spec", "nodeName")),
        ("Nominated Node", 1, _at("status", "nominatedNodeName")),
        ("Readiness Gates", 1, _at("spec", "readinessGates")),
    ),
    ("", "Service"): (
        ("Type", 0, _at("spec", "type")),
        ("Cluster-IP", 0, _at("spec", "clusterIP")),
        ("External-IP", 0, _external_ip),
        ("Port(s)", 0, _ports),
        _AGE,
        ("Selector", 1, _labels("spec", "selector")),
    ),
    ("", "Event"): (
        ("Last Seen", 0, lambda one: since(one["lastTimestamp"])),
        ("Type", 0, _at("type")),
        ("Reason", 0, _at("reason")),
        ("Object", 0, _event_object),
        ("Message", 0, _at("message")),
        ("Count", 1, _at("count")),
        ("Name", 1, _name),
    ),
    ("", "ConfigMap"): (("Data", 0, lambda one: len(one.get("data", {}))), _AGE),
    ("", "Secret"): (("Type", 0, _at("type")), ("Data", 0, lambda one: len(one.get("data", {}))), _AGE),
    ("apps", "Deployment"): (
        ("Ready", 0, _ready_replicas),
        ("Up-to-date", 0, _at("status", "updatedReplicas", missing=0)),
        ("Available", 0, _at("status", "availableReplicas", missing=0)),
        _AGE,
        *_TEMPLATE,
    ),
    ("apps", "ReplicaSet"): (
        ("Desired", 0, _at("spec", "replicas")),
        ("Current", 0, _at("status", "replicas", missing=0)),
        ("Ready", 0, _at("status", "readyReplicas", missing=0)),
        _AGE,
        *_TEMPLATE,
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        ("Scope", 0, _at("spec", "scope")),
        ("Versions", 0, _versions),
        ("Created At", 0, _at("metadata", "creationTimestamp")),
    ),
    ("policy", "PodDisruptionBudget"): (
        ("Min Available", 0, _at("spec", "minAvailable", missing="N/A")),
        ("Max Unavailable", 0, _at("spec", "maxUnavailable", missing="N/A")),
        ("Allowed Disruptions", 0, _at("status", "disruptionsAllowed", missing=0)),
        _AGE,
    ),
    ("networking.k8s.io", "NetworkPolicy"): (
        ("Pod-Selector", 0, _labels("spec", "podSelector", "matchLabels")),
        _AGE,
    ),
    (_NETWORKING, "VirtualService"): (
        ("Gateways", 0, _texts("spec", "gateways")),
        ("Hosts", 0, _texts("spec", "hosts")),
        _AGE,
    ),
    (_NETWORKING, "DestinationRule"): (("Host", 0, _at("spec", "host")), _AGE),
    (_GATEWAY_API, "Gateway"): (("Class", 0, _at("spec", "gatewayClassName")), _AGE),
    (_GATEWAY_API, "GRPCRoute"): (("Hostnames", 0, _texts("spec", "hostnames")), _AGE),
    ("security.istio.io", "PeerAuthentication"): (("Mode", 0, _at("spec", "mtls", "mode", missing="")), _AGE),
}
