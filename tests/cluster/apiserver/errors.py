"""Error responses: Status objects with the texts of a real server."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from apiserver.kinds import Object, Resource


class StatusError(Exception):
    """A request failed with this status."""

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
    """One reason why an object is invalid."""

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
"""An extra cause for an invalid object of a CustomResourceDefinition."""


def required(field: str, message: str = "") -> Cause:
    """Return the cause for a missing field."""
    return Cause("FieldValueRequired", field, "Required value" + (f": {message}" if message else ""))


def invalid_value(field: str, value: Any, message: str) -> Cause:
    """Return the cause for an invalid value."""
    shown = json.dumps(value, separators=(",", ":"))
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {message}")


def not_supported(field: str, value: Any, allowed: Iterable[str]) -> Cause:
    """Return the cause for a value outside of an enumeration."""
    choices = ", ".join(f'"{choice}"' for choice in allowed)
    return Cause(
        "FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {choices}'
    )


def duplicate(field: str, value: str) -> Cause:
    """Return the cause for a value that occurs twice."""
    return Cause("FieldValueDuplicate", field, f'Duplicate value: "{value}"')


def _details(resource: Resource, name: str, *, kind: str = "") -> Object:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": kind or resource.plural}


def not_found(resource: Resource, name: str) -> StatusError:
    """Return the error for a missing object."""
    return StatusError(404, "NotFound", f'{resource.full_name} "{name}" not found', _details(resource, name))


def no_such_path() -> StatusError:
    """Return the error for a missing resource."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> StatusError:
    """Return the error for an object that exists."""
    message = f'{resource.full_name} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, name))


def stale(resource: Resource, name: str) -> StatusError:
    """Return the error for an outdated resource version."""
    message = (
        f'Operation cannot be fulfilled on {resource.full_name} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return StatusError(409, "Conflict", message, _details(resource, name))


def terminating(resource: Resource, name: str, namespace: str) -> StatusError:
    """Return the error for a new object in a terminating namespace."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
    details = _details(resource, name) | {"causes": [{**cause, "field": "metadata.namespace"}]}
    return StatusError(403, "Forbidden", f'{resource.full_name} "{name}" is forbidden: {why}', details)


def forbidden(resource: Resource, name: str, why: str) -> StatusError:
    """Return the error for a forbidden request."""
    message = f'{resource.full_name} "{name}" is forbidden: {why}'
    return StatusError(403, "Forbidden", message, _details(resource, name))


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> StatusError:
    """Return the error for an invalid object."""
    all_of_it = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        all_of_it = f"[{all_of_it}]"
    details = _details(resource, name, kind=resource.kind) | {"causes": [vars(cause) for cause in causes]}
    message = f'{resource.full_kind} "{name}" is invalid: {all_of_it}'
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    """Return the error for a malformed request."""
    return StatusError(400, "BadRequest", message)


def unknown_format() -> StatusError:
    """Return the error for a body that is neither JSON nor YAML."""
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml"
    )
    return StatusError(415, "UnsupportedMediaType", message)
