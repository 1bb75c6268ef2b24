"""A server that runs in a thread of the test, and all that a test wants of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from apiserver.admission import Addresses, Guard, Injector
from apiserver.api import Api
from apiserver.behaviour import Behaviour, Failure, Run
from apiserver.faults import Asked, Faults, When, always
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
    """An API server, with the cluster behind it."""

    def __init__(self, name: str, resources: Sequence[Resource], folder: Path) -> None:
        self.name = name
        self.kubeconfig = folder / f"{name}.kubeconfig"
        """Leads here; `kubeconfig_for` writes others."""
        self.behaviour = Behaviour()
        self.served = Served(resources)
        self.api = Api()
        self.faults = Faults()
        self.server = Server(self.api, self.served, Streams(self.api.store, self.behaviour), self.faults)
        self.controllers: list[Controller] = [Housekeeping(self.api, self.served, self.behaviour)]
        if any(resource.plural == "pods" for resource in resources):
            self.controllers += [Workloads(self.api, self.behaviour), Kubelet(self.api, self.behaviour)]
        guard = Guard(self.api.store, self.served.named("serviceaccounts"))
        injector = Injector(self.api.store, self.behaviour)
        self.api.admission += [Addresses().admit, injector.admit, guard.admit]
        self._host = Host(name, self.server, self.api.store, self.controllers)
        self._furnish()

    # -- what is there

    def objects(self, kind: str, namespace: str = "", labels: str = "") -> list[Object]:
        """The objects of a kind, which is named in the plural, with its group where two have that name."""
        resource = self.served.named(kind)
        matches = selected(resource.kind, labels, "")
        found = self.api.objects(Target(resource, resource.versions[0], namespace))
        return [one for one in found if matches(one)]

    def names(self, kind: str, namespace: str = "", labels: str = "") -> list[str]:
        """Their names."""
        return [one["metadata"]["name"] for one in self.objects(kind, namespace, labels)]

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """An object, or None."""
        return self.api.store.get(self.served.named(kind), namespace, name)

    def make(self, kind: str, one: Object, namespace: str = "", manager: str = "somebody-else") -> Object:
        """Makes an object, as somebody else than the scripts."""
        return self.api.create(self._target(kind, namespace), one, Options(manager=manager))

    def change(
        self, kind: str, name: str, patch: Object, namespace: str = "", manager: str = "somebody-else"
    ) -> Object:
        """Changes an object by a merge patch, as somebody else than the scripts."""
        target = self._target(kind, namespace, name)
        return self.api.patch(target, "application/merge-patch+json", patch, Options(manager=manager))[0]

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Deletes an object, as somebody else than the scripts."""
        self.api.delete(self._target(kind, namespace, name), {}, Options())

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> Object:
        """Makes a namespace, as somebody else than the scripts."""
        return self.make("namespaces", {"metadata": {"name": name, "labels": dict(labels or {})}})

    # -- what it was asked

    def asked(self) -> list[Asked]:
        """All requests since the start, or since `forget_requests`."""
        return list(self.server.asked)

    def writes(self) -> list[Asked]:
        """Those that were to change something, also where they were refused."""
        return [asked for asked in self.asked() if asked.writes]

    def forget_requests(self) -> None:
        """Forgets what it was asked."""
        self.server.asked.clear()

    def settle(self) -> None:
        """Waits until the controllers have nothing to do."""
        self._host.settle()

    @contextmanager
    def nothing_changes(self) -> Iterator[None]:
        """Nothing that a client does meanwhile changes an object, or tries to."""
        self.settle()
        before, asked = self.state(), len(self.server.asked)
        yield
        assert [str(one) for one in self.server.asked[asked:] if one.writes] == []
        assert self.state() == before

    def state(self) -> dict[str, str]:
        """Which object is in which version: who compares two of them sees what has changed."""
        return {
            "/".join(
                (resource.full_name, one["metadata"].get("namespace", ""), one["metadata"]["name"])
            ): one["metadata"]["resourceVersion"]
            for resource in self.served
            for one in self.api.store.objects(resource)
        }

    # -- how it behaves

    def deployments_fail(self, name: str, reason: Failure = "ImagePullBackOff") -> None:
        """From now on the pods of a deployment, or of an image, do not get ready."""
        self.behaviour.failures[name] = reason

    def deployments_work(self) -> None:
        """From now on all pods get ready again."""
        self.behaviour.failures.clear()

    def say(self, container: str, *lines: str) -> None:
        """Containers of that name (or the one that is named pod/container) write these lines."""
        self.behaviour.logs.setdefault(container, []).extend(lines)

    def runs(self, run: Run) -> None:
        """From now on this says how a command is run in a container."""
        self.behaviour.run = run

    def refuse(self, status: int, when: When = always) -> None:
        """From now on requests are refused with a status: 401, 403, 429, 500 or 503."""
        self.faults.refusals.append((status, when))

    def fall_silent(self, when: When = always) -> None:
        """From now on requests get no answer."""
        self.faults.silences.append(when)

    def recover(self) -> None:
        """Ends all refusals and silences, and answers again."""
        self.faults.clear()
        self._host.listen()

    def refuse_connections(self) -> None:
        """From now on nobody listens on the port, until `recover`."""
        self._host.close()

    def kubeconfig_for(self, path: Path, server: str | None = None) -> Path:
        """Writes a kubeconfig that leads here, or to another server."""
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
        """Where it listens."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def port(self) -> int:
        """Its port there."""
        return self._host.port

    @contextmanager
    def running(self) -> Iterator["Plane"]:
        """Answers on a port of its own until the context ends."""
        with self._host.running():
            self.kubeconfig_for(self.kubeconfig)
            yield self

    def _target(self, kind: str, namespace: str, name: str = "") -> Target:
        resource = self.served.named(kind)
        return Target(resource, resource.versions[0], namespace, name)

    def _furnish(self) -> None:
        """What is in every cluster."""
        for name in ("default", "kube-system"):
            self.make_namespace(name)
        for resource in self.served:
            if resource.custom:
                made = self.make("customresourcedefinitions", _definition(resource), manager="the-mesh")
                self.api.write_status(CRDS, made, _definition_status(resource))


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
