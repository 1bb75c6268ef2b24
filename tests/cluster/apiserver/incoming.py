"""Decode the object of a request, check it against its structure, and complete it."""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apiserver import errors
from apiserver.apply import Manager
from apiserver.errors import Cause, StatusError
from apiserver.kinds import Object, Resource, copied
from apiserver.structure import Misfit, Structure, duplicates, misfits, structure_of

_WITHOUT_GENERATION = {"Namespace", "Service", "ConfigMap", "Secret", "ServiceAccount", "Event", "Node"}


@dataclass(frozen=True)
class Options:
    """The options of a request."""

    manager: str = "unknown"
    """The field manager."""
    force: bool = False
    """Whether server-side apply overwrites fields of other managers."""
    dry_run: bool = False
    """Whether nothing is stored."""
    validation: str = "Warn"
    """Validation of unknown fields: Strict refuses them, Warn and Ignore drop them."""
    warnings: list[str] = field(default_factory=list)
    """Warnings for the response."""


@dataclass(frozen=True)
class Target:
    """The resource or object of a request."""

    resource: Resource
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def structure(self) -> Structure:
        """Return the structure of its objects."""
        return structure_of(self.resource, self.version)

    def manager(self, options: Options, operation: str) -> Manager:
        """Return the field manager of a request."""
        api_version = self.resource.api_version(self.version)
        return Manager(options.manager, operation, api_version, self.subresource)


def now() -> str:
    """Return the current time in the format of objects."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def decoded(target: Target, new: Object, options: Options) -> Object:
    """Return the object of a request without its unknown fields.

    Raises:
        StatusError: unknown fields are refused, or a value has the wrong type.
    """
    new = without_nulls(new)
    found = list(misfits(target.structure, new))
    wrong = [misfit for misfit in found if misfit.expected]
    unknown = [misfit for misfit in found if not misfit.expected]
    if wrong and target.resource.custom:
        raise errors.invalid(target.resource, target.name, [*map(_wrong_type, wrong), errors.UNCHECKED])
    if wrong:
        one = wrong[0]
        field = re.sub(r"\[\d+\]", "", one.path[1:])
        raise _not_handled(
            target, f"json: cannot unmarshal {_json_type(one.value)} into Go struct field {field}"
        )
    if unknown and options.validation == "Strict":
        names = ", ".join(f'unknown field "{misfit.path[1:]}"' for misfit in unknown)
        raise _not_handled(target, f"strict decoding error: {names}")
    if options.validation == "Warn":
        options.warnings.extend(f'unknown field "{misfit.path[1:]}"' for misfit in unknown)
    known: Object = _known_fields(target.structure, new)
    return known


def decoded_patch(target: Target, new: Object, options: Options) -> Object:
    """Return the patched object without its unknown fields. A patch has other error texts.

    Raises:
        StatusError: as in `decoded`.
    """
    try:
        return decoded(target, new, options)
    except StatusError as error:
        if error.code != 400:
            raise
        text, why = json.dumps(new, separators=(",", ":")), str(error).partition(": ")[2]
        cause = errors.invalid_value("patch", text, why)
        raise StatusError(422, "Invalid", f' "" is invalid: {cause}', {"causes": [vars(cause)]}) from error


def _not_handled(target: Target, why: str) -> StatusError:
    kind = target.resource.kind
    return errors.bad_request(f'{kind} in version "{target.version}" cannot be handled as a {kind}: {why}')


def _wrong_type(misfit: Misfit) -> Cause:
    path, got = misfit.path[1:], _json_type(misfit.value)
    names = {"map": "object", "list": "array", "numeric (int or float)": "integer"}
    expected = names.get(str(misfit.expected), misfit.expected)
    message = f'Invalid value: "{got}": {path} in body must be of type {expected}: "{got}"'
    return Cause("FieldValueTypeInvalid", path, message)


def _known_fields(structure: Structure, value: Any) -> Any:
    if isinstance(value, list):
        return [_known_fields(structure.items, item) for item in value]
    if not isinstance(value, dict):
        return value
    below = {name: structure.field(name) for name in value}
    return {n: _known_fields(inner, value[n]) for n, inner in below.items() if inner is not None}


def without_nulls(value: Any) -> Any:
    """Return a value without its nulls, which mean absent fields."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def check_typed(target: Target, config: Object) -> None:
    """Check the types of a configuration for server-side apply.

    Raises:
        StatusError: a field is unknown, a value has the wrong type, or a list has an item twice.
    """
    found = [_typed_error(misfit) for misfit in misfits(target.structure, config)]
    if not found:
        twice = duplicates(target.structure, config)
        found = [f"{path}: duplicate entries for key [{key}]" for path, key in twice]
    if found:
        all_of_it = found[0] if len(found) == 1 else "errors:" + "".join(f"\n  {one}" for one in found)
        where = f"{config['metadata'].get('namespace', '')}/{target.name}"
        what = f"{target.resource.group}/{target.version}, Kind={target.resource.kind}"
        message = f"failed to create typed patch object ({where}; {what}): {all_of_it}"
        raise StatusError(500, "", message)


