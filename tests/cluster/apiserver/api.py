"""The verbs of the API, without HTTP."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from apiserver import errors
from apiserver.apply import Manager, Owners, applied, updated, write_owners
from apiserver.defaults import fill_in
from apiserver.incoming import (
    Options,
    Target,
    applicable_fields,
    check_typed,
    count_generation,
    decoded,
    decoded_patch,
    now,
    prepared,
    same,
    without_nulls,
)
from apiserver.kinds import NAMESPACES, PODS, Object, Resource
from apiserver.patches import json_patched, merge_patched, strategically_patched
from apiserver.rules import rule_violations
from apiserver.store import Store
from apiserver.structure import omissions

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

Admission = Callable[[Resource, Object | None, Object], None]
"""Called before a write with the resource, the old object and the new one, which it may change or refuse."""


@dataclass
class Api:
    """Reads and writes the objects of a store."""

    store: Store = field(default_factory=Store)
    admission: list[Admission] = field(default_factory=list)

    def get(self, target: Target) -> Object:
        """Return an object.

        Raises:
            StatusError: the object does not exist.
        """
        found = self.store.get(target.resource, target.namespace, target.name)
        if found is None:
            raise errors.not_found(target.resource, target.name)
        return _shown(target, found)

    def objects(self, target: Target) -> list[Object]:
        """Return the objects of one namespace, or of all namespaces."""
        return [_shown(target, one) for one in self.store.objects(target.resource, target.namespace)]

    def create(self, target: Target, new: Object, options: Options) -> Object:
        """Create an object.

        Raises:
            StatusError: the object exists, or is invalid.
        """
        with self.store.lock:
            new = decoded(target, new, options)
            meta = new.setdefault("metadata", {})
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
            target = replace(target, name=meta.get("name", ""))
            self._check_namespace(target)
            if self.store.get(target.resource, target.namespace, target.name):
                raise errors.already_exists(target.resource, target.name)
            writer = target.manager(options, "Update")
            return self._write(target, None, new, writer, options)

    def update(self, target: Target, new: Object, options: Options) -> Object:
        """Replace an object.

        Raises:
            StatusError: the object does not exist, has a newer version, or is invalid.
        """
        with self.store.lock:
            live = self.get(target)
            new = decoded(target, new, options)
            version = new.setdefault("metadata", {}).get("resourceVersion")
            if version and version != live["metadata"]["resourceVersion"]:
                raise errors.stale(target.resource, target.name)
            return self._write(target, live, new, target.manager(options, "Update"), options)

    def patch(self, target: Target, form: str, patch: Any, options: Options) -> tuple[Object, bool]:
        """Patch an object, and return whether that created it.

        Raises:
            StatusError: the patch does not fit, or its result is invalid.
        """
        with self.store.lock:
            if form == APPLY_PATCH:
                return self._apply(target, patch, options)
            live = self.get(target)
            if form == JSON_PATCH:
                new = json_patched(live, patch)
            elif form == MERGE_PATCH:
                new = merge_patched(live, patch)
            elif form == STRATEGIC_PATCH and not target.resource.custom:
                new = strategically_patched(target.structure, live, patch)
            else:
                raise errors.StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
            new = decoded_patch(target, new, options)
            if new["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
                raise errors.stale(target.resource, target.name)
            return self._write(target, live, new, target.manager(options, "Update"), options), False

    def _apply(self, target: Target, config: Object, options: Options) -> tuple[Object, bool]:
        if options.manager == "unknown":
            cause = errors.required("fieldManager", "is required for apply patch")
            raise errors.invalid(_PATCH_OPTIONS, "", [cause])
        config = without_nulls(config)
        meta = config.setdefault("metadata", {})
        meta.setdefault("name", target.name)
        check_typed(target, config)
        live = self.store.get(target.resource, target.namespace, target.name)
        if live is None:
            self._check_namespace(target)
        else:
            live = _shown(target, live)
        writer = target.manager(options, "Apply")
        new, owners = applied(
            target.structure, live, applicable_fields(target, config), writer, force=options.force
        )
        return self._write(target, live, new, writer, options, owners), live is None

    def delete(self, target: Target, body: Object, options: Options) -> Object:
        """Remove an object, or mark it for deletion.

        Raises:
            StatusError: the object does not exist, or does not meet the preconditions.
        """
        with self.store.lock:
            live = self.get(target)
            meta = live["metadata"]
            preconditions = body.get("preconditions") or {}
            for name in ("uid", "resourceVersion"):
                if preconditions.get(name) not in {None, meta[name]}:
                    raise errors.stale(target.resource, target.name)
            if options.dry_run:
                return _success(target, meta["uid"])
            if not _ends_slowly(target.resource, live, body):
                self.store.remove(target.resource, live)
                return _success(target, meta["uid"])
            if "deletionTimestamp" not in meta:
                meta["deletionTimestamp"] = now()
                if target.resource == PODS:
                    meta["deletionGracePeriodSeconds"] = live["spec"].get("terminationGracePeriodSeconds", 30)
                if target.resource == NAMESPACES:
                    live["status"]["phase"] = "Terminating"
                self.store.put(target.resource, live)
            return live

    def write_status(self, resource: Resource, one: Object, status: Object, **metadata: Any) -> None:
        """Write a changed status, with `metadata`, as a controller does."""
        with self.store.lock:
            meta = one["metadata"]
            live = self.store.get(resource, meta.get("namespace", ""), meta["name"])
            if live is None or live["metadata"]["uid"] != meta["uid"]:
                return
            new = {**live, "status": status, "metadata": {**live["metadata"], **metadata}}
            if new != live:
                self.store.put(resource, new)

    def is_ending(self, namespace: str) -> bool:
        """Return whether a namespace is being deleted."""
        found = self.store.get(NAMESPACES, "", namespace)
        return found is None or "deletionTimestamp" in found["metadata"]

    def _check_namespace(self, target: Target) -> None:
        if not target.resource.namespaced:
            return
        if self.store.get(NAMESPACES, "", target.namespace) is None:
            raise errors.not_found(NAMESPACES, target.namespace)
        if self.is_ending(target.namespace):
            raise errors.terminating(target.resource, target.name, target.namespace)

    def _write(
        self,
        target: Target,
        live: Object | None,
        new: Object,
        writer: Manager,
        options: Options,
        owners: Owners | None = None,
    ) -> Object:
        new = prepared(target, live, new)
        fill_in(target.resource.group, new)
        for admit in self.admission:
            admit(target.resource, live, new)
        self._validate(target, live, new)
        if owners is None:
            owners = updated(target.structure, live, new, writer)
        count_generation(target.resource, live, new)
        write_owners(new, owners, writer, now())
        if live is not None and same(live, new):
            return live
        if options.dry_run:
            return new
        finished = "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers")
        if finished and target.resource not in {PODS, NAMESPACES}:
            self.store.remove(target.resource, new)
            return new
        return self.store.put(target.resource, new)

    def _validate(self, target: Target, live: Object | None, new: Object) -> None:
        checked = {name: value for name, value in new.items() if name != "status"}
        causes = list(omissions(target.structure, checked))
        if causes and target.resource.custom:
            causes.append(errors.UNCHECKED)
        causes += rule_violations(target.resource.group, live, new)
        if causes:
            raise errors.invalid(target.resource, target.name, causes)


_PATCH_OPTIONS = Resource("meta.k8s.io", ("v1",), "PatchOptions", "patchoptions")


def _shown(target: Target, one: Object) -> Object:
    """Return an object in the requested version."""
    return {**one, "apiVersion": target.resource.api_version(target.version)}


def _success(target: Target, uid: str) -> Object:
    group = {"group": target.resource.group} if target.resource.group else {}
    details = {"name": target.name, **group, "kind": target.resource.plural, "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _ends_slowly(resource: Resource, live: Object, body: Object) -> bool:
    if resource == PODS:
        return body.get("gracePeriodSeconds") != 0
    return resource == NAMESPACES or bool(live["metadata"].get("finalizers"))
