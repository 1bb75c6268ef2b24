"""The objects of a server, each change of them under a number that only grows, and who watches them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from apiserver.kinds import Object, Resource, copied

Key = tuple[str, str, str]
"""Full name of the resource, namespace, name."""


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    version: int
    resource: Resource
    before: Object | None
    after: Object | None
    """None: it is gone."""

    @property
    def last(self) -> Object:
        """The object as it is, or as it was when it went."""
        found = self.after or self.before
        assert found is not None
        return found


Listener = Callable[[Change], None]


class Store:
    """All objects. Whoever reads and then writes holds `lock` meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self._objects: dict[Key, Object] = {}
        self._resources: dict[Key, Resource] = {}
        self._history: list[Change] = []
        self._listeners: list[Listener] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """A copy of an object, or None."""
        with self.lock:
            found = self._objects.get((resource.full_name, namespace, name))
            return dict(copied(found)) if found else None

    def objects(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Copies of the objects of a kind, in order of their names; of all namespaces where none is named."""
        with self.lock:
            return [
                copied(found)
                for key, found in sorted(self._objects.items())
                if key[0] == resource.full_name and namespace in {"", key[1]}
            ]

    def within(self, namespace: str) -> list[tuple[Resource, Object]]:
        """All that is in a namespace."""
        with self.lock:
            return [
                (self._resources[key], copied(found))
                for key, found in sorted(self._objects.items())
                if key[1] == namespace
            ]

    def put(self, resource: Resource, new: Object) -> Object:
        """Writes an object, under the next number."""
        with self.lock:
            self.version += 1
            new["metadata"]["resourceVersion"] = str(self.version)
            key = _key(resource, new)
            before = self._objects.get(key)
            self._objects[key] = copied(new)
            self._resources[key] = resource
            self._tell(Change(self.version, resource, before, self._objects[key]))
            return new

    def remove(self, resource: Resource, old: Object) -> None:
        """Removes an object, if it is there."""
        with self.lock:
            before = self._objects.pop(_key(resource, old), None)
            if before is not None:
                self.version += 1
                gone = copied(before)
                gone["metadata"]["resourceVersion"] = str(self.version)
                self._tell(Change(self.version, resource, gone, None))

    def since(self, version: int, listener: Listener) -> list[Change]:
        """The changes after a version; those to come go to the listener, until it is `forget`ten."""
        with self.lock:
            self._listeners.append(listener)
            return [change for change in self._history if change.version > version]

    def forget(self, listener: Listener) -> None:
        """Tells a listener nothing more."""
        with self.lock:
            self._listeners.remove(listener)

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        for listener in tuple(self._listeners):
            listener(change)


def _key(resource: Resource, one: Object) -> Key:
    meta = one["metadata"]
    return (resource.full_name, meta.get("namespace", ""), meta["name"])
