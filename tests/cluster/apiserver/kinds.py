"""The resources, and the ones that a server serves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
"""An object of the API, as JSON."""

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def copied(value: Any) -> Any:
    """Return a deep copy of JSON. `copy.deepcopy` is many times slower."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Resource:
    """A resource and its names."""

    group: str
    """Empty for the core group."""
    versions: tuple[str, ...]
    """The preferred version first. Objects are the same in all of them."""
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict, hash=False)
    """The kind of the response and the verbs, by subresource."""
    custom: bool = False
    """Defined by a CustomResourceDefinition, not built in."""

    @property
    def singular(self) -> str:
        """Return the singular name."""
        return self.kind.lower()

    @property
    def verbs(self) -> tuple[str, ...]:
        """Return the verbs. Namespaces have no deletecollection."""
        return tuple(v for v in _VERBS if self.plural != "namespaces" or v != "deletecollection")

    @property
    def full_name(self) -> str:
        """Return the name in errors: deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def full_kind(self) -> str:
        """Return the kind in errors: Deployment.apps."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def api_version(self, version: str | None = None) -> str:
        """Return the `apiVersion` of objects, by default in the preferred version."""
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
"""Resources of each API server."""

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
"""Additional resources of a cluster."""

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
"""Resources of the mesh."""

GATEWAY_API = (
    _gateway_api("GatewayClass", "gatewayclasses", "gc", namespaced=False),
    _gateway_api("Gateway", "gateways", "gtw"),
    _gateway_api("GRPCRoute", "grpcroutes"),
    _gateway_api("HTTPRoute", "httproutes"),
)


def only(resources: Iterable[Resource], *, v1: bool) -> tuple[Resource, ...]:
    """Return resources with v1 as their only version, or without v1 as before Istio 1.22."""
    return tuple(
        Resource(**{**vars(one), "versions": tuple(v for v in one.versions if (v == "v1") is v1)})
        for one in resources
    )


class Served:
    """The resources of a server."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = tuple(resources)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources)

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Return the resources by group and version, the preferred version first."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for resource in self._resources:
            for version in resource.versions:
                found.setdefault(resource.group, {}).setdefault(version, []).append(resource)
        return found

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource of a path, or None."""
        return next((r for r in self.groups().get(group, {}).get(version, []) if r.plural == plural), None)

    def named(self, name: str) -> Resource:
        """Return a resource by its plural, with the group if the plural is ambiguous.

        Raises:
            LookupError: no resource has the name, or two have it.
        """
        found = [r for r in self._resources if name in {r.plural, r.full_name}]
        if len(found) != 1:
            raise LookupError(f"{name}: {[r.full_name for r in found] or 'not served'}")
        return found[0]
