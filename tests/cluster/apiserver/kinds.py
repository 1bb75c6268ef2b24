"""The kinds of objects that there are, and which of them a server serves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
"""An object of the API, as it stands in JSON."""

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def copied(value: Any) -> Any:
    """A copy of what stands in JSON; `copy.deepcopy` takes many times as long."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Resource:
    """A kind of objects, and how it is named."""

    group: str
    """Empty for the core."""
    versions: tuple[str, ...]
    """The preferred one first. An object is the same in all of them."""
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict, hash=False)
    """By name: the kind that it answers with, and its verbs."""
    custom: bool = False
    """Defined by a CustomResourceDefinition, not built in."""

    @property
    def singular(self) -> str:
        """The name of one."""
        return self.kind.lower()

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be done with it. A namespace is deleted one by one."""
        return tuple(v for v in _VERBS if self.plural != "namespaces" or v != "deletecollection")

    @property
    def full_name(self) -> str:
        """As errors name it: deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def full_kind(self) -> str:
        """As errors name it: Deployment.apps."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def api_version(self, version: str | None = None) -> str:
        """What stands in an object's apiVersion; without an argument in the preferred version."""
        version = version or self.versions[0]
        return f"{self.group}/{version}" if self.group else version


_STATUS = {"status": ("", ("get", "patch", "update"))}
_SCALE = {"scale": ("Scale", ("get", "patch", "update"))}
_ALL = ("all",)


def _core(kind: str, plural: str, *short: str, **more: Any) -> Resource:
    return Resource("", ("v1",), kind, plural, short, **more)


def _built_in(group: str, kind: str, plural: str, *short: str, **more: Any) -> Resource:
    return Resource(group, ("v1",), kind, plural, short, **more)


def _istio(group: str, versions: str, kind: str, plural: str, *short: str) -> Resource:
    categories = ("istio-io", f"{group.partition('.')[0]}-istio-io")
    known = (group, tuple(versions.split()), kind, plural, short)
    return Resource(*known, categories=categories, subresources=_STATUS, custom=True)


def _gateway_api(kind: str, plural: str, *short: str, **more: Any) -> Resource:
    known = ("gateway.networking.k8s.io", ("v1",), kind, plural, short)
    return Resource(*known, categories=("gateway-api",), subresources=_STATUS, custom=True, **more)


NAMESPACES = _core(
    "Namespace", "namespaces", "ns", namespaced=False, subresources={**_STATUS, "finalize": ("", ("update",))}
)
PODS = _core(
    "Pod",
    "pods",
    "po",
    categories=_ALL,
    subresources={**_STATUS, "log": ("", ("get",)), "exec": ("PodExecOptions", ("create", "get"))},
)
SERVICES = _core("Service", "services", "svc", categories=_ALL, subresources=_STATUS)
EVENTS = _core("Event", "events", "ev")
DEPLOYMENTS = _built_in(
    "apps", "Deployment", "deployments", "deploy", categories=_ALL, subresources={**_STATUS, **_SCALE}
)
REPLICASETS = _built_in(
    "apps", "ReplicaSet", "replicasets", "rs", categories=_ALL, subresources={**_STATUS, **_SCALE}
)
CRDS = _built_in(
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "crd",
    "crds",
    namespaced=False,
    categories=("api-extensions",),
    subresources=_STATUS,
)
ISTIO_GATEWAYS = Resource(
    "istio.alibabacloud.com", ("v1beta1",), "IstioGateway", "istiogateways", custom=True
)

_POLICY: Mapping[str, Any] = {"subresources": _STATUS}

ANY_PLANE = (
    NAMESPACES,
    EVENTS,
    _core("ConfigMap", "configmaps", "cm"),
    _core("Secret", "secrets"),
    _core("ServiceAccount", "serviceaccounts", "sa"),
    CRDS,
)
"""What each API server serves."""

WORKLOADS = (
    PODS,
    SERVICES,
    _core("Node", "nodes", "no", namespaced=False, subresources=_STATUS),
    _core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subresources=_STATUS),
    DEPLOYMENTS,
    REPLICASETS,
    _built_in("apps", "StatefulSet", "statefulsets", "sts", categories=_ALL, subresources=_STATUS),
    _built_in("apps", "DaemonSet", "daemonsets", "ds", categories=_ALL, subresources=_STATUS),
    _built_in("batch", "Job", "jobs", categories=_ALL, subresources=_STATUS),
    _built_in("batch", "CronJob", "cronjobs", "cj", categories=_ALL, subresources=_STATUS),
    _built_in("policy", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", **_POLICY),
    _built_in("networking.k8s.io", "NetworkPolicy", "networkpolicies", "netpol"),
    _built_in("networking.k8s.io", "Ingress", "ingresses", "ing", **_POLICY),
)
"""What a cluster serves beside."""

ISTIO = (
    _istio("networking.istio.io", "v1 v1beta1 v1alpha3", "DestinationRule", "destinationrules", "dr"),
    _istio("networking.istio.io", "v1 v1beta1 v1alpha3", "Gateway", "gateways", "gw"),
    _istio("networking.istio.io", "v1 v1beta1 v1alpha3", "ServiceEntry", "serviceentries", "se"),
    _istio("networking.istio.io", "v1 v1beta1 v1alpha3", "Sidecar", "sidecars"),
    _istio("networking.istio.io", "v1 v1beta1 v1alpha3", "VirtualService", "virtualservices", "vs"),
    _istio("security.istio.io", "v1 v1beta1", "AuthorizationPolicy", "authorizationpolicies", "ap"),
    _istio("security.istio.io", "v1 v1beta1", "PeerAuthentication", "peerauthentications", "pa"),
    _istio("security.istio.io", "v1 v1beta1", "RequestAuthentication", "requestauthentications", "ra"),
    _istio("telemetry.istio.io", "v1 v1alpha1", "Telemetry", "telemetries", "telemetry"),
)
"""What belongs to the mesh."""

GATEWAY_API = (
    _gateway_api("GatewayClass", "gatewayclasses", "gc", namespaced=False),
    _gateway_api("Gateway", "gateways", "gtw"),
    _gateway_api("GRPCRoute", "grpcroutes"),
    _gateway_api("HTTPRoute", "httproutes"),
)


def only(resources: Iterable[Resource], *, v1: bool) -> tuple[Resource, ...]:
    """Istio's resources in v1 alone, or without it: as a mesh before Istio 1.22 serves them."""
    return tuple(
        Resource(**{**vars(one), "versions": tuple(v for v in one.versions if (v == "v1") is v1)})
        for one in resources
    )


class Served:
    """The resources that a server serves."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = tuple(resources)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources)

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """By group and version, the preferred version first."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for resource in self._resources:
            for version in resource.versions:
                found.setdefault(resource.group, {}).setdefault(version, []).append(resource)
        return found

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource at a path, if it is served there."""
        return next((r for r in self.groups().get(group, {}).get(version, []) if r.plural == plural), None)

    def named(self, name: str) -> Resource:
        """The resource that a test names: plural, with its group where two have that name.

        Raises:
            LookupError: none, or two.
        """
        found = [r for r in self._resources if name in {r.plural, r.full_name}]
        if len(found) != 1:
            raise LookupError(f"{name}: {[r.full_name for r in found] or 'not served'}")
        return found[0]
