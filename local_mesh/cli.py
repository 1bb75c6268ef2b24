"""The command line of the local mesh."""

import signal
import sys
from types import FrameType

import click

from landing.command import CONTEXT_SETTINGS, user_errors
from local_mesh import chain
from local_mesh.check import check


@click.group(context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """The chain on this machine."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


@main.command(context_settings=CONTEXT_SETTINGS)
@click.option(
    "--drop-at",
    type=click.Choice(chain.NAMES[:-1]),
    help="Let this hop forward no headers: the test must then fail and name it.",
)
def test(drop_at: str | None) -> None:
    """Start svc3, svc2 and svc1 on free ports, call all four patterns through them, end them again.

    Exit codes: 0 all went well; 1 a call was wrong; 2 wrong usage; 3 the machine does not allow it.
    """
    with user_errors(), chain.running(drop_at=drop_at) as hops:
        passed = check(hops)
    sys.exit(0 if passed else 1)


def _leave(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that every context on the way ends what it started.
    sys.exit(128 + number)
