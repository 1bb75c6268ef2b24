"""The fields of a kind, and how their lists and maps are merged.

The schemas of Kubernetes come from kubernetes-validate, those of Istio from the models of cloudcoil, which
were generated from its CRDs. Other kinds accept any field, as with x-kubernetes-preserve-unknown-fields.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from apiserver.errors import Cause, not_supported, required
from apiserver.kinds import Object, Resource

_SCHEMAS = "kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

_KEY_DEFAULTS = {"protocol": "TCP"}
"""Default values of the keys of list items."""

_CHECKS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "string": ("string", str),
    "integer": ("numeric (int or float)", int),
    "number": ("numeric (int or float)", (int, float)),
    "boolean": ("boolean", bool),
    "array": ("list", list),
    "object": ("map", dict),
}
"""The name of a type in errors, and its Python types."""


@dataclass(frozen=True)
class Structure:
    """A node of a schema."""

    node: Mapping[str, Any]
    definitions: Mapping[str, Any]

    def field(self, name: str) -> "Structure | None":
        """Return the structure of a field, or None for an unknown field."""
        properties = self.node.get("properties", {})
        if name in properties:
            return self._at(properties[name])
        if self.is_struct:
            return None
        more = self.node.get("additionalProperties", True)
        return self._at(more) if isinstance(more, Mapping) else ANYTHING

    @property
    def items(self) -> "Structure":
        """Return the structure of list items."""
        items = self.node.get("items")
        return self._at(items) if items else ANYTHING

    @property
    def is_struct(self) -> bool:
        """Return whether only named fields are allowed."""
        return bool(self.node.get("properties")) and not self.node.get("x-kubernetes-preserve-unknown-fields")

    @property
    def is_atomic(self) -> bool:
        """Return whether a map or list is replaced as a whole."""
        if self.is_list:
            return self.node.get("x-kubernetes-list-type") not in {"map", "set"}
        return self.node.get("x-kubernetes-map-type") == "atomic"

    @property
    def is_list(self) -> bool:
        """Return whether it is a list."""
        return "array" in self._types()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the fields that identify a list item, if any."""
        return tuple(self.node.get("x-kubernetes-list-map-keys", ()))

    @property
    def merge_key(self) -> str | None:
        """Return the field that identifies a list item in a strategic merge patch."""
        key = self.node.get("x-kubernetes-patch-merge-key")
        return key if "merge" in self.node.get("x-kubernetes-patch-strategy", "") else None

    @property
    def required(self) -> tuple[str, ...]:
        """Return the required fields."""
        return tuple(self.node.get("required", ()))

    def key_of(self, item: Object) -> tuple[Any, ...]:
        """Return the values of the keys of a list item."""
        return tuple(item.get(key, _KEY_DEFAULTS.get(key)) for key in self.keys)

    def key_text(self, item: Object) -> str:
        """Return the keys as messages show them: port=80,protocol="TCP"."""
        pairs = zip(self.keys, self.key_of(item), strict=True)
        return ",".join(f"{key}={json.dumps(value)}" for key, value in pairs)

    def mismatch(self, value: Any) -> str | None:
        """Return the expected type if a value has another one."""
        types = self._types()
        checks = [_CHECKS[one] for one in types if one in _CHECKS]
        matches = any(isinstance(value, kind) for _, kind in checks)
        if isinstance(value, bool):
            matches = "boolean" in types
        if value is None or not checks or matches:
            return None
        return checks[0][0]

    def choices(self) -> tuple[str, ...]:
        """Return the allowed texts; none means any text."""
        if "const" in self.node:
            return (self.node["const"],)
        return tuple(self.node.get("enum", ()))

    def _types(self) -> tuple[str, ...]:
        types = self.node.get("type", ())
        found = (types,) if isinstance(types, str) else tuple(types)
        for choice in self.node.get("oneOf", ()):
            found += self._at(choice)._types()
        return tuple(one for one in found if one != "null")

    def _at(self, node: Mapping[str, Any]) -> "Structure":
        return Structure(_resolved(node, self.definitions), self.definitions)


ANYTHING = Structure({}, {})
"""Accepts any value. Maps are merged, lists are not."""


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references and alternatives to null."""
    while True:
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        elif "anyOf" in node:
            others = [one for one in node["anyOf"] if one.get("type") != "null"]
            if len(others) != 1:
                return {}
            node = others[0]
        else:
            return node


def structure_of(resource: Resource, version: str) -> Structure:
    """Return the structure of a resource's objects."""
    return _structure_of(resource.group, version, resource.kind)


