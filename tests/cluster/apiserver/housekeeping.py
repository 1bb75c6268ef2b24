"""Controllers of namespaces, garbage collection and load balancers."""

import time
from dataclasses import dataclass, field

from apiserver.api import Api
from apiserver.behaviour import Behaviour
from apiserver.incoming import Options, Target
from apiserver.kinds import ISTIO, NAMESPACES, PODS, SERVICES, Object, Resource, Served

_OPTIONS = Options(manager="kube-controller-manager")

_RETRY_SECONDS = 0.05

_IN_EACH_NAMESPACE: tuple[tuple[str, str, Object], ...] = (
    ("serviceaccounts", "default", {}),
    ("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "a certificate"}}),
    ("configmaps", "istio-ca-root-cert", {"data": {"root-cert.pem": "a certificate"}}),
)
"""Objects that a cluster and its mesh create in each namespace."""


@dataclass
class Housekeeping:
    """Runs these controllers."""

    api: Api
    served: Served
    behaviour: Behaviour
    _ending: dict[str, float] = field(default_factory=dict)
    """When the deletion of a namespace started, by uid."""

    def step(self) -> float | None:
        """Do one step, and return the seconds until the next one."""
        due = []
        for namespace in self.api.store.objects(NAMESPACES):
            if "deletionTimestamp" in namespace["metadata"]:
                due.append(self._end(namespace))
            else:
                self._add_default_objects(namespace)
        self._collect_garbage()
        for service in self.api.store.objects(SERVICES):
            self._set_address(service)
        return min(due, default=None)

    def _add_default_objects(self, namespace: Object) -> None:
        for plural, name, content in _IN_EACH_NAMESPACE:
            target = Target(self.served.named(plural), "v1", namespace["metadata"]["name"], name)
            if self.api.store.get(target.resource, target.namespace, name) is None:
                self.api.create(target, {"metadata": {"name": name}, **content}, _OPTIONS)

    def _end(self, namespace: Object) -> float:
        """Delete the objects of a namespace, then the namespace."""
        uid = namespace["metadata"]["uid"]
        since = self._ending.setdefault(uid, time.monotonic())
        left = since + self.behaviour.namespaces_end_after - time.monotonic()
        if left > 0:
            return left
        content = self.api.store.within(namespace["metadata"]["name"])
        if self.behaviour.mesh_outlives_namespaces:
            content = [(resource, one) for resource, one in content if resource not in ISTIO]
        for resource, one in content:
            self._delete(resource, one)
        if not content:
            self.api.store.remove(NAMESPACES, namespace)
        return _RETRY_SECONDS

    def _collect_garbage(self) -> None:
        """Delete objects whose owners are deleted."""
        for namespace in self.api.store.objects(NAMESPACES):
            content = self.api.store.within(namespace["metadata"]["name"])
            there = {one["metadata"]["uid"] for _, one in content}
            for resource, one in content:
                owners = {reference["uid"] for reference in one["metadata"].get("ownerReferences", [])}
                if owners and not owners & there:
                    self._delete(resource, one)

    def _delete(self, resource: Resource, one: Object) -> None:
        if resource == PODS and "deletionTimestamp" in one["metadata"]:
            return
        meta = one["metadata"]
        self.api.delete(Target(resource, resource.versions[0], meta["namespace"], meta["name"]), {}, _OPTIONS)

    def _set_address(self, service: Object) -> None:
        if service["spec"]["type"] == "LoadBalancer":
            address = self.behaviour.load_balancer
            ingress = {"ingress": [address]} if address else {}
            self.api.write_status(SERVICES, service, {"loadBalancer": ingress})
