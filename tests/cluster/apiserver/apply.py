"""Field managers and server-side apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apiserver.errors import StatusError
from apiserver.fields import (
    Fields,
    Path,
    changes,
    fields_of,
    from_json,
    paths_of,
    step_of,
    steps,
    text_of,
    to_json,
)
from apiserver.kinds import Object
from apiserver.structure import Structure


@dataclass(frozen=True)
class Manager:
    """A field manager."""

    name: str
    operation: str
    """Apply for server-side apply, else Update."""
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the parts that identify the manager. An applier is the same in each version of the API."""
        return (self.name, self.operation, self.subresource, "" if self.applies else self.api_version)

    @property
    def applies(self) -> bool:
        """Return whether its fields are its whole configuration."""
        return self.operation == "Apply"

    def __str__(self) -> str:
        text = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return text if self.applies else f"{text} using {self.api_version}"


Owners = dict[Manager, Fields]


def owners_of(live: Object | None) -> Owners:
    """Return the field managers of an object."""
    entries = (live or {}).get("metadata", {}).get("managedFields", [])
    return {
        Manager(e["manager"], e["operation"], e["apiVersion"], e.get("subresource", "")): from_json(
            e["fieldsV1"]
        )
        for e in entries
    }


def write_owners(new: Object, owners: Owners, writer: Manager, now: str) -> None:
    """Write `managedFields`. The writer's entry gets the current time; the others keep theirs."""
    times = {
        (e["manager"], e["operation"], e.get("subresource", "")): e["time"]
        for e in new["metadata"].pop("managedFields", [])
    }
    entries = []
    for manager, fields in owners.items():
        if not fields:
            continue
        key = (manager.name, manager.operation, manager.subresource)
        time = now if manager.identity == writer.identity else times.get(key, now)
        subresource = {"subresource": manager.subresource} if manager.subresource else {}
        entries.append(
            {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": manager.api_version,
                "time": time,
                "fieldsType": "FieldsV1",
                "fieldsV1": to_json(fields),
                **subresource,
            }
        )
    if entries:
        new["metadata"]["managedFields"] = sorted(entries, key=lambda e: (e["operation"], e["time"]))


def updated(structure: Structure, live: Object | None, new: Object, writer: Manager) -> Owners:
    """Return the managers after an update: the writer gets what it changed, the others keep the rest."""
    owners, changed, there = owners_of(live), changes(structure, live, new), paths_of(structure, new)
    mine = changed
    left: Owners = {}
    for manager, fields in owners.items():
        if manager.identity == writer.identity:
            mine |= fields
        else:
            left[manager] = (fields - changed) & there
    return {**left, writer: mine & there}


def applied(
    structure: Structure, live: Object | None, config: Object, writer: Manager, *, force: bool
) -> tuple[Object, Owners]:
    """Return an object after server-side apply, and its field managers.

    Raises:
        StatusError: a change conflicts with another manager, and `force` is off.
    """
    owners = owners_of(live)
    before = next((fields for m, fields in owners.items() if m.identity == writer.identity), frozenset())
    others = {m: fields for m, fields in owners.items() if m.identity != writer.identity}
    mine = fields_of(structure, config)
    new = _merged(structure, live, config)
    for path in sorted(before - mine, key=len):  # an item before its fields, which include its keys
        if not any(owned[: len(path)] == path for fields in (mine, *others.values()) for owned in fields):
            _remove(structure, new, path)
    changed = changes(structure, live, new)
    conflicts = {manager: fields & changed for manager, fields in others.items() if fields & changed}
    if conflicts and not force:
        raise _conflict(conflicts)
    there = paths_of(structure, new)
    left = {m: (fields - conflicts.get(m, frozenset())) & there for m, fields in others.items()}
    return new, {writer: mine, **left}


def _conflict(conflicts: Mapping[Manager, Fields]) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": text_of(path)}
        for manager in sorted(conflicts, key=lambda manager: manager.name)
        for path in sorted(conflicts[manager])
    ]
    message = f"Apply failed with {len(causes)} conflict{'s' if len(causes) > 1 else ''}: "
    if len(causes) == 1:
        message += f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        groups: dict[str, list[str]] = {}
        for cause in causes:
            groups.setdefault(cause["message"].removeprefix("conflict with "), []).append(cause["field"])
        message += "\n".join(
            "\n- ".join([f"conflicts with {manager}:", *paths]) for manager, paths in groups.items()
        )
    return StatusError(409, "Conflict", message, {"causes": causes})


def _merged(structure: Structure, live: Any, config: Any) -> Any:
    """Return the live value merged with a configuration."""
    if config is None or steps(structure, config) is None or live is None:
        return config if config is not None else live
    if isinstance(config, dict) and isinstance(live, dict):
        inner = {name: structure.field(name) or Structure({}, {}) for name in config}
        return {**live, **{n: _merged(inner[n], live.get(n), value) for n, value in config.items()}}
    if isinstance(config, list) and isinstance(live, list):
        return _merged_list(structure, live, config)
    return config


def _merged_list(structure: Structure, live: list[Any], config: list[Any]) -> list[Any]:
    """Merge in the order of the configuration. Items only in the live list keep their predecessors."""
    old = {step_of(structure, item): item for item in live}
    new = {step_of(structure, item): item for item in config}
    steps_left = list(old)
    merged = []
    for step, item in new.items():
        while steps_left and steps_left[0] not in new:
            merged.append(old[steps_left.pop(0)])
        if step in steps_left:
            steps_left.remove(step)
        merged.append(_merged(structure.items, old.get(step), item))
    return merged + [old[step] for step in steps_left]


def _remove(structure: Structure, value: Any, path: Path) -> None:
    """Remove a field from a value, with maps that become empty."""
    step, rest = path[0], path[1:]
    below = (steps(structure, value) or {}).get(step)
    if below is None:
        return
    if rest:
        _remove(*below, rest)
        if below[1] not in ({}, []):
            return
    if isinstance(value, list):
        value.remove(below[1])
    else:
        del value[step.removeprefix("f:")]
