"""Run the scripts as users do, and check their results."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from apiserver.kinds import Object
from apiserver.plane import Plane
from planes import Planes

ROOT = Path(__file__).parents[2]
NAMESPACE = "grpc-tracing"
PORT = ("grpc-tracing", 9999)
"""The port of the demo on the gateway."""

DEPLOYMENTS = ["grpc-client", "grpc-server-python-1", "grpc-server-python-2", "grpc-server-python-3"]
SERVICES = ["grpc-server-svc1", "grpc-server-svc2", "grpc-server-svc3"]

Done = subprocess.CompletedProcess[str]
PlanesOf = Callable[..., Planes]


def run(
    script: str,
    planes: Planes,
    *arguments: str,
    target: str = "asm",
    under: Sequence[str] = (),
    cwd: Path = ROOT,
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run apply.sh or test.sh, and wait for it.

    Args:
        script: path of the script, relative to the repository.
        planes: planes for the kubeconfigs.
        arguments: arguments after the target.
        target: the target; "" omits it.
        under: shell that runs the script; by default the one in its first line.
        cwd: working directory.
        stdin: standard input.
        env: additional variables.
    """
    return subprocess.run(
        _command(script, target, under, arguments),
        cwd=cwd,
        env=planes.environment | dict(env or {}),
        stdin=stdin,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def start(script: str, planes: Planes, *arguments: str) -> "subprocess.Popen[str]":
    """Start a script in a new session."""
    return subprocess.Popen(
        _command(script, "asm", (), arguments),
        env=planes.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output(running: "subprocess.Popen[str]") -> IO[str]:
    """Return the stdout of a running script."""
    assert running.stdout is not None
    return running.stdout


def found(plane: Plane, kind: str, name: str, namespace: str = NAMESPACE) -> Object:
    """Return an object, which must exist."""
    one = plane.get(kind, name, namespace)
    assert one is not None, f"no {kind}/{name}"
    return one


def succeeds(done: Done) -> None:
    """Assert exit code 0."""
    assert done.returncode == 0, done.stdout + done.stderr


def fails(done: Done, code: int, *texts: str) -> None:
    """Assert the exit code, and texts in stderr."""
    assert done.returncode == code, done.stdout + done.stderr
    for text in texts:
        assert text in messages(done)
    assert "Traceback" not in done.stderr
    assert "this failed" not in done.stderr


def messages(done: Done) -> str:
    """Return stderr as one line."""
    return " ".join(done.stderr.split())


def left_running(marker: str) -> list[str]:
    """Return the command lines of running processes that contain `marker`."""
    listed = subprocess.run(["ps", "-axo", "args="], check=True, capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if marker in line]


def _command(script: str, target: str, under: Sequence[str], arguments: Sequence[str]) -> list[str]:
    return [*under, str(ROOT / script), *([target] if target else []), *arguments]
