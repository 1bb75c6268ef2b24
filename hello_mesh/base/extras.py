"""What only an extra of the package brings, and what to say where it is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

from hello_mesh.base.errors import RuntimeEnvironmentError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """To be put around imports that need the extra `name`.

    Raises:
        RuntimeEnvironmentError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or str(error)).partition(".")[0]
        raise RuntimeEnvironmentError(
            f"this needs the extra {name!r}, and {module} is not installed:"
            f" scripts/setup, or pip install 'hello-servicemesh-grpc[{name}]'"
        ) from error
