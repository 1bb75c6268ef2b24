"""The objects of a server, with a version for each change, and listeners."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from apiserver.kinds import Object, Resource, copied

Key = tuple[str, str, str]
"""Full name of the resource, namespace and name."""


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    version: int
    resource: Resource
    before: Object | None
    after: Object | None
    """None: the object was removed."""

    @property
    def last(self) -> Object:
        """Return the object after the change, or before its removal."""
        found = self.after or self.before
        assert found is not None
        return found


Listener = Callable[[Change], None]


class Store:
    """All objects. Hold `lock` between a read and the write that depends on it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self._objects: dict[Key, Object] = {}
        self._resources: dict[Key, Resource] = {}
        self._history: list[Change] = []
        self._listeners: list[Listener] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return a copy of an object, or None."""
        with self.lock:
            found = self._objects.get((resource.full_name, namespace, name))
            return dict(copied(found)) if found else None

    def objects(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Return copies of the objects of a resource by name, of one namespace or of all."""
        with self.lock:
            return [
                copied(found)
                for key, found in sorted(self._objects.items())
                if key[0] == resource.full_name and namespace in {"", key[1]}
            ]

    def within(self, namespace: str) -> list[tuple[Resource, Object]]:
        """Return all objects of a namespace."""
        with self.lock:
            return [
                (self._resources[key], copied(found))
                for key, found in sorted(self._objects.items())
                if key[1] == namespace
            ]

    def put(self, resource: Resource, new: Object) -> Object:
        """Write an object with the next version."""
        with self.lock:
            self.version += 1
            new["metadata"]["resourceVersion"] = str(self.version)
            key = _key(resource, new)
            before = self._objects.get(key)
            self._objects[key] = copied(new)
            self._resources[key] = resource
            self._notify(Change(self.version, resource, before, self._objects[key]))
            return new

    def remove(self, resource: Resource, old: Object) -> None:
        """Remove an object if it exists."""
        with self.lock:
            before = self._objects.pop(_key(resource, old), None)
            if before is not None:
                self.version += 1
                removed = copied(before)
                removed["metadata"]["resourceVersion"] = str(self.version)
                self._notify(Change(self.version, resource, removed, None))

    def since(self, version: int, listener: Listener) -> list[Change]:
        """Return the changes after a version, and add a listener for later ones until `forget`."""
        with self.lock:
            self._listeners.append(listener)
            return [change for change in self._history if change.version > version]

    def forget(self, listener: Listener) -> None:
        """Remove a listener."""
        with self.lock:
            self._listeners.remove(listener)

    def _notify(self, change: Change) -> None:
        self._history.append(change)
        for listener in tuple(self._listeners):
            listener(change)


def _key(resource: Resource, one: Object) -> Key:
    meta = one["metadata"]
    return (resource.full_name, meta.get("namespace", ""), meta["name"])
