"""Discovery: the version, groups, resources and verbs of a server."""

from collections.abc import Mapping
from typing import Any

from apiserver.kinds import Object, Resource, Served

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26.8",
    "compiler": "gc",
    "platform": "linux/amd64",
}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_WRITES = {"name": "fieldValidation"}, {"name": "dryRun"}, {"name": "fieldManager"}, {"name": "force"}


def aggregated(served: Served, *, core: bool) -> Object:
    """Return all groups and their resources: the core group for /api, the others for /apis."""
    items = [
        {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": version,
                    "resources": [_discovered(r, version) for r in found],
                    "freshness": "Current",
                }
                for version, found in versions.items()
            ],
        }
        for group, versions in served.groups().items()
        if core is (group == "")
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _discovered(resource: Resource, version: str) -> Object:
    return {
        "resource": resource.plural,
        "responseKind": _kind(resource, version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short),
        "categories": list(resource.categories),
        "subresources": [
            {
                "subresource": name,
                "responseKind": _kind(resource, version, kind or resource.kind),
                "verbs": [*verbs],
            }
            for name, (kind, verbs) in resource.subresources.items()
        ],
    }


def _kind(resource: Resource, version: str, kind: str) -> Object:
    if kind == "Scale":
        return {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return {"group": resource.group, "version": version, "kind": kind}


def api_versions() -> Object:
    """Return the response of /api without aggregation."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups(served: Served) -> Object:
    """Return the response of /apis without aggregation."""
    groups = [_group(name, list(versions)) for name, versions in served.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(served: Served, group: str) -> Object | None:
    """Return a group, or None if it is not served."""
    versions = served.groups().get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, list(versions))} if versions else None


def _group(name: str, versions: list[str]) -> Object:
    known = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": known, "preferredVersion": known[0]}


def api_resources(served: Served, group: str, version: str) -> Object | None:
    """Return the resources of a group version, or None if it is not served."""
    found = served.groups().get(group, {}).get(version)
    if not found:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [entry for resource in found for entry in _listed(resource)],
    }


def _listed(resource: Resource) -> list[Object]:
    itself = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        "shortNames": list(resource.short),
        "categories": list(resource.categories),
    }
    below = [
        {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind or resource.kind,
            "verbs": list(verbs),
        }
        for name, (kind, verbs) in resource.subresources.items()
    ]
    return [itself, *below]


def openapi_index(served: Served) -> Object:
    """Return the URLs of the OpenAPI documents."""
    paths = [
        f"apis/{group}/{version}" if group else f"api/{version}"
        for group, versions in served.groups().items()
        for version in versions
    ]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash=1"} for path in paths}}


def openapi(served: Served, group: str, version: str) -> Object | None:
    """Return the OpenAPI document of a group version, with only what kubectl reads: patch parameters."""
    found = served.groups().get(group, {}).get(version)
    if not found:
        return None
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {_path(prefix, resource): _operations(resource, version) for resource in found},
        "components": {"schemas": {}},
    }


def _path(prefix: str, resource: Resource) -> str:
    namespace = "/namespaces/{namespace}" if resource.namespaced else ""
    return f"{prefix}{namespace}/{resource.plural}/{{name}}"


def _operations(resource: Resource, version: str) -> Mapping[str, Any]:
    parameters = [{**one, "in": "query", "schema": {"type": "string"}} for one in _WRITES]
    action = {
        "x-kubernetes-group-version-kind": _kind(resource, version, resource.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
    }
    return {
        "patch": {**action, "x-kubernetes-action": "patch"},
        "put": {**action, "x-kubernetes-action": "put"},
    }
