"""Sets of fields, as in `managedFields`.

A field is a path of steps in the form of FieldsV1: "f:spec", 'k:{"name":"c"}' for an item identified by its
keys, 'v:"x"' for an item of a set.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from apiserver.kinds import Object
from apiserver.structure import Structure

Path = tuple[str, ...]
Fields = frozenset[Path]

_SERVERS = ("name", "namespace", "creationTimestamp", "uid", "generation", "managedFields", "resourceVersion")
_NOBODYS = {
    ("f:apiVersion",),
    ("f:kind",),
    *(("f:metadata", f"f:{name}") for name in _SERVERS),
}
"""Fields of the server and of an object's identity, which no manager has."""


def step_of(structure: Structure, item: Any) -> str:
    """Return the step to an item of a merged list."""
    if structure.keys:
        keys = dict(zip(structure.keys, structure.key_of(item), strict=True))
        return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)
    return "v:" + json.dumps(item, separators=(",", ":"))


def steps(structure: Structure, value: Any) -> dict[str, tuple[Structure, Any]] | None:
    """Return the children of a value by step, or None for a leaf."""
    if isinstance(value, dict) and not structure.is_atomic:
        return {f"f:{name}": (_below(structure, name), inner) for name, inner in value.items()}
    if isinstance(value, list) and structure.is_list and not structure.is_atomic:
        return {step_of(structure, item): (structure.items, item) for item in value}
    return None


def _below(structure: Structure, name: str) -> Structure:
    return structure.field(name) or Structure({}, {})


def fields_of(structure: Structure, value: Any) -> Fields:
    """Return the fields that a value sets: its leaves, and the items of its lists."""
    return frozenset(_walk(structure, value, ())) - _NOBODYS


def _walk(structure: Structure, value: Any, path: Path) -> Iterator[Path]:
    below = steps(structure, value)
    if not below:
        yield path
        return
    for step, (inner_structure, inner) in below.items():
        if not step.startswith("f:"):
            yield (*path, step)
        if not step.startswith("v:"):
            yield from _walk(inner_structure, inner, (*path, step))


def paths_of(structure: Structure, value: Any) -> Fields:
    """Return every field of a value, inner nodes included."""
    found: set[Path] = set()

    def walk(structure: Structure, value: Any, path: Path) -> None:
        found.add(path)
        for step, (inner_structure, inner) in (steps(structure, value) or {}).items():
            walk(inner_structure, inner, (*path, step))

    walk(structure, value, ())
    return frozenset(found)


def changes(structure: Structure, old: Any, new: Any) -> Fields:
    """Return the fields of `new` that `old` does not have, or has with another value."""
    return frozenset(_changes(structure, old, new, ())) - _NOBODYS


def _changes(structure: Structure, old: Any, new: Any, path: Path) -> Iterator[Path]:
    if old == new:
        return
    before, after = steps(structure, old), steps(structure, new)
    if not after or (before is None and old is not None):
        yield path
        return
    if old is None and path and (path[-1].startswith("k:") or not structure.is_struct):
        yield path  # a new map, list or item, in addition to its content
    for step, (inner_structure, inner) in after.items():
        was = (before or {}).get(step, (None, None))[1]
        yield from _changes(inner_structure, was, inner, (*path, step))


def to_json(fields: Iterable[Path]) -> Object:
    """Return a set in the form of `managedFields`."""
    root: Object = {}
    for path in sorted(fields):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return _tidy(root)


def _tidy(node: Object) -> Object:
    """Remove the dots of leaves: only inner nodes need one."""
    if list(node) == ["."]:
        return {}
    return {step: _tidy(inner) if step != "." else {} for step, inner in sorted(node.items())}


def from_json(node: Object, path: Path = ()) -> Fields:
    """Return the set that `to_json` wrote."""
    if not node:
        return frozenset({path}) if path else frozenset()
    found: set[Path] = set()
    for step, inner in node.items():
        found |= {path} if step == "." else from_json(inner, (*path, step))
    return frozenset(found)


def text_of(path: Path) -> str:
    """Return a path as messages show it: .spec.containers[name="c"].image"""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text
