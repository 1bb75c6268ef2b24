"""The spans of one request, in any protocol."""

import json
from dataclasses import dataclass
from typing import Any

from hello_mesh.base.errors import PayloadError
from hello_mesh.base.text import excerpt
from hello_mesh.tracing.span import Span


@dataclass(frozen=True)
class Batch:
    """The spans of one request."""

    spans: tuple[Span, ...]
    rejected: int = 0
    """How many spans were invalid."""
    reason: str = ""
    """What was wrong with the first invalid one."""


def parse_json(body: bytes) -> Any:
    """Return `body` as JSON.

    Raises:
        PayloadError: it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"the body is not JSON: {excerpt(str(error), 200)}") from error
