"""What one request brings, whichever protocol it came by."""

import json
from dataclasses import dataclass
from typing import Any

from hello_mesh.base.errors import PayloadError
from hello_mesh.base.text import excerpt
from hello_mesh.tracing.span import Span


@dataclass(frozen=True)
class Batch:
    """What came of one request's spans."""

    spans: tuple[Span, ...]
    rejected: int = 0
    """How many spans were wrong in themselves."""
    reason: str = ""
    """What was wrong with the first of them."""


def parse_json(body: bytes) -> Any:
    """`body` as JSON.

    Raises:
        PayloadError: where it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"the body is not JSON: {excerpt(str(error), 200)}") from error
