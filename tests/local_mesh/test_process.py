"""Starting and stopping programs."""

import sys
from pathlib import Path

import pytest

from landing.errors import MachineError
from local_mesh import process
from local_mesh.process import program

READY = "print('ready', flush=True); "


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_runs_until_the_context_ends(tmp_path: Path) -> None:
    command = _python(READY + "import time; time.sleep(600)")
    with program("sleeper", command, tmp_path / "log", "ready") as running:
        assert running.ready_line == "ready"
        assert running.popen.poll() is None
    assert running.popen.poll() == -15


def test_a_program_that_ends_too_early_is_named_with_its_last_words(tmp_path: Path) -> None:
    command = _python("import sys; sys.exit('the disk is full')")
    with pytest.raises(MachineError, match=r"loser ended with exit code 1 .*\n  the disk is full"):
        with program("loser", command, tmp_path / "log", "ready"):
            raise AssertionError("it never was ready")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"ghost cannot be started: .*No such file"):
        with program("ghost", [str(tmp_path / "ghost")], tmp_path / "log", "ready"):
            raise AssertionError("it never was ready")


def test_a_program_that_takes_too_long_is_named_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.5)
    command = _python("print('not yet', flush=True); import time; time.sleep(600)")
    with pytest.raises(MachineError, match="slow was not ready within"):
        with program("slow", command, tmp_path / "log", "ready"):
            raise AssertionError("it never was ready")


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(600)"
    with program("stubborn", _python(code), tmp_path / "log", "ready") as running:
        pass
    assert running.popen.poll() == -9
