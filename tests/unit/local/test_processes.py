"""Starting and stopping programs."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local import processes as process
from hello_mesh.local.identity import born
from hello_mesh.local.processes import Program, Programs, leave_on_signals, programs

READY = "print('ready', flush=True); "


def _start(group: Programs, tmp_path: Path, code: str, name: str = "it") -> Program:
    return group.start(name, [sys.executable, "-c", code], tmp_path / "log")


def _ready(program: Program) -> str:
    return program.wait(lambda: program.line("^ready"))


def test_a_program_runs_until_the_context_ends(tmp_path: Path) -> None:
    with programs() as group:
        program = _start(group, tmp_path, READY + "import time; time.sleep(600)")
        assert _ready(program) == "ready"
        assert program.ending() is None
    assert program.popen.poll() == -15
    assert program.ending() == "it was ended by SIGTERM"


def test_a_program_that_ends_too_early_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeEnvironmentError, match=r"it ended with exit code 1 before it was ready: the disk is full"
    ):
        with programs() as group:
            _ready(_start(group, tmp_path, "import sys; sys.exit('the disk is full')"))


def test_many_last_words_stand_below_the_error(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeEnvironmentError, match=r"it ended with exit code 1 before it was ready:\n  one\n  two"
    ):
        with programs() as group:
            _ready(_start(group, tmp_path, "import sys; sys.exit('one\\ntwo')"))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeEnvironmentError, match=r"ghost cannot be started: .*No such file"):
        with programs() as group:
            group.start("ghost", [str(tmp_path / "ghost")], tmp_path / "log")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeEnvironmentError, match=r"away/log cannot be used: No such file"):
        with programs() as group:
            group.start("it", [sys.executable], tmp_path / "away/log")


def test_a_program_that_takes_too_long_is_named_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.5)
    with programs() as group:
        program = _start(group, tmp_path, "import time; time.sleep(600)", "slow")
        with pytest.raises(RuntimeEnvironmentError, match="slow was not ready within"):
            _ready(program)
    assert program.popen.poll() == -15


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(600)"
    with programs() as group:
        program = _start(group, tmp_path, code)
        _ready(program)
    assert program.popen.poll() == -9


def test_one_that_cannot_start_is_told_from_the_others(tmp_path: Path) -> None:
    with programs() as group:
        well = _start(group, tmp_path, READY + "import time; time.sleep(600)")
        _ready(well)
        ill = group.start("ill", [sys.executable, "-c", "raise SystemExit(7)"], tmp_path / "ill")
        with pytest.raises(RuntimeEnvironmentError, match="ill ended with exit code 7"):
            _ready(ill)
    assert well.popen.poll() == -15


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of signals are afterwards as they were before."""
    before = {number: signal.getsignal(number) for number in process.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_amid_a_start_comes_when_the_program_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_on_signals()
    real = process._popen

    def interrupted(*arguments: object) -> object:
        popen = real(*arguments)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        return popen

    monkeypatch.setattr(process, "_popen", interrupted)
    group = Programs()
    with pytest.raises(SystemExit):
        _start(group, tmp_path, "import time; time.sleep(600)")
    (program,) = group
    group.stop()
    assert born(program.popen.pid) is None


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_does_not_cut_the_cleaning_up_short(tmp_path: Path) -> None:
    leave_on_signals()
    with programs() as group:
        program = _start(group, tmp_path, "import time; time.sleep(600)")
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 130
    assert program.popen.poll() is not None
