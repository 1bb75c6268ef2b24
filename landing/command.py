"""What the command lines have in common: shared options, and errors as users see them."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from landing.errors import HelloError, UsageError

DEFAULT_PORT = 9996

_F = TypeVar("_F", bound=Callable[..., Any])

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


class Seconds(click.FloatRange):
    """A number of seconds between two bounds. No bound keeps `nan` out, so it is refused by name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From what the user wrote."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


_INTERRUPTED_EXIT = 130


class _ShownMachineError(click.ClickException):
    """The machine does not allow what was asked for."""

    exit_code = 3


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows our own errors as one line on stderr: exit code 2 for wrong usage, 3 for the environment."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED_EXIT)  # quietly: whoever pressed Ctrl-C knows
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    except HelloError as error:
        raise _ShownMachineError(str(error)) from error


def quiet_grpc() -> None:
    """Keeps the C core of gRPC from writing to stderr: what matters reaches us as statuses and exceptions.

    The core reads its variable once, when `grpc` is imported: a command calls this first and imports
    what needs `grpc` after it. Whoever sets GRPC_VERBOSITY gets what it asks for.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def tls_options(command: _F) -> _F:
    """`--secure` and `--cert-base-path`; `certificates` makes one value of them."""
    command = click.option(
        "--cert-base-path",
        envvar="CERT_BASE_PATH",
        show_envvar=True,
        type=click.Path(path_type=Path),
        default=Path("/var/hello_grpc"),
        help="Folder with server_certs/ and client_certs/, for --secure.",
    )(command)
    return click.option(
        "--secure/--plaintext",
        envvar="GRPC_HELLO_SECURE",
        show_envvar=True,
        help="TLS with client certificates (Y), or none. There is no fallback from one to the other.",
    )(command)


def certificates(secure: bool, cert_base_path: Path) -> Path | None:
    """The folder of certificates to use, None for plaintext."""
    return cert_base_path if secure else None
