"""An API server in a thread of the test, with methods for tests."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from apiserver.admission import Addresses, Injector, PodGuard
from apiserver.api import Api
from apiserver.behaviour import Behaviour, Failure, Run
from apiserver.faults import Faults, RecordedRequest, When, always
from apiserver.host import ADDRESS, Controller, Host
from apiserver.housekeeping import Housekeeping
from apiserver.incoming import Options, Target, now
from apiserver.kinds import CRDS, Object, Resource, Served
from apiserver.kubelet import Kubelet
from apiserver.selectors import selected
from apiserver.server import Server
from apiserver.streams import Streams
from apiserver.workloads import Workloads


class Plane:
    """An API server with its cluster."""

    def __init__(self, name: str, resources: Sequence[Resource], folder: Path) -> None:
        self.name = name
        self.kubeconfig = folder / f"{name}.kubeconfig"
        """The kubeconfig of this server; `kubeconfig_for` writes others."""
        self.behaviour = Behaviour()
        self.served = Served(resources)
        self.api = Api()
        self.faults = Faults()
        self.server = Server(self.api, self.served, Streams(self.api.store, self.behaviour), self.faults)
        self.controllers: list[Controller] = [Housekeeping(self.api, self.served, self.behaviour)]
        if any(resource.plural == "pods" for resource in resources):
            self.controllers += [Workloads(self.api, self.behaviour), Kubelet(self.api, self.behaviour)]
        guard = PodGuard(self.api.store, self.served.named("serviceaccounts"))
        injector = Injector(self.api.store, self.behaviour)
        self.api.admission += [Addresses().admit, injector.admit, guard.admit]
        self._host = Host(name, self.server, self.api.store, self.controllers)
        self._add_default_objects()

    # -- objects

    def objects(self, kind: str, namespace: str = "", labels: str = "") -> list[Object]:
        """Return the objects of a kind. The name is the plural, with the group if the plural is ambiguous."""
        resource = self.served.named(kind)
        matches = selected(resource.kind, labels, "")
        found = self.api.objects(Target(resource, resource.versions[0], namespace))
        return [one for one in found if matches(one)]

    def names(self, kind: str, namespace: str = "", labels: str = "") -> list[str]:
        """Return the names of these objects."""
        return [one["metadata"]["name"] for one in self.objects(kind, namespace, labels)]

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return an object, or None."""
        return self.api.store.get(self.served.named(kind), namespace, name)

    def create(self, kind: str, one: Object, namespace: str = "", manager: str = "another-tool") -> Object:
        """Create an object, as another field manager than the scripts."""
        return self.api.create(self._target(kind, namespace), one, Options(manager=manager))

    def change(
        self, kind: str, name: str, patch: Object, namespace: str = "", manager: str = "another-tool"
    ) -> Object:
        """Apply a merge patch, as another field manager than the scripts."""
        target = self._target(kind, namespace, name)
        return self.api.patch(target, "application/merge-patch+json", patch, Options(manager=manager))[0]

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        self.api.delete(self._target(kind, namespace, name), {}, Options())

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> Object:
        """Create a namespace, as another field manager than the scripts."""
        return self.create("namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})

    # -- requests

    def requests(self) -> list[RecordedRequest]:
        """Return all requests since the start, or since `forget_requests`."""
        return list(self.server.requests)

    def writes(self) -> list[RecordedRequest]:
        """Return the requests that write objects, refused ones included."""
        return [request for request in self.requests() if request.writes]

    def forget_requests(self) -> None:
        """Clear the recorded requests."""
        self.server.requests.clear()

    def settle(self) -> None:
        """Wait until the controllers are idle."""
        self._host.settle()

    @contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """Assert that no request changes an object, or tries to, until the context ends."""
        self.settle()
        before, count = self.state(), len(self.server.requests)
        yield
        assert [str(one) for one in self.server.requests[count:] if one.writes] == []
        assert self.state() == before

    def state(self) -> dict[str, str]:
        """Return the version of each object, to compare two states."""
        return {
            "/".join(
                (resource.full_name, one["metadata"].get("namespace", ""), one["metadata"]["name"])
            ): one["metadata"]["resourceVersion"]
            for resource in self.served
            for one in self.api.store.objects(resource)
        }

    # -- behavior

    def deployments_fail(self, name: str, reason: Failure = "ImagePullBackOff") -> None:
        """Keep new pods of a deployment, or of an image, from getting ready."""
        self.behaviour.failures[name] = reason

    def deployments_work(self) -> None:
        """Let all pods get ready again."""
        self.behaviour.failures.clear()

    def write_logs(self, container: str, *lines: str) -> None:
        """Append log lines to a container, or to all containers of a name."""
        self.behaviour.logs.setdefault(container, []).extend(lines)

    def exec_with(self, run: Run) -> None:
        """Set how `kubectl exec` runs a command."""
        self.behaviour.run = run

    def refuse(self, status: int, when: When = always) -> None:
        """Refuse matching requests with a status: 401, 403, 429, 500 or 503."""
        self.faults.refusals.append((status, when))

    def stop_responding(self, when: When = always) -> None:
        """Accept matching requests and never respond."""
        self.faults.silences.append(when)

    def recover(self) -> None:
        """Remove all faults, and listen again."""
        self.faults.clear()
        self._host.listen()

    def refuse_connections(self) -> None:
        """Stop listening until `recover`."""
        self._host.close()

    def kubeconfig_for(self, path: Path, server: str | None = None) -> Path:
        """Write a kubeconfig for this server, or for another URL."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [{"name": self.name, "cluster": {"server": server or self.url}}],
            "users": [{"name": "user", "user": {"token": "a-token"}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": "user"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def port(self) -> int:
        """Return its port."""
        return self._host.port

    @contextmanager
    def running(self) -> Iterator["Plane"]:
        """Serve on a free port until the context ends."""
        with self._host.running():
            self.kubeconfig_for(self.kubeconfig)
            yield self

    def _target(self, kind: str, namespace: str, name: str = "") -> Target:
        resource = self.served.named(kind)
        return Target(resource, resource.versions[0], namespace, name)

    def _add_default_objects(self) -> None:
        """Create the objects of every cluster."""
        for name in ("default", "kube-system"):
            self.create_namespace(name)
        for resource in self.served:
            if resource.custom:
                created = self.create("customresourcedefinitions", _definition(resource), manager="mesh")
                self.api.write_status(CRDS, created, _definition_status(resource))


def _definition(resource: Resource) -> Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": resource.full_name},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": _definition_names(resource),
            "versions": [
                {"name": v, "served": True, "storage": v == resource.versions[0], "schema": schema}
                for v in resource.versions
            ],
        },
    }


def _definition_status(resource: Resource) -> Object:
    condition = {"status": "True", "reason": "NoConflicts", "lastTransitionTime": now()}
    return {
        "acceptedNames": _definition_names(resource),
        "storedVersions": [resource.versions[0]],
        "conditions": [{"type": kind, **condition} for kind in ("NamesAccepted", "Established")],
    }


def _definition_names(resource: Resource) -> Object:
    names = {"plural": resource.plural, "singular": resource.singular, "kind": resource.kind}
    return {**names, "listKind": f"{resource.kind}List"}
