"""The shell scripts, started in each way that users start them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cwd, env=os.environ | variables, check=False, capture_output=True, text=True, timeout=500
    )


@pytest.fixture(autouse=True)
def _folders_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests away from a running mesh of the user, and from the user's spans."""
    folder = str(tmp_path_factory.mktemp("user"))
    for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, folder)


def _left_over(marker: str) -> list[str]:
    """Return the command lines with `marker` of processes that still run."""
    listed = subprocess.run(["ps", "-axo", "args="], check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if marker in line]


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["bash"], ["bash", "--posix"], []], ids=" ".join)
def test_test_sh_local_passes_in_every_shell(shell: list[str], tmp_path: Path) -> None:
    done = _run(*shell, ROOT / "test.sh", "local", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("connected: one trace (W3C) over 3 hops") == 4
    assert done.stdout.count(": 1 call, 1 OK trace\n") == 4
    assert done.stdout.splitlines()[-1] == "PASSED: 4 calls over 3 hops, each call one connected trace"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_settings_of_the_user_do_not_reach_the_hops() -> None:
    nowhere = "http://127.0.0.1:9"
    foreign = {"GRPC_HELLO_BACKEND": "elsewhere", "GRPC_HELLO_SECURE": "Y", "GRPC_SERVER": "x y"}
    foreign |= {
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "grpc_proxy": nowhere,
        "CDPATH": str(ROOT.parent),
    }
    done = _run("sh", "test.sh", "local", cwd=ROOT, **foreign)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["apply.sh", "test.sh"])
@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("istio", "--help")], ids=" ".join)
def test_a_script_prints_its_help(script: str, arguments: tuple[str, ...]) -> None:
    done = _run("sh", script, *arguments)
    assert done.returncode == 0
    assert f"Usage: ./{script} [asm|istio|local]" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["bash"], ["bash", "--posix"], []], ids=" ".join)
@pytest.mark.parametrize("script", ["apply.sh", "test.sh"])
def test_asm_is_the_default_target_and_a_missing_kubeconfig_is_reported(
    script: str, shell: list[str]
) -> None:
    tools = str(Path(sys.executable).parent)  # kubectl among them
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = _run(*shell, ROOT / script, ACK_KUBECONFIG="", ASM_KUBECONFIG="", PATH=path)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{script}: no kubeconfig: set the one of the ACK cluster with --ack-kubeconfig" in done.stderr
    assert f"./{script} local" in done.stderr


@pytest.mark.parametrize("script", ["apply.sh", "test.sh"])
def test_a_cluster_needs_bash_and_local_does_not(script: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dash", "sh", "dirname", "cksum", "cat", "basename"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    dash = tools / "dash"
    done = _run(dash, script, PATH=f"{tools}")
    assert (done.returncode, done.stderr) == (3, f"{script}: bash not found: a cluster needs it\n")
    done = _run(dash, script, "local", "--help", PATH=f"{tools}")
    assert (done.returncode, "Usage: hello-grpc-mesh" in done.stdout) == (0, True)


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["bash", "--posix"], []], ids=" ".join)
def test_apply_sh_starts_the_mesh_that_test_sh_uses_and_stops_it(shell: list[str], tmp_path: Path) -> None:
    folder = {"XDG_RUNTIME_DIR": str(tmp_path)}
    up = _run(
        *shell, ROOT / "apply.sh", "local", "--gateway-port", "0", "--hops", "2", cwd=tmp_path, **folder
    )
    assert up.returncode == 0, up.stderr
    try:
        assert "mesh is ready: 2 hops" in up.stdout
        test = _run(*shell, ROOT / "test.sh", "local", cwd=tmp_path, **folder)
        assert "PASSED: 4 calls over 2 hops" in test.stdout
        logs = [*shell, str(ROOT / "apply.sh"), "local", "logs"]
        with subprocess.Popen(
            logs, cwd=tmp_path, env=os.environ | folder, stdout=subprocess.PIPE, text=True
        ) as following:
            assert following.stdout
            assert re.match(r"[\w-]+ \| ", following.stdout.readline())
            following.terminate()
    finally:
        down = _run(*shell, ROOT / "apply.sh", "local", "--delete", cwd=tmp_path, **folder)
    assert (down.returncode, down.stdout) == (0, "mesh stopped\n")
    again = _run(*shell, ROOT / "apply.sh", "local", "--delete", cwd=tmp_path, **folder)
    assert (again.returncode, again.stdout) == (0, f"no mesh is running in {tmp_path}/hello-grpc\n")


@pytest.mark.parametrize("script", ["apply.sh", "test.sh", "scripts/setup"])
def test_an_unknown_argument_is_wrong_usage(script: str) -> None:
    done = _run("sh", script, "nonsense")
    assert done.returncode == 2
    assert "usage" in done.stderr.lower()


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_stops_everything_that_was_started(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        ["sh", ROOT / "test.sh", "local"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith(b"=="):  # then the mesh is ready
            assert running.poll() is None
        os.killpg(running.pid, number)  # as a terminal does
        output = running.stdout.read().decode()
        assert running.wait(30) == 128 + number
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []
    assert _left_over(str(tmp_path)) == []


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Return a clean clone with nothing installed."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    yield folder
    shutil.rmtree(folder)


def test_a_virtual_environment_of_the_user_is_not_removed(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/mine").touch()
    done = _run("sh", "scripts/setup", cwd=clone)
    assert done.returncode == 3
    assert ".venv exists and was not created by scripts/setup" in done.stderr
    assert (clone / ".venv/mine").exists()


def test_a_missing_python_is_reported(clone: Path) -> None:
    tools = clone.parent / "bin"
    tools.mkdir()
    for tool in ("dirname", "cksum", "cat", "sh"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")  # one that is too old
    (tools / "python3").chmod(0o755)
    done = _run("sh", "test.sh", "local", cwd=clone, PATH=str(tools), PYTHON="")
    assert done.returncode == 3
    assert "Python 3.11 or newer not found" in done.stderr


@pytest.mark.timeout(600)
def test_a_clean_clone_runs_the_main_job_with_one_command(clone: Path) -> None:
    done = _run("./test.sh", "local", cwd=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    again = _run("./test.sh", "local", cwd=clone)
    assert "creating .venv" not in again.stderr
    status = _run("git", "status", "--porcelain", cwd=clone)
    assert status.stdout == ""
