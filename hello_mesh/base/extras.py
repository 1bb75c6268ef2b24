"""Optional extras of the package, and the error if one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from hello_mesh.base.errors import RuntimeEnvironmentError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Guard imports that need the extra `name`.

    Raises:
        RuntimeEnvironmentError: the extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or str(error)).partition(".")[0]
        raise RuntimeEnvironmentError(
            f"the extra {name!r} is not installed ({module} is missing):"
            f" run scripts/setup, or pip install 'hello-servicemesh-grpc[{name}]'"
        ) from error
