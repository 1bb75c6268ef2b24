"""Files that nobody else may read, and what goes wrong with them as one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hello_mesh.base.errors import RuntimeEnvironmentError

_OURS_ALONE = 0o600


def write_private(path: Path, content: bytes) -> Path:
    """Writes a file that only its owner may read, whole or not at all, and returns its path."""
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OURS_ALONE), "wb") as file:
        file.write(content)
    return fresh.replace(path)


@contextmanager
def file_errors() -> Iterator[None]:
    """Shows what the file system refuses as one line that names the file."""
    try:
        yield
    except OSError as error:
        raise RuntimeEnvironmentError(
            f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
        ) from error