def _typed_error(misfit: Misfit) -> str:
    if misfit.expected is None:
        return f"{misfit.typed_path}: field not declared in schema"
    got = f"&{{{misfit.value}}}"
    if misfit.expected == "string":
        got = f"&value.valueUnstructured{{Value:{_go_text(misfit.value)}}}"
    elif misfit.expected.startswith("numeric"):
        got = _GO_TYPES[type(misfit.value)]
    return f"{misfit.typed_path}: expected {misfit.expected}, got {got}"


_GO_TYPES = {str: "string", bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}


def _go_text(value: Any) -> str:
    return json.dumps(value) if type(value) not in {list, dict} else f"{_GO_TYPES[type(value)]}{{…}}"


def _json_type(value: Any) -> str:
    return _JSON_TYPES[type(value)]


def applicable_fields(target: Target, config: Object) -> Object:
    """Return the fields that apply: without `status` for the object, without `spec` for its status."""
    if not target.resource.subresources.get("status"):
        return config
    other = "spec" if target.subresource == "status" else "status"
    return {name: value for name, value in config.items() if name != other}


_KEPT: Sequence[str] = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "managedFields")


def prepared(target: Target, live: Object | None, new: Object) -> Object:
    """Return a new object with the fields that only the server sets."""
    new = copied(new)
    new |= {"apiVersion": target.resource.api_version(target.version), "kind": target.resource.kind}
    meta = new["metadata"]
    before = live["metadata"] if live else {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    for name in _KEPT:
        meta.pop(name, None)
        if name in before:
            meta[name] = copied(before[name])
    meta["name"] = target.name
    if target.resource.namespaced:
        meta["namespace"] = target.namespace
    meta.pop("resourceVersion", None)
    if live:
        meta["resourceVersion"] = live["metadata"]["resourceVersion"]
    if "status" in target.resource.subresources:
        _keep_other_fields(target, live, new)
    return new


def _keep_other_fields(target: Target, live: Object | None, new: Object) -> None:
    """Keep `status` in a change of the object, and everything else in a change of its status."""
    if target.subresource == "status" and live:
        status = new.get("status", {})
        new.clear()
        new.update(copied(live), status=status)
    else:
        new.pop("status", None)
        if live and "status" in live:
            new["status"] = copied(live["status"])


def count_generation(resource: Resource, live: Object | None, new: Object) -> None:
    """Increment the generation if the desired state changed."""
    if resource.kind in _WITHOUT_GENERATION:
        return
    if live is None:
        new["metadata"]["generation"] = 1
    elif _desired(live) != _desired(new):
        new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1


def _desired(one: Object) -> Object:
    return {name: value for name, value in one.items() if name not in {"metadata", "status", "apiVersion"}}


def same(live: Object, new: Object) -> bool:
    """Return whether two objects differ at most in the times of their managers."""

    def without_times(one: Object) -> Object:
        one = copied(one)
        for entry in one["metadata"].get("managedFields", []):
            entry.pop("time", None)
        one["metadata"]["managedFields"] = sorted(one["metadata"].get("managedFields", []), key=str)
        return one

    return without_times(live) == without_times(new)
