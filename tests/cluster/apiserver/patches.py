"""JSON patch, merge patch and strategic merge patch."""

from typing import Any

from apiserver.errors import StatusError
from apiserver.kinds import copied
from apiserver.structure import Structure


def json_patched(value: Any, operations: list[dict[str, Any]]) -> Any:
    """Return a value after a JSON patch (RFC 6902).

    Raises:
        StatusError: a path does not exist, or a test fails. The message does not name it.
    """
    root = {"": copied(value)}
    try:
        for operation in operations:
            _operate(root, operation)
    except (LookupError, ValueError, TypeError) as error:
        message = "the server rejected our request due to an error in our request"
        raise StatusError(422, "Invalid", message, {}) from error
    return root[""]


def _operate(root: Any, operation: dict[str, Any]) -> None:
    name, path = operation["op"], _pointer(operation["path"])
    if name == "test":
        if _get(root, path) != operation["value"]:
            raise ValueError(operation["path"])
    elif name == "remove":
        _pop(root, path)
    elif name == "replace":
        _pop(root, path)
        _add(root, path, operation["value"])
    elif name == "add":
        _add(root, path, operation["value"])
    elif name == "move":
        _add(root, path, _pop(root, _pointer(operation["from"])))
    elif name == "copy":
        _add(root, path, copied(_get(root, _pointer(operation["from"]))))
    else:
        raise ValueError(name)


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _get(node: Any, path: list[str]) -> Any:
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def _pop(root: Any, path: list[str]) -> Any:
    parent = _get(root, path[:-1])
    return parent.pop(int(path[-1])) if isinstance(parent, list) else parent.pop(path[-1])


def _add(root: Any, path: list[str], value: Any) -> None:
    parent, last = _get(root, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
        return
    index = len(parent) if last == "-" else int(last)
    if index > len(parent):
        raise IndexError(last)
    parent.insert(index, value)


def merge_patched(value: Any, patch: Any) -> Any:
    """Return a value after a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, inner in patch.items():
        if inner is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), inner)
    return merged


def strategically_patched(structure: Structure, value: Any, patch: Any) -> Any:
    """Return a value after a strategic merge patch, which merges lists by their keys."""
    if isinstance(patch, list) and structure.merge_key and isinstance(value, list):
        return _list_patched(structure, value, patch)
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) and patch.get("$patch") != "replace" else {}
    for name, inner in patch.items():
        if name.startswith("$"):
            continue
        if inner is None:
            merged.pop(name, None)
        else:
            below = structure.field(name) or Structure({}, {})
            merged[name] = strategically_patched(below, merged.get(name), inner)
    return merged


def _list_patched(structure: Structure, items: list[Any], patch: list[Any]) -> list[Any]:
    merged = list(items)
    key = structure.merge_key
    if key is None or {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    for change in patch:
        index = next((n for n, item in enumerate(merged) if item.get(key) == change.get(key)), None)
        if change.get("$patch") == "delete":
            merged = [item for item in merged if item.get(key) != change.get(key)]
        elif index is None:
            merged.append(strategically_patched(structure.items, None, change))
        else:
            merged[index] = strategically_patched(structure.items, merged[index], change)
    return merged
