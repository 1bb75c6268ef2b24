"""Admission: add addresses to services and sidecars to pods, and refuse invalid pods."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from apiserver.behaviour import Behaviour
from apiserver.errors import forbidden
from apiserver.kinds import NAMESPACES, PODS, SERVICES, Object, Resource
from apiserver.selectors import labels_of
from apiserver.store import Store


@dataclass
class Addresses:
    """Assigns cluster IPs and node ports to services."""

    _hosts: Iterator[int] = field(default_factory=lambda: itertools.count(2))
    _ports: Iterator[int] = field(default_factory=lambda: itertools.count(30000))

    def admit(self, resource: Resource, live: Object | None, new: Object) -> None:
        """An Admission."""
        if resource != SERVICES or new["spec"]["type"] == "ExternalName":
            return
        spec, before = new["spec"], live["spec"] if live else {}
        if not spec.get("clusterIP"):
            number = next(self._hosts)
            spec["clusterIP"] = before.get("clusterIP") or f"10.96.{number // 256}.{number % 256}"
        spec["clusterIPs"] = [spec["clusterIP"]]
        if spec["type"] in {"NodePort", "LoadBalancer"}:
            known = {
                (port["port"], port["protocol"]): port.get("nodePort") for port in before.get("ports", [])
            }
            for port in spec.get("ports", []):
                if not port.get("nodePort"):
                    port["nodePort"] = known.get((port["port"], port["protocol"])) or next(self._ports)


@dataclass
class Injector:
    """Injects sidecars into pods, like the webhook of the mesh."""

    store: Store
    behaviour: Behaviour

    def admit(self, resource: Resource, live: Object | None, new: Object) -> None:
        """An Admission."""
        if resource != PODS or live is not None or not self.behaviour.sidecars or not self._is_injected(new):
            return
        native = self.behaviour.sidecars == "native"
        sidecar = {
            "name": "istio-proxy",
            "image": "proxyv2:fake",
            "args": ["proxy", "sidecar"],
            "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
            "imagePullPolicy": "IfNotPresent",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "resources": {},
            **({"restartPolicy": "Always"} if native else {}),
        }
        init = {**sidecar, "name": "istio-validation" if self.behaviour.cni else "istio-init", "ports": []}
        init.pop("restartPolicy", None)
        if not self.behaviour.cni:
            init["securityContext"] = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}}
        spec = new["spec"]
        spec["initContainers"] = [init, *([sidecar] if native else []), *spec.get("initContainers", [])]
        if not native:
            spec["containers"] = [*spec["containers"], sidecar]
        first = spec["containers"][0]["name"]
        annotations = new["metadata"].setdefault("annotations", {})
        annotations.setdefault("kubectl.kubernetes.io/default-container", first)
        annotations["sidecar.istio.io/status"] = '{"containers":["istio-proxy"]}'

    def _is_injected(self, pod: Object) -> bool:
        namespace = self.store.get(NAMESPACES, "", pod["metadata"]["namespace"])
        enabled = namespace is not None and labels_of(namespace).get("istio-injection") == "enabled"
        return enabled and labels_of(pod).get("sidecar.istio.io/inject") != "false"


@dataclass
class PodGuard:
    """Refuses pods without a service account, and pods that violate Pod Security."""

    store: Store
    accounts: Resource

    def admit(self, resource: Resource, live: Object | None, new: Object) -> None:
        """An Admission."""
        if resource != PODS or live is not None:
            return
        meta = new["metadata"]
        account = new["spec"].setdefault("serviceAccountName", "default")
        new["spec"]["serviceAccount"] = account
        if self.store.get(self.accounts, meta["namespace"], account) is None:
            why = f"error looking up service account {meta['namespace']}/{account}: "
            raise forbidden(PODS, meta["name"], f'{why}serviceaccount "{account}" not found')
        namespace = self.store.get(NAMESPACES, "", meta["namespace"])
        level = labels_of(namespace).get("pod-security.kubernetes.io/enforce") if namespace else None
        if level in {"baseline", "restricted"} and (violation := _added_capabilities(new)):
            raise forbidden(PODS, meta["name"], f'violates PodSecurity "{level}:latest": {violation}')


def _added_capabilities(pod: Object) -> str:
    """Return the violation for the first container that adds capabilities. Nothing else is checked."""
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        added = container.get("securityContext", {}).get("capabilities", {}).get("add")
        if added:
            names = ", ".join(f'"{name}"' for name in added)
            must_not = f"must not include {names} in securityContext.capabilities.add"
            return f'unrestricted capabilities (container "{container["name"]}" {must_not})'
    return ""
