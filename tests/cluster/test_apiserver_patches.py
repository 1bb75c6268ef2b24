"""Patches and selectors of the fake API server, also the forms that the scripts do not use."""

from typing import Any

import pytest
from apiserver.errors import StatusError
from apiserver.kinds import DEPLOYMENTS, Object
from apiserver.patches import json_patched, merge_patched, strategically_patched
from apiserver.selectors import selected
from apiserver.structure import structure_of


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ({"op": "add", "path": "/list/-", "value": 3}, {"list": [1, 2, 3], "a/b": "x"}),
        ({"op": "add", "path": "/list/0", "value": 0}, {"list": [0, 1, 2], "a/b": "x"}),
        ({"op": "add", "path": "/new", "value": {}}, {"list": [1, 2], "a/b": "x", "new": {}}),
        ({"op": "remove", "path": "/list/1"}, {"list": [1], "a/b": "x"}),
        ({"op": "replace", "path": "/list/0", "value": 9}, {"list": [9, 2], "a/b": "x"}),
        ({"op": "replace", "path": "/a~1b", "value": "y"}, {"list": [1, 2], "a/b": "y"}),
        ({"op": "test", "path": "/list/1", "value": 2}, {"list": [1, 2], "a/b": "x"}),
        ({"op": "move", "from": "/a~1b", "path": "/c"}, {"list": [1, 2], "c": "x"}),
        ({"op": "copy", "from": "/list", "path": "/c"}, {"list": [1, 2], "a/b": "x", "c": [1, 2]}),
        ({"op": "replace", "path": "", "value": 1}, 1),
    ],
)
def test_json_patch(operation: dict[str, Any], result: object) -> None:
    """RFC 6902. The original value is not modified."""
    value = {"list": [1, 2], "a/b": "x"}
    assert json_patched(value, [operation]) == result
    assert value == {"list": [1, 2], "a/b": "x"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nope"},
        {"op": "replace", "path": "/nope", "value": 1},
        {"op": "add", "path": "/nope/deeper", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "test", "path": "/list/0", "value": 2},
        {"op": "nonsense", "path": "/list"},
    ],
)
def test_a_json_patch_with_an_invalid_operation_is_refused(operation: dict[str, Any]) -> None:
    """No operation of the patch is applied."""
    with pytest.raises(StatusError) as refused:
        json_patched({"list": [1, 2]}, [operation])
    assert refused.value.code == 422


def test_merge_patch() -> None:
    """RFC 7386: null removes a field, and lists are replaced."""
    value = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge_patched(value, {"a": {"b": None, "e": 3}, "d": [2]}) == {"a": {"c": 2, "e": 3}, "d": [2]}


def _with_containers(*containers: Object) -> Object:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ([{"name": "a", "image": "new"}], [{"name": "a", "image": "new"}, {"name": "b"}]),
        ([{"name": "c"}], [{"name": "a", "image": "old"}, {"name": "b"}, {"name": "c"}]),
        ([{"name": "a", "$patch": "delete"}], [{"name": "b"}]),
        ([{"$patch": "replace"}, {"name": "c"}], [{"name": "c"}]),
        ([{"name": "a", "image": None}], [{"name": "a"}, {"name": "b"}]),
    ],
)
def test_strategic_merge_patch(patch: list[Object], result: list[Object]) -> None:
    """Containers are merged by name."""
    value = _with_containers({"name": "a", "image": "old"}, {"name": "b"})
    structure = structure_of(DEPLOYMENTS, "v1")
    assert strategically_patched(structure, value, _with_containers(*patch)) == _with_containers(*result)


@pytest.mark.parametrize(
    ("labels", "fields", "matches"),
    [
        ("a=1,b in (2,3)", "", True),
        ("a==1,!c", "metadata.name=one", True),
        ("a!=1", "", False),
        ("b notin (2)", "", False),
        ("", "metadata.name!=one", False),
        ("", "type=Warning,reason=Failed", True),
        ("", "involvedObject.name=other", False),
    ],
)
def test_selectors(labels: str, fields: str, *, matches: bool) -> None:
    """All requirements must match."""
    event = {
        "metadata": {"name": "one", "labels": {"a": "1", "b": "2"}},
        "type": "Warning",
        "reason": "Failed",
        "involvedObject": {"name": "pod"},
    }
    assert selected("Event", labels, fields)(event) is matches


def test_an_unknown_field_selector_is_refused() -> None:
    """It does not mean an empty list."""
    with pytest.raises(StatusError, match=r'"spec\.x" is not a known field selector: only'):
        selected("Deployment", "", "spec.x=1")
