"""Label selectors and field selectors."""

import re
from collections.abc import Callable, Mapping

from apiserver.errors import bad_request
from apiserver.kinds import Object

Matches = Callable[[Object], bool]

_SET = re.compile(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_EQUALS = re.compile(r"\s*([^\s=!]+)\s*(==|=|!=)\s*([^\s=!]*)\s*$")
_EXISTS = re.compile(r"\s*(!?)\s*([^\s=!]+)\s*$")

_EVENT_FIELDS = ("type", "reason", "involvedObject.kind", "involvedObject.name", "involvedObject.namespace")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": ("spec.nodeName", "status.phase", "status.podIP", "spec.restartPolicy"),
    "Event": _EVENT_FIELDS,
    "Namespace": ("status.phase",),
    "Secret": ("type",),
}
"""Selectable fields in addition to name and namespace."""


def selected(kind: str, labels: str, fields: str) -> Matches:
    """Return a predicate for two selectors.

    Raises:
        StatusError: a selector is invalid.
    """
    checks = [_label_check(part) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    checks += [_field_check(kind, part) for part in fields.split(",") if part.strip()]
    return lambda one: all(check(one) for check in checks)


def labels_of(one: Object) -> Mapping[str, str]:
    """Return the labels of an object."""
    found: Mapping[str, str] = one["metadata"].get("labels") or {}
    return found


def _label_check(text: str) -> Matches:
    if found := _SET.match(text):
        key, operator, values = found.groups()
        among = {value.strip() for value in values.split(",")}
        return lambda one: (labels_of(one).get(key) in among) is (operator == "in")
    if found := _EQUALS.match(text):
        key, operator, value = found.groups()
        return lambda one: (labels_of(one).get(key) == value) is (operator != "!=")
    if found := _EXISTS.match(text):
        negated, key = found.groups()
        return lambda one: (key in labels_of(one)) is (negated == "")
    raise bad_request(f"unable to parse requirement: {text}")


def _field_check(kind: str, text: str) -> Matches:
    found = _EQUALS.match(text)
    if not found:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{text}'")
    path, operator, value = found.groups()
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(kind, ()))
    if path not in known:
        names = ", ".join(f'"{name}"' for name in known)
        raise bad_request(f'"{path}" is not a known field selector: only {names}')
    return lambda one: (_value_at(one, path) == value) is (operator != "!=")


def _value_at(one: Object, path: str) -> str:
    node: object = one
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return "" if node is None else str(node)
