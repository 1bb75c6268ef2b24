"""Programs that run as long as a context: started together, waited for, watched and stopped, each with its
output in a file."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.files import file_errors

START_SECONDS = 30.0
"""How long a program may take until it is ready: far longer than it does on a slow machine."""

STOP_SECONDS = 15.0
"""How long a program may take to end after SIGTERM before it is killed."""

POLL_SECONDS = 0.01

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those by which a user ends a command."""

_TAIL_LINES = 15

# What a user set for a hop or a client of theirs must not reach the ones that are started here.
_OUR_VARIABLES = re.compile(r"GRPC_HELLO_\w+|GRPC_SERVER(_PORT)?|CERT_BASE_PATH|OTEL_\w+")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Program:
    """A program that was started."""

    name: str
    log: Path
    """What it writes, stdout and stderr."""
    popen: "subprocess.Popen[bytes]"

    def wait(self, ready: Callable[[], _T | None]) -> _T:
        """Waits until `ready` returns something, and returns that.

        Raises:
            RuntimeEnvironmentError: the program ends before, or takes too long; with its last words.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ended = self.popen.poll() is not None
            found = ready()
            if found is not None:
                return found
            if ended:
                raise RuntimeEnvironmentError(f"{self.ending()} before it was ready:{_said(self.log)}")
            time.sleep(POLL_SECONDS)
        raise RuntimeEnvironmentError(
            f"{self.name} was not ready within {START_SECONDS:g} s:{_said(self.log)}"
        )

    def line(self, pattern: str) -> str | None:
        """The first line that it wrote so far in which a regular expression matches."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in lines if re.search(pattern, line)), None)

    def ending(self) -> str | None:
        """How it ended, in a sentence; None while it runs."""
        code = self.popen.poll()
        if code is None:
            return None
        if code < 0:
            return f"{self.name} was ended by {signal.Signals(-code).name}"
        return f"{self.name} ended with exit code {code}"

    def obituary(self) -> str | None:
        """How it ended and its last words; None while it runs."""
        ending = self.ending()
        return None if ending is None else f"{ending}; its last lines:\n{tail(self.log)}"


class Programs:
    """Programs that end together."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def __iter__(self) -> Iterator[Program]:
        return iter(self._started)

    def start(self, name: str, command: Sequence[str], log: Path) -> Program:
        """Starts one.

        Args:
            name: what errors call it.
            command: the program and its arguments.
            log: the file that takes what it writes.

        Raises:
            RuntimeEnvironmentError: it cannot be started.
        """
        with file_errors(), log.open("ab") as output, _signals_later():
            program = Program(name, log, _popen(name, command, output.fileno()))
            self._started.append(program)
        return program

    def stop(self) -> None:
        """Ends all that still run: SIGTERM, and SIGKILL to those that do not mind it."""
        for program in self._started:
            if program.popen.poll() is None:
                program.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for program in self._started:
            _reap(program.popen, deadline)


@contextmanager
def programs() -> Iterator[Programs]:
    """Programs that end when the context ends."""
    started = Programs()
    try:
        yield started
    finally:
        started.stop()


def installed(command: str) -> str:
    """The path of a command that was installed together with this package.

    Raises:
        RuntimeEnvironmentError: it is not there.
    """
    path = Path(sys.executable).with_name(command)
    if not path.is_file():
        raise RuntimeEnvironmentError(f"{path} is not there: install the project with scripts/setup")
    return str(path)


def environment() -> Mapping[str, str]:
    """This process's environment without the settings of hops and clients."""
    return {key: value for key, value in os.environ.items() if not _OUR_VARIABLES.fullmatch(key)}


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it logged nothing)"


def leave_on_signals() -> None:
    """Makes the signals of `SIGNALS` end this program as an exception does, so that every context on the way
    ends what it started."""
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second one must not cut the cleaning up short
    sys.exit(128 + number)


def _popen(name: str, command: Sequence[str], output: int) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for us: we stop the programs in order
        )
    except OSError as error:
        raise RuntimeEnvironmentError(f"{name} cannot be started: {error}") from error


@contextmanager
def _signals_later() -> Iterator[None]:
    """Signals that come meanwhile come at the end: none between a program's start and our knowing it."""
    came: list[int] = []
    handlers: dict[int, Any] = {
        number: signal.signal(number, lambda number, _frame: came.append(number)) for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _said(log: Path) -> str:
    """What a program said: behind the sentence where it is one line, else below it."""
    lines = log.read_text(errors="replace").splitlines()
    return f" {lines[0].removeprefix('Error: ')}" if len(lines) == 1 else f"\n{tail(log)}"


def _reap(popen: "subprocess.Popen[bytes]", deadline: float) -> None:
    try:
        popen.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
