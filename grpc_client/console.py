"""Runs a plan for a user: prints the responses and the path of each call, and returns an exit code."""

import asyncio
import io
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from grpc_client import render
from grpc_client.calls import Outcome, run
from grpc_client.checks import Checks
from grpc_client.expectation import Expectation, Mismatch, mismatches, short_answer
from grpc_client.plan import CallSpec, Plan
from grpc_client.stats import CallStats
from hello_mesh.base.errors import EXIT_FAILED, RuntimeEnvironmentError, exit_code_of_status
from hello_mesh.base.text import excerpt
from hello_mesh.net.pb.landing_pb2 import TalkResponse

# How many failures of one run are shown; the counts cover the rest.
_SHOWN_FAILURES = 10


def show(plan: Plan, *, as_json: bool) -> int:
    """Make the calls of a plan, print their results, and return the exit code.

    Args:
        plan: the calls, and what is expected of them.
        as_json: print JSON lines instead of text.

    Raises:
        RuntimeEnvironmentError: certificates cannot be read, there is no connection in time, or the output
            cannot be written.
        BrokenPipeError: the reader of the output has exited.
    """
    kind = _JsonConsole if as_json else _CountingConsole if plan.repeat > 1 else _TextConsole
    started = time.monotonic()
    with _progress_bar(plan, enabled=kind is _CountingConsole) as on_progress:
        console = kind(plan, on_progress)
        try:
            asyncio.run(run(plan, console.on_response, console.on_outcome, console.on_notice))
        except ExceptionGroup as group:  # from the worker tasks, which fail only when they print
            raise _output_error(group.exceptions[0]) from None
    try:
        if plan.repeat > 1:
            console.show_stats(time.monotonic() - started)
        console.show_checks()
    except OSError as error:
        raise _output_error(error) from None
    return console.exit_code


def _output_error(error: Exception) -> Exception:
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        sys.stdout = io.StringIO()  # otherwise Python flushes again at exit and reports the error twice
        return RuntimeEnvironmentError(f"cannot write the output: {error.strerror}")
    return error  # click exits quietly on a broken pipe


@contextmanager
def _progress_bar(plan: Plan, *, enabled: bool) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each call; it advances a progress bar if stderr is a terminal."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda: None
        return
    with click.progressbar(length=plan.total_calls, file=sys.stderr, show_pos=True) as bar:
        yield lambda: bar.update(1)


class _Console(ABC):
    """What all output formats share: comparing outcomes with the expectation, and counting them."""

    def __init__(self, plan: Plan, on_progress: Callable[[], None]) -> None:
        self.exit_code = 0
        self._checks = (
            None if plan.expect_hops is None else Checks(Expectation(plan.expect_hops, plan.expect_sidecars))
        )
        self._on_progress = on_progress
        self._stats: dict[CallSpec, CallStats] = {}
        self._shown_failures = 0

    @abstractmethod
    def on_response(self, number: int, spec: CallSpec, response: TalkResponse) -> None:
        """Show a response as it arrives."""

    def on_outcome(self, outcome: Outcome) -> None:
        """Count and show a finished call."""
        found = self._compare(outcome)
        self._stats.setdefault(outcome.spec, CallStats()).add(outcome)
        self.exit_code = self.exit_code or _exit_code(outcome, found)
        self._on_progress()
        self._show(outcome, found)

    def _compare(self, outcome: Outcome) -> Sequence[Mismatch]:
        if self._checks is None:
            return short_answer(outcome)
        found = mismatches(outcome, self._checks.expected)
        self._checks.add(outcome, found)
        return found

    def on_notice(self, text: str) -> None:
        """Show a message that does not belong to a call."""
        click.echo(excerpt(text, 300), err=True)

    @abstractmethod
    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None: ...

    def _show_failures(self, lines: Sequence[str]) -> None:
        for line in lines[: _SHOWN_FAILURES - self._shown_failures]:
            self._shown_failures += 1
            click.echo(line, err=True)

    def show_stats(self, seconds: float) -> None:
        """Show the counts for each method."""
        for spec, stats in self._stats.items():
            click.echo(self._stats_output(spec, stats, seconds))

    @abstractmethod
    def _stats_output(self, spec: CallSpec, stats: CallStats, seconds: float) -> str: ...

    def show_checks(self) -> None:
        """Show the result of each check, if there is an expectation."""
        if self._checks is not None:
            click.echo(self._checks_output(self._checks))

    @abstractmethod
    def _checks_output(self, checks: Checks) -> str: ...


class _JsonConsole(_Console):
    """Prints every response and every outcome as one line."""

    def on_response(self, number: int, spec: CallSpec, response: TalkResponse) -> None:
        click.echo(render.response_json(number, spec, response))

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        click.echo(render.call_json(outcome.record([mismatch.text for mismatch in found])))
        if not outcome.ok:
            self._show_failures([render.failure_text(outcome)])

    def _stats_output(self, spec: CallSpec, stats: CallStats, seconds: float) -> str:
        return render.stats_json(spec, stats, seconds)

    def _checks_output(self, checks: Checks) -> str:
        return render.checks_json(checks)


class _TextConsole(_Console):
    """Prints each call with its responses and its path."""

    _titled = 0

    def on_response(self, number: int, spec: CallSpec, response: TalkResponse) -> None:
        self._show_title(number, spec)
        click.echo(render.response_text(response))

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        self._show_title(outcome.number, outcome.spec)
        if table := render.hop_table(outcome.hops):
            click.echo(f"\n{table}")
        if not outcome.ok:
            click.echo(render.failure_text(outcome), err=True)
        click.echo(f"{render.outcome_verdict(outcome)}\n")
        for mismatch in found:
            click.echo(f"mismatch: {mismatch.text}", err=True)

    def _show_title(self, number: int, spec: CallSpec) -> None:
        if number != self._titled:
            self._titled = number
            click.secho(spec.method.rpc, bold=True)

    def _stats_output(self, spec: CallSpec, stats: CallStats, seconds: float) -> str:
        return render.stats_text(spec, stats, seconds)

    def _checks_output(self, checks: Checks) -> str:
        return f"{render.checks_text(checks)}\n"


class _CountingConsole(_TextConsole):
    """Prints the counts of many calls and only the first failures."""

    def _checks_output(self, checks: Checks) -> str:
        return f"\n{super()._checks_output(checks)}"

    def on_response(self, number: int, spec: CallSpec, response: TalkResponse) -> None:
        """Print nothing: the counts cover it."""

    def _show(self, outcome: Outcome, found: Sequence[Mismatch]) -> None:
        failures = [f"mismatch: {mismatch.text}" for mismatch in found]
        if not outcome.ok:
            failures = [render.failure_text(outcome)]
        trace_id = outcome.verdict.trace_id or (outcome.sent.trace_id if outcome.sent else None)
        trace = f" (trace {excerpt(trace_id)})" if trace_id else ""
        self._show_failures([f"call {outcome.number}: {failure}{trace}" for failure in failures])


def _exit_code(outcome: Outcome, found: Sequence[Mismatch]) -> int:
    if not outcome.ok:
        return exit_code_of_status(outcome.code.value[0])
    return EXIT_FAILED if found else 0
