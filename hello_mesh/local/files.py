"""Files that only their owner can read, and file errors as one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hello_mesh.base.errors import RuntimeEnvironmentError

_OWNER_ONLY = 0o600


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, completely or not at all, and return its path."""
    unfinished = path.with_name(f".{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return unfinished.replace(path)


@contextmanager
def file_errors() -> Iterator[None]:
    """Translate an error of the file system into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise RuntimeEnvironmentError(
            f"cannot use {error.filename or 'a file'}: {error.strerror or error}"
        ) from error
