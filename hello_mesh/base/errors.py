"""Every error that a user can cause and fix, and the exit codes of all commands.

The text of an error is one line, `<thing> <problem>: <fix>`, and is shown to the user as it is.
"""

EXIT_FAILED = 1
"""A call, a trace or a check is not as expected."""
EXIT_USAGE = 2
"""An option, a variable or an argument is wrong."""
EXIT_ENVIRONMENT = 3
"""An environment error: port in use, unreadable file, no connection."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: 128 plus the number of SIGINT, as shells do."""

_FIRST_STATUS_EXIT = 64
_FIRST_SIGNAL_EXIT = 128


def exit_code_of_status(code: int) -> int:
    """Return the exit code for a gRPC status other than OK: 64 plus its number, as grpcurl does."""
    return _FIRST_STATUS_EXIT + code


def exit_code_of_signal(number: int) -> int:
    """Return the exit code of a command that a signal ended."""
    return _FIRST_SIGNAL_EXIT + number


class HelloError(Exception):
    """An error that a user can cause and fix."""


class UsageError(HelloError):
    """An option, a variable or an argument is wrong. Exit code 2."""


class RuntimeEnvironmentError(HelloError):
    """The request was right, but the environment does not allow it. Exit code 3."""


class StoreError(RuntimeEnvironmentError):
    """The file of spans cannot be opened, read or written."""


class HopReportError(HelloError):
    """A `hello-hop` value does not have the form that the contract defines."""


class PayloadError(HelloError):
    """A body that should hold spans cannot be read."""


class SpanError(PayloadError):
    """One span breaks the rules of its protocol."""


class GreetingError(HelloError):
    """A request for greetings cannot be answered."""


class UnknownIndexError(GreetingError):
    """A request names no greeting."""


class TooManyGreetingsError(GreetingError):
    """One call requests more greetings than a hop gives."""