def _open(**properties: Any) -> Mapping[str, Any]:
    """Return the schema of a map with unknown fields."""
    return {"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


_LISTENER = _open(allowedRoutes=_open(namespaces=_open(selector={"x-kubernetes-map-type": "atomic"})))
_WRITTEN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("gateway.networking.k8s.io", "Gateway"): _open(
        listeners={
            "type": "array",
            "items": _LISTENER,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        }
    )
}
"""Merge rules of kinds without a schema in any package."""


@cache
def _structure_of(group: str, version: str, kind: str) -> Structure:
    if group.endswith(".istio.io"):
        return _of_istio(group, version, kind)
    identity = {"group": group, "version": version, "kind": kind}
    for node in _definitions().values():
        if identity in node.get("x-kubernetes-group-version-kind", ()):
            return Structure(node, _definitions())
    return _custom(_WRITTEN.get((group, kind), ANYTHING.node), {})


@cache
def _definitions() -> Mapping[str, Any]:
    text = files("kubernetes_validate").joinpath(_SCHEMAS).read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)["$defs"]
    return found


def _of_istio(group: str, version: str, kind: str) -> Structure:
    module = import_module(f"cloudcoil.models.istio.{group.partition('.')[0]}.{version}")
    schema = getattr(module, kind).model_json_schema(by_alias=True)
    return _custom(schema["properties"]["spec"], schema["$defs"])


def _custom(spec: Mapping[str, Any], definitions: Mapping[str, Any]) -> Structure:
    """An object that a CustomResourceDefinition describes: its metadata is like any other's."""
    text = {"type": "string"}
    meta = {"$ref": f"#/$defs/{_OBJECT_META}"}
    properties = {"apiVersion": text, "kind": text, "metadata": meta, "spec": spec, "status": {}}
    return Structure({"type": "object", "properties": properties}, {**_definitions(), **definitions})


@dataclass(frozen=True)
class Misfit:
    """An unknown field, or a value of the wrong type."""

    path: str
    """The path with indexes: .spec.ports[0].port"""
    typed_path: str
    """The path with keys: .spec.ports[port=80,protocol="TCP"].port"""
    expected: str | None
    """The expected type; None for an unknown field."""
    value: Any


def misfits(structure: Structure, value: Any, path: str = "", typed_path: str = "") -> Iterator[Misfit]:
    """Yield unknown fields and values of the wrong type."""
    expected = structure.mismatch(value)
    if expected:
        yield Misfit(path, typed_path, expected, value)
    elif isinstance(value, dict):
        for name, inner in sorted(value.items()):
            below, paths = structure.field(name), (f"{path}.{name}", f"{typed_path}.{name}")
            if below is None:
                yield Misfit(*paths, None, inner)
            else:
                yield from misfits(below, inner, *paths)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            typed = structure.key_text(inner) if structure.keys and isinstance(inner, dict) else str(number)
            yield from misfits(structure.items, inner, f"{path}[{number}]", f"{typed_path}[{typed}]")


def duplicates(structure: Structure, value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the keys of items that a list has twice."""
    if isinstance(value, dict):
        for name, inner in sorted(value.items()):
            yield from duplicates(structure.field(name) or ANYTHING, inner, f"{path}.{name}")
    elif isinstance(value, list) and structure.keys:
        texts = [structure.key_text(item) for item in value]
        yield from ((path, text) for text in dict.fromkeys(texts) if texts.count(text) > 1)
        for item, text in zip(value, texts, strict=True):
            yield from duplicates(structure.items, item, f"{path}[{text}]")


def omissions(structure: Structure, value: Any, path: str = "") -> Iterator[Cause]:
    """Yield missing required fields and texts that are not allowed."""
    if isinstance(value, dict):
        if path:
            yield from (required(f"{path}.{name}") for name in structure.required if name not in value)
        for name, inner in sorted(value.items()):
            below = structure.field(name)
            if below is not None:
                yield from omissions(below, inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from omissions(structure.items, inner, f"{path}[{number}]")
    elif value is not None and path not in {"kind", "apiVersion"}:
        allowed = structure.choices()
        if allowed and value not in allowed:
            yield not_supported(path, value, allowed)
