"""A program that runs as long as a context: started, waited for, and stopped, with its log in a file."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from landing.errors import MachineError

START_SECONDS = 30.0
"""How long a program may take until it is ready: far longer than it does on a slow machine."""

STOP_SECONDS = 15.0
"""How long a program may take to end after SIGTERM before it is killed."""

_TAIL_LINES = 15

# What a user set for a hop or a client of theirs must not reach the ones that are started here.
_OUR_VARIABLES = re.compile(r"GRPC_HELLO_\w+|GRPC_SERVER(_PORT)?|CERT_BASE_PATH")


@dataclass(frozen=True)
class Running:
    """A program that is ready."""

    name: str
    ready_line: str
    """The line by which it said so."""
    log: Path
    popen: "subprocess.Popen[bytes]"


def installed(command: str) -> str:
    """The path of a command that was installed together with this package.

    Raises:
        MachineError: it is not there.
    """
    path = Path(sys.executable).with_name(command)
    if not path.is_file():
        raise MachineError(f"{path} is not there: install the project with scripts/setup")
    return str(path)


def environment() -> Mapping[str, str]:
    """This process's environment without the settings of hops and clients."""
    return {key: value for key, value in os.environ.items() if not _OUR_VARIABLES.fullmatch(key)}


@contextmanager
def program(name: str, command: Sequence[str], log: Path, ready: str) -> Iterator[Running]:
    """Runs a program until the context ends.

    Args:
        name: what errors call it.
        command: the program and its arguments.
        log: the file that takes its stderr.
        ready: a regular expression; the program is ready when a line of its stdout matches.

    Raises:
        MachineError: it cannot be started, ends before it is ready, or takes too long; with its last words.
    """
    with log.open("wb") as stderr:
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for us: we stop the programs in order
            )
        except OSError as error:
            raise MachineError(f"{name} cannot be started: {error}") from error
    try:
        yield Running(name, _wait_until_ready(name, popen, log, re.compile(ready)), log, popen)
    finally:
        _stop(popen)


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it logged nothing)"


def _wait_until_ready(
    name: str, popen: "subprocess.Popen[bytes]", log: Path, ready: "re.Pattern[str]"
) -> str:
    assert popen.stdout is not None  # asked for above
    deadline = time.monotonic() + START_SECONDS
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([popen.stdout], [], [], left)[0]:
            break
        if not (chunk := os.read(popen.stdout.fileno(), 4096)):
            code = popen.wait(STOP_SECONDS)
            raise MachineError(f"{name} ended with exit code {code} before it was ready:\n{tail(log)}")
        said += chunk
        for line in said.decode(errors="replace").splitlines():
            if ready.search(line):
                return line
    raise MachineError(f"{name} was not ready within {START_SECONDS:g} s:\n{tail(log)}")


def _stop(popen: "subprocess.Popen[bytes]") -> None:
    if popen.poll() is None:
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
    if popen.stdout:
        popen.stdout.close()
