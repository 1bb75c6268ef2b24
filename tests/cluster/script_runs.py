"""The scripts, started as users start them, and what is said of how they ended."""

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
"""The gateway's port for the demo."""

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
    """Runs apply.sh or test.sh to its end, with the kubeconfigs of some planes.

    Args:
        script: which.
        planes: whose kubeconfigs it is given.
        arguments: those behind the target.
        target: "" for none.
        under: the shell that is told to run it; none: the script says itself.
        cwd: where somebody stands who calls it.
        stdin: what it reads.
        env: more variables.
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
    """Starts one of them, in a session of its own."""
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
    """What one that runs writes to stdout."""
    assert running.stdout is not None
    return running.stdout


def found(plane: Plane, kind: str, name: str, namespace: str = NAMESPACE) -> Object:
    """An object that is there."""
    one = plane.get(kind, name, namespace)
    assert one is not None, f"no {kind}/{name}"
    return one


def succeeds(done: Done) -> None:
    """It ended well."""
    assert done.returncode == 0, done.stdout + done.stderr


def fails(done: Done, code: int, *texts: str) -> None:
    """It ended with this code, and said these things, each within a line."""
    assert done.returncode == code, done.stdout + done.stderr
    for text in texts:
        assert text in said(done)
    assert "Traceback" not in done.stderr
    assert "this failed" not in done.stderr


def said(done: Done) -> str:
    """What it wrote to stderr, as one line."""
    return " ".join(done.stderr.split())


def left_running(marker: str) -> list[str]:
    """The command lines of processes that still run and hold `marker`."""
    told = subprocess.run(["ps", "-axo", "args="], check=True, capture_output=True, text=True)
    return [line for line in told.stdout.splitlines() if marker in line]


def _command(script: str, target: str, under: Sequence[str], arguments: Sequence[str]) -> list[str]:
    return [*under, str(ROOT / script), *([target] if target else []), *arguments]
