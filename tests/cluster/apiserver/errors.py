"""What a server answers when it does not do what it is asked: a Status, worded as the real one words it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from apiserver.kinds import Object, Resource


class StatusError(Exception):
    """The request fails with this status."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            **({"reason": reason} if reason else {}),
            **({"details": details} if details is not None else {}),
            "code": code,
        }


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with an object."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


UNCHECKED = Cause(
    "FieldValueInvalid",
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)
"""What the server says beside, where an object of a CustomResourceDefinition is wrong."""


def required(field: str, message: str = "") -> Cause:
    """A field is missing."""
    return Cause("FieldValueRequired", field, "Required value" + (f": {message}" if message else ""))


def invalid_value(field: str, value: Any, message: str) -> Cause:
    """A field's value is not allowed."""
    shown = json.dumps(value, separators=(",", ":"))
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {message}")


def not_supported(field: str, value: Any, allowed: Iterable[str]) -> Cause:
    """A field's value is none of those that there are."""
    choices = ", ".join(f'"{choice}"' for choice in allowed)
    return Cause(
        "FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {choices}'
    )


def duplicate(field: str, value: str) -> Cause:
    """A value that must be there once is there twice."""
    return Cause("FieldValueDuplicate", field, f'Duplicate value: "{value}"')


def _details(resource: Resource, name: str, *, kind: str = "") -> Object:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": kind or resource.plural}


def not_found(resource: Resource, name: str) -> StatusError:
    """There is no object of that name."""
    return StatusError(404, "NotFound", f'{resource.full_name} "{name}" not found', _details(resource, name))


def no_such_path() -> StatusError:
    """There is no such resource."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> StatusError:
    """There is an object of that name."""
    message = f'{resource.full_name} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, name))


def stale(resource: Resource, name: str) -> StatusError:
    """Somebody else has written the object meanwhile."""
    message = (
        f'Operation cannot be fulfilled on {resource.full_name} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return StatusError(409, "Conflict", message, _details(resource, name))


def terminating(resource: Resource, name: str, namespace: str) -> StatusError:
    """The namespace goes, and takes nothing new."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
    details = _details(resource, name) | {"causes": [{**cause, "field": "metadata.namespace"}]}
    return StatusError(403, "Forbidden", f'{resource.full_name} "{name}" is forbidden: {why}', details)


def forbidden(resource: Resource, name: str, why: str) -> StatusError:
    """It is not allowed."""
    message = f'{resource.full_name} "{name}" is forbidden: {why}'
    return StatusError(403, "Forbidden", message, _details(resource, name))


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> StatusError:
    """The object says what it must not."""
    all_of_it = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        all_of_it = f"[{all_of_it}]"
    details = _details(resource, name, kind=resource.kind) | {"causes": [vars(cause) for cause in causes]}
    message = f'{resource.full_kind} "{name}" is invalid: {all_of_it}'
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    """The request itself is wrong."""
    return StatusError(400, "BadRequest", message)


def unknown_format() -> StatusError:
    """The body is neither JSON nor YAML."""
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml"
    )
    return StatusError(415, "UnsupportedMediaType", message)
