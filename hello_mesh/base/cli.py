"""Shared by all command lines: options, parsing, and the translation of errors for the user."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from hello_mesh.base.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, HelloError, UsageError

DEFAULT_PORT = 9996

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile("(tcp|udp|sctp)://")

_F = TypeVar("_F", bound=Callable[..., Any])


class _EnvironmentClickError(click.ClickException):
    exit_code = EXIT_ENVIRONMENT


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Show an error of `hello_mesh.base.errors` as one line on stderr, and exit with its code.

    Ctrl-C exits quietly. `Command` and `Group` do this for everything inside a command.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    except HelloError as error:
        raise _EnvironmentClickError(str(error)) from error


def _prepare_output() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):  # either may be closed from the start
        # A terminal without the needed characters shows escapes instead of failing.
        stream.reconfigure(errors="backslashreplace")


class Command(click.Command):
    """A command that shows our errors as one line."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option for help. A prefix for variables must not give it one: it would end every run."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.allow_from_autoenv = False
        return option

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with reporting_errors():
            _prepare_output()
            return super().invoke(ctx)


class Group(click.Group):
    """A group whose commands show our errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        with reporting_errors():
            _prepare_output()
            return super().invoke(ctx)


class PortOption(click.Option):
    """A port whose variable may be set by Kubernetes, for another purpose.

    For a Service `grpc-server`, every pod gets GRPC_SERVER_PORT=tcp://10.0.0.7:9996. Ignore such a value.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the variable, None if it is a link to a Service."""
        value = super().resolve_envvar_value(ctx)
        return None if value and _SERVICE_LINK.match(value) else value


class Seconds(click.FloatRange):
    """A number of seconds within bounds. No bound excludes `nan`, so it is refused here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or refuse the value."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def parsed_by(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a click callback that reads each value with `parse`; a `UsageError` then names the option."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(map(parse, value))
            return None if value is None else parse(value)
        except UsageError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def comma_separated(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list.

    Raises:
        UsageError: the list is empty.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("the list is empty: give at least one name")
    return names


def all_options(*options: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Return several options as one decorator, in the order of the help page."""

    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def quiet_grpc() -> None:
    """Keep gRPC's C core from writing to stderr; a GRPC_VERBOSITY in the environment wins.

    The core reads the variable once, when `grpc` is imported, so a command calls this before that import.
    Errors reach the command as statuses and exceptions.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Text for people, or JSON: one object per line.",
)

tls_options = all_options(
    click.option(
        "--secure/--plaintext",
        envvar="GRPC_HELLO_SECURE",
        show_envvar=True,
        help="TLS with client certificates, or plaintext; the variable takes Y or N. There is no fallback.",
    ),
    click.option(
        "--cert-base-path",
        envvar="CERT_BASE_PATH",
        allow_from_autoenv=False,
        show_envvar=True,
        type=click.Path(path_type=Path),
        default=Path("/var/hello_grpc"),
        help="Folder with server_certs/ and client_certs/, for --secure.",
    ),
)


def certificates(secure: bool, cert_base_path: Path) -> Path | None:
    """Return the folder of certificates to use; None means plaintext."""
    return cert_base_path if secure else None
