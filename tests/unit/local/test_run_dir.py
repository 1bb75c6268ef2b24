"""The run directory and its lock, without a mesh."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.run_dir import RunDir


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    """Return a run directory that does not exist yet."""
    return RunDir(tmp_path / "new" / "run")


@contextmanager
def component(run_dir: RunDir, seconds: float = 600) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that inherits the lock; the process that started it gives the lock up."""
    with run_dir.lock() as lock:
        sleeping = subprocess.Popen(["sleep", str(seconds)], pass_fds=[lock])
    with sleeping:
        yield sleeping
        sleeping.kill()


def test_the_directory_is_for_its_owner_only(run_dir: RunDir) -> None:
    with run_dir.lock():
        assert run_dir.path.stat().st_mode & 0o777 == 0o700
        assert run_dir.folder.stat().st_mode & 0o777 == 0o700
        assert run_dir.watcher() == os.getpid()
    assert not run_dir.folder.exists()
    assert run_dir.watcher() is None


def test_a_check_creates_nothing(run_dir: RunDir) -> None:
    assert (run_dir.watcher(), run_dir.read(), run_dir.stop()) == (None, None, False)
    assert not run_dir.path.exists()


def test_an_empty_directory_can_be_used(tmp_path: Path) -> None:
    with RunDir(tmp_path).lock():
        assert RunDir(tmp_path).watcher() == os.getpid()


def test_a_link_to_a_directory_of_the_user_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with RunDir(tmp_path / "link").lock():
        assert RunDir(tmp_path / "real").watcher() == os.getpid()


def test_the_lock_is_held_until_the_last_component_is_gone(run_dir: RunDir) -> None:
    with component(run_dir) as running:
        for lock in (run_dir.check_free, run_dir.lock().__enter__):
            with pytest.raises(RuntimeEnvironmentError, match=r"a mesh is already running in .*/new/run"):
                lock()
        running.kill()
        running.wait()
        run_dir.check_free()


def test_a_new_mesh_waits_briefly_for_the_last_component(run_dir: RunDir) -> None:
    with component(run_dir, seconds=0.3):
        started = time.monotonic()
        with run_dir.lock():
            assert 0.1 < time.monotonic() - started < 1


def test_commands_that_check_at_the_same_time_are_not_taken_for_a_mesh(run_dir: RunDir) -> None:
    run_dir.check_free()
    with (run_dir.path / "hello-grpc-mesh.lock").open("r+") as lock:
        lock.write("1")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert run_dir.watcher() is None


def test_a_process_that_has_the_pid_of_a_killed_watcher_is_not_stopped(run_dir: RunDir) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        run_dir.check_free()
        (run_dir.path / "hello-grpc-mesh.lock").write_text(str(other.pid))
        run_dir.folder.mkdir()
        run_dir.output.write_text("the output of a killed mesh")
        assert run_dir.stop()
        assert other.poll() is None
        other.kill()
    assert [path.name for path in run_dir.path.iterdir()] == ["hello-grpc-mesh.lock"]


def test_stop_sends_sigterm_to_the_watcher_and_waits(run_dir: RunDir) -> None:
    code = (
        "import sys, time; from pathlib import Path; from hello_mesh.local.run_dir import RunDir\n"
        "from hello_mesh.local.processes import exit_on_signals\n"
        "exit_on_signals()\n"
        f"with RunDir(Path({str(run_dir.path)!r})).lock(): print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as watcher:
        assert watcher.stdout
        watcher.stdout.readline()
        assert run_dir.watcher() == watcher.pid
        assert run_dir.stop()
        assert watcher.wait(5) == 128 + signal.SIGTERM
    assert not run_dir.folder.exists()
