"""Runs a plan in front of a user: prints answers as they come, the way of each call, and at the end how it
went, as an exit code."""

import asyncio
import io
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from grpc_client import render
from grpc_client.calls import Outcome, run
from grpc_client.checks import Checks
from grpc_client.expectation import Expectation, Mismatch, mismatches
from grpc_client.plan import Plan, Talk
from grpc_client.stats import Tally
from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.base.text import excerpt
from hello_mesh.net.pb.landing_pb2 import TalkResponse

_MISMATCH_EXIT = 1
# 64 + the code of gRPC, as grpcurl does: clear of what shells and click use themselves.
_STATUS_EXIT = 64
_INTERRUPTED_EXIT = 130

# Of many calls that fail, so many are told one by one; the rest is in the counts.
_TOLD_FAILURES = 10


def show(
    plan: Plan,
    *,
    as_json: bool,
    expected: Expectation | None = None,
    record: Path | None = None,
) -> int:
    """Makes the calls of a plan and prints what comes of them.

    Args:
        plan: what to do.
        as_json: JSON lines instead of text.
        expected: what each call must be; None: whatever it is.
        record: a file that takes a JSON line for each call.

    Returns:
        The exit code.

    Raises:
        RuntimeEnvironmentError: certificates that cannot be read, no connection within the time that the plan gives,
            an output or a record that cannot be written.
        BrokenPipeError: whoever read the output has gone.
    """
    kind = _JsonConsole if as_json else _CountingConsole if plan.repeat > 1 else _TextConsole
    started = time.monotonic()
    with _progress(plan, wanted=kind is _CountingConsole) as on_progress, _recording(record) as on_line:
        console = kind(expected, on_progress, on_line)
        try:
            asyncio.run(run(plan, console.on_answer, console.on_outcome, console.on_problem))
        except KeyboardInterrupt:
            return _INTERRUPTED_EXIT
        except ExceptionGroup as group:  # of the tasks that call: what fails in them is to print
            raise _output_error(group.exceptions[0]) from None
    try:
        if plan.repeat > 1:
            console.summarize(time.monotonic() - started)
        console.show_checks()
    except OSError as error:
        raise _output_error(error) from None
    return console.exit_code


def _output_error(error: Exception) -> Exception:
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        sys.stdout = io.StringIO()  # or Python tries once more at its end, and says so
        return RuntimeEnvironmentError(f"cannot write the output: {error.strerror}")
    return error  # click ends quietly on a broken pipe


@contextmanager
def _progress(plan: Plan, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Something to call after each call: it moves a progress bar where somebody sees one."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    calls = plan.repeat * len(plan.talks)
    with click.progressbar(length=calls, file=sys.stderr, show_pos=True) as bar:
        yield lambda: bar.update(1)


@contextmanager
def _recording(path: Path | None) -> Iterator[Callable[[str], None]]:
    """Something to call with each line of the record."""
    if path is None:
        yield lambda _: None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise RuntimeEnvironmentError(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield lambda line: click.echo(line, file=file)


class _Console(ABC):
    """What both ways of output share: holding outcomes against what was expected, and counting them."""

    def __init__(
        self,
        expected: Expectation | None,
        on_progress: Callable[[], None],
        on_line: Callable[[str], None],
    ) -> None:
        self.exit_code = 0
        self._checks = None if expected is None else Checks(expected)
        self._on_progress = on_progress
        self._on_line = on_line
        self._tallies: dict[Talk, Tally] = {}

    @abstractmethod
    def on_answer(self, number: int, talk: Talk, answer: TalkResponse) -> None:
        """Shows an answer as it arrives."""

    def on_outcome(self, outcome: Outcome) -> None:
        """Counts a call that has ended and shows how."""
        found = self._check(outcome)
        self._on_line(render.outcome_json(outcome, found))
        self._tallies.setdefault(outcome.talk, Tally()).add(outcome)
        self.exit_code = self.exit_code or _exit_code(outcome, found)
        self._on_progress()
        self._show(outcome, found)

    def _check(self, outcome: Outcome) -> Sequence[Mismatch]:
        if self._checks is None:
            return ()
        found = mismatches(outcome, self._checks.expected)
        self._checks.add(outcome, found)
        return found

    def on_problem(self, text: str) -> None:
        """Shows what went wrong beside the calls."""
        click.echo(excerpt(text, 300), err=True)

    @abstractmethod
    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None: ...

    def summarize(self, seconds: float) -> None:
        """Shows the counts of each talk."""
        for talk, tally in self._tallies.items():
            click.echo(self._summary(talk, tally, seconds))

    @abstractmethod
    def _summary(self, talk: Talk, tally: Tally, seconds: float) -> str: ...

    def show_checks(self) -> None:
        """Shows how each check went over all calls, where something was expected of them."""
        if self._checks is not None:
            click.echo(self._checks_summary(self._checks))

    @abstractmethod
    def _checks_summary(self, checks: Checks) -> str: ...


class _JsonConsole(_Console):
    """Every answer and every outcome, a line each."""

    def on_answer(self, number: int, talk: Talk, answer: TalkResponse) -> None:
        click.echo(render.answer_json(number, talk, answer))

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        click.echo(render.outcome_json(outcome, found))
        if not outcome.ok:
            click.echo(render.failure(outcome), err=True)

    def _summary(self, talk: Talk, tally: Tally, seconds: float) -> str:
        return render.tally_json(talk, tally, seconds)

    def _checks_summary(self, checks: Checks) -> str:
        return render.checks_json(checks)


class _TextConsole(_Console):
    """Each call with its answers and its way."""

    _headed = 0

    def on_answer(self, number: int, talk: Talk, answer: TalkResponse) -> None:
        self._head(number, talk)
        click.echo(render.answer_text(answer))

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        self._head(outcome.number, outcome.talk)
        if table := render.hop_table(outcome.hops):
            click.echo(f"\n{table}")
        if not outcome.ok:
            click.echo(render.failure(outcome), err=True)
        click.echo(f"{render.verdict(outcome)}\n")
        for mismatch in found:
            click.echo(f"not as expected: {mismatch.text}", err=True)

    def _head(self, number: int, talk: Talk) -> None:
        if number != self._headed:
            self._headed = number
            click.secho(talk.pattern.rpc, bold=True)

    def _summary(self, talk: Talk, tally: Tally, seconds: float) -> str:
        return render.tally_text(talk, tally, seconds)

    def _checks_summary(self, checks: Checks) -> str:
        return f"{render.checks_text(checks)}\n"


class _CountingConsole(_TextConsole):
    """Many calls: only the first failures one by one, and the counts."""

    _told = 0

    def _checks_summary(self, checks: Checks) -> str:
        return f"\n{super()._checks_summary(checks)}"

    def on_answer(self, number: int, talk: Talk, answer: TalkResponse) -> None:
        """Says nothing: the counts say it."""

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        failures = [f"not as expected: {mismatch.text}" for mismatch in found]
        if not outcome.ok:
            failures = [render.failure(outcome)]
        trace_id = outcome.verdict.trace_id or outcome.sent_trace_id
        trace = f" (trace {excerpt(trace_id)})" if trace_id else ""
        for line in failures[: _TOLD_FAILURES - self._told]:
            self._told += 1
            click.echo(f"call {outcome.number}: {line}{trace}", err=True)


def _exit_code(outcome: Outcome, found: Sequence[Mismatch]) -> int:
    if not outcome.ok:
        number: int = outcome.code.value[0]
        return _STATUS_EXIT + number
    return _MISMATCH_EXIT if found else 0
