"""Processes that run as long as a context: started together, awaited, watched and stopped.

All of them share one process group with a guard. The guard kills the group when the process that started it
exits for any reason, SIGKILL included. All of this is POSIX: it works alike on Linux and macOS.
"""

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

from hello_mesh.base.errors import RuntimeEnvironmentError, exit_code_of_signal
from hello_mesh.local.files import file_errors

START_SECONDS = 30.0
"""How long a process may take to become ready: far longer than it does on a slow host."""

STOP_SECONDS = 15.0
"""How long a process may take to exit after SIGTERM before it is killed."""

WAIT_SECONDS = 0.01
"""The pause between two checks of a condition."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals with which a user stops a command."""

_TAIL_LINES = 15

# Variables that a user set for a hop or a client must not reach the processes started here.
_SETTINGS = re.compile(r"GRPC_HELLO_\w+|GRPC_SERVER(_PORT)?|CERT_BASE_PATH|OTEL_\w+")

# Its input ends when the process that started it exits. 0 is the guard's own process group. No child can miss
# the signal: it joins the group before exec, and only exec closes its copy of the pipe.
_GUARD = ("sh", "-c", "read -r _; kill -KILL 0")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Program:
    """A program that was started."""

    name: str
    log: Path
    """Its output, stdout and stderr."""
    popen: "subprocess.Popen[bytes]"

    def wait_for(self, ready: Callable[[], _T | None]) -> _T:
        """Wait until `ready` returns a value other than None, and return that.

        Raises:
            RuntimeEnvironmentError: the program exits first, or takes too long; with its last lines.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            exited = self.popen.poll() is not None
            found = ready()
            if found is not None:
                return found
            if exited:
                raise RuntimeEnvironmentError(f"{self.exit_status()} before it was ready:{_output(self.log)}")
            time.sleep(WAIT_SECONDS)
        raise RuntimeEnvironmentError(
            f"{self.name} was not ready within {START_SECONDS:g} s:{_output(self.log)}"
        )

    def find_line(self, pattern: str) -> str | None:
        """Return the first line of its output so far that matches a regular expression."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in lines if re.search(pattern, line)), None)

    def exit_status(self) -> str | None:
        """Return how it exited, in a sentence; None while it runs."""
        code = self.popen.poll()
        if code is None:
            return None
        if code < 0:
            return f"{self.name} was killed by {signal.Signals(-code).name}"
        return f"{self.name} exited with code {code}"

    def exit_report(self) -> str | None:
        """Return how it exited, and its last lines; None while it runs."""
        status = self.exit_status()
        return None if status is None else f"{status}; its last lines:\n{tail(self.log)}"


@dataclass(frozen=True)
class Guard:
    """The process group that processes join, and the files that they inherit."""

    group: int
    inherited: tuple[int, ...]


@contextmanager
def guarded(inherited: Sequence[int] = ()) -> Iterator[Guard]:
    """Start a guard. When the context ends, or this process exits, nothing of the group is left.

    Args:
        inherited: file descriptors that the guard and all processes of the group keep open.
    """
    reader, writer = os.pipe()  # not inherited: only this process holds the end for writing
    with _deferred_signals():
        guard = subprocess.Popen(
            _GUARD, stdin=reader, stdout=subprocess.DEVNULL, process_group=0, pass_fds=inherited
        )
        os.close(reader)
    try:
        yield Guard(guard.pid, tuple(inherited))
    finally:
        os.close(writer)
        guard.wait()


class ProgramGroup:
    """Programs that stop together."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._started: list[Program] = []

    def __iter__(self) -> Iterator[Program]:
        return iter(self._started)

    def start(self, name: str, command: Sequence[str], log: Path) -> Program:
        """Start a program.

        Args:
            name: its name in errors.
            command: the program and its arguments.
            log: the file for its output.

        Raises:
            RuntimeEnvironmentError: it cannot be started.
        """
        with file_errors(), log.open("ab") as output, _deferred_signals():
            program = Program(name, log, self._popen(name, command, output.fileno()))
            self._started.append(program)
        return program

    def stop(self) -> None:
        """Stop the programs that still run: SIGTERM, then SIGKILL for those that ignore it."""
        for program in self._started:
            if program.popen.poll() is None:
                program.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for program in self._started:
            _wait_or_kill(program.popen, deadline)

    def _popen(self, name: str, command: Sequence[str], output: int) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment(),
                # Ctrl-C reaches only the group in the foreground: this process stops the programs in order.
                process_group=self._guard.group,
                pass_fds=self._guard.inherited,
            )
        except OSError as error:
            raise RuntimeEnvironmentError(f"cannot start {name}: {error}") from error


@contextmanager
def program_group(guard: Guard) -> Iterator[ProgramGroup]:
    """Return a group of programs that stop when the context ends."""
    group = ProgramGroup(guard)
    try:
        yield group
    finally:
        group.stop()


def installed_command(name: str) -> str:
    """Return the path of a command that was installed together with this package.

    Raises:
        RuntimeEnvironmentError: it is missing.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise RuntimeEnvironmentError(f"command {path} not found: install the project with scripts/setup")
    return str(path)


def clean_environment() -> Mapping[str, str]:
    """Return this process's environment without the settings of hops and clients."""
    return {key: value for key, value in os.environ.items() if not _SETTINGS.fullmatch(key)}


def tail(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (no output)"


def exit_on_signals() -> None:
    """Let `STOP_SIGNALS` end this process as an exception does, so that every context cleans up."""
    for number in STOP_SIGNALS:
        signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    sys.exit(exit_code_of_signal(number))


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Defer signals until a child is registered, so that none can leak it."""
    received: list[int] = []
    handlers: dict[int, Any] = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)


def _output(log: Path) -> str:
    """Return the output of a program: after the sentence if it is one line, otherwise below it."""
    lines = log.read_text(errors="replace").splitlines()
    return f" {lines[0].removeprefix('Error: ')}" if len(lines) == 1 else f"\n{tail(log)}"


def _wait_or_kill(popen: "subprocess.Popen[bytes]", deadline: float) -> None:
    try:
        popen.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
