"""Starting and stopping programs."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local import processes
from hello_mesh.local.processes import Program, ProgramGroup, exit_on_signals, guarded, program_group


@contextmanager
def running_group() -> Iterator[ProgramGroup]:
    with guarded() as guard, program_group(guard) as group:
        yield group


READY = "print('ready', flush=True); "


def _start(group: ProgramGroup, tmp_path: Path, code: str, name: str = "it") -> Program:
    return group.start(name, [sys.executable, "-c", code], tmp_path / "log")


def _ready(program: Program) -> str:
    return program.wait_for(lambda: program.find_line("^ready"))


def test_a_program_runs_until_the_context_ends(tmp_path: Path) -> None:
    with running_group() as group:
        program = _start(group, tmp_path, READY + "import time; time.sleep(600)")
        assert _ready(program) == "ready"
        assert program.exit_status() is None
    assert program.popen.poll() == -15
    assert program.exit_status() == "it was killed by SIGTERM"


def test_a_program_that_exits_too_early_is_named_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeEnvironmentError, match=r"it exited with code 1 before it was ready: the disk is full"
    ):
        with running_group() as group:
            _ready(_start(group, tmp_path, "import sys; sys.exit('the disk is full')"))


def test_several_lines_of_output_are_below_the_error(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeEnvironmentError, match=r"it exited with code 1 before it was ready:\n  one\n  two"
    ):
        with running_group() as group:
            _ready(_start(group, tmp_path, "import sys; sys.exit('one\\ntwo')"))


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeEnvironmentError, match=r"cannot start ghost: .*No such file"):
        with running_group() as group:
            group.start("ghost", [str(tmp_path / "ghost")], tmp_path / "log")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeEnvironmentError, match=r"cannot use .*away/log: No such file"):
        with running_group() as group:
            group.start("it", [sys.executable], tmp_path / "away/log")


def test_a_program_that_takes_too_long_is_named_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "START_SECONDS", 0.5)
    with running_group() as group:
        program = _start(group, tmp_path, "import time; time.sleep(600)", "slow")
        with pytest.raises(RuntimeEnvironmentError, match="slow was not ready within"):
            _ready(program)
    assert program.popen.poll() == -15


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(600)"
    with running_group() as group:
        program = _start(group, tmp_path, code)
        _ready(program)
    assert program.popen.poll() == -9


def test_the_program_that_cannot_start_is_the_one_that_is_named(tmp_path: Path) -> None:
    with running_group() as group:
        well = _start(group, tmp_path, READY + "import time; time.sleep(600)")
        _ready(well)
        ill = group.start("ill", [sys.executable, "-c", "raise SystemExit(7)"], tmp_path / "ill")
        with pytest.raises(RuntimeEnvironmentError, match="ill exited with code 7"):
            _ready(ill)
    assert well.popen.poll() == -15


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the signal handlers after the test."""
    before = {number: signal.getsignal(number) for number in processes.STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_during_a_start_is_deferred_until_the_program_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_on_signals()
    real = ProgramGroup._popen

    def interrupted(*arguments: Any) -> Any:
        popen = real(*arguments)
        signal.raise_signal(signal.SIGTERM)
        return popen

    monkeypatch.setattr(ProgramGroup, "_popen", interrupted)
    with guarded() as guard:
        group = ProgramGroup(guard)
        with pytest.raises(SystemExit):
            _start(group, tmp_path, "import time; time.sleep(600)")
        (program,) = group
        group.stop()
        assert program.popen.poll() == -15


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_does_not_interrupt_the_clean_up(tmp_path: Path) -> None:
    exit_on_signals()
    with running_group() as group:
        program = _start(group, tmp_path, "import time; time.sleep(600)")
        with pytest.raises(SystemExit) as exited:
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert exited.value.code == 130
    assert program.popen.poll() is not None


def test_the_guard_kills_the_group_when_its_starter_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"""
import sys, time
from pathlib import Path
from hello_mesh.local.processes import guarded, program_group
with guarded() as guard, program_group(guard) as group:
    program = group.start("it", [sys.executable, "-c", "import time; time.sleep(600)"], Path({str(log)!r}))
    print(program.popen.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert _is_running(pid)
        starter.kill()
    deadline = time.monotonic() + 5
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")
