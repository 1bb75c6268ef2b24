"""Default values of fields that an object does not set."""

from collections.abc import Callable
from typing import Any

from apiserver.kinds import Object, copied

_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_GATEWAY_API = "gateway.networking.k8s.io"
_PARENT = {"group": _GATEWAY_API, "kind": "Gateway"}
_BACKEND = {"group": "", "kind": "Service", "weight": 1}
_NODE_PORTS = {"NodePort", "LoadBalancer"}


def fill_in(group: str, new: Object) -> None:
    """Set the defaults of an object in place."""
    known = _DEFAULTS.get((group, new["kind"]))
    if known:
        known(new)


def _set(node: Object, **values: Any) -> None:
    for name, value in values.items():
        if node.get(name) is None:
            node[name] = copied(value)


def _namespace(new: Object) -> None:
    new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
    _set(new, spec={}, status={})
    _set(new["spec"], finalizers=["kubernetes"])
    _set(new["status"], phase="Active")


def _service(new: Object) -> None:
    spec = new.setdefault("spec", {})
    _set(new, status={"loadBalancer": {}})
    _set(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    _set(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] in _NODE_PORTS:
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    for port in spec.get("ports") or []:
        _set(port, protocol="TCP", targetPort=port.get("port"))


def _deployment(new: Object) -> None:
    spec = new.setdefault("spec", {})
    _set(new, status={})
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _set(spec["strategy"], rollingUpdate={})
        _set(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(new)


def _replica_set(new: Object) -> None:
    _set(new, status={"replicas": 0})
    _template(new)


def _template(new: Object) -> None:
    pod = new["spec"].get("template", {}).get("spec")
    if pod:
        _pod_spec(pod)


def _pod(new: Object) -> None:
    _pod_spec(new.setdefault("spec", {}))
    _set(new["spec"], enableServiceLinks=True)
    _set(new, status={"phase": "Pending"})


def _pod_spec(spec: Object) -> None:
    _set(spec, **_POD)
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in (spec.get("initContainers") or []) + (spec.get("containers") or []):
        _container(container)
    for volume in spec.get("volumes") or []:
        for kind in ("configMap", "secret"):
            if kind in volume:
                _set(volume[kind], defaultMode=420)
        if volume.get("emptyDir") is None and set(volume) <= {"name", "emptyDir"}:
            volume["emptyDir"] = {}


def _container(container: Object) -> None:
    _set(container, **_CONTAINER)
    tag = container.get("image", "").rpartition("/")[2].partition(":")[2]
    _set(container, imagePullPolicy="Always" if tag in {"", "latest"} else "IfNotPresent")
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for name in _PROBES:
        if name in container:
            _probe(container[name])
    for variable in container.get("env") or []:
        if "fieldRef" in variable.get("valueFrom", {}):
            _set(variable["valueFrom"]["fieldRef"], apiVersion="v1")
    limits = container["resources"].get("limits") or {}
    if limits:
        requests = container["resources"].setdefault("requests", {})
        _set(requests, **limits)


def _probe(probe: Object) -> None:
    _set(probe, **_PROBE)
    if "grpc" in probe:
        _set(probe["grpc"], service="")
    if "httpGet" in probe:
        _set(probe["httpGet"], scheme="HTTP", path="/")


def _network_policy(new: Object) -> None:
    spec = new.setdefault("spec", {})
    _set(spec, policyTypes=["Ingress", "Egress"] if "egress" in spec else ["Ingress"])
    for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
        for port in rule.get("ports") or []:
            _set(port, protocol="TCP")


def _secret(new: Object) -> None:
    _set(new, type="Opaque")


def _gateway(new: Object) -> None:
    for listener in new.get("spec", {}).get("listeners") or []:
        _set(listener, allowedRoutes={})
        _set(listener["allowedRoutes"], namespaces={})
        _set(listener["allowedRoutes"]["namespaces"], **{"from": "Same"})
        for kind in listener["allowedRoutes"].get("kinds", []):
            _set(kind, group=_GATEWAY_API)
    for address in new.get("spec", {}).get("addresses") or []:
        _set(address, type="IPAddress")


def _route(new: Object) -> None:
    spec = new.get("spec", {})
    for parent in spec.get("parentRefs") or []:
        _set(parent, **_PARENT)
    for rule in spec.get("rules") or []:
        for backend in rule.get("backendRefs") or []:
            _set(backend, **_BACKEND)


_DEFAULTS: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "Namespace"): _namespace,
    ("", "Service"): _service,
    ("", "Pod"): _pod,
    ("", "Secret"): _secret,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _template,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    (_GATEWAY_API, "Gateway"): _gateway,
    (_GATEWAY_API, "GRPCRoute"): _route,
}
