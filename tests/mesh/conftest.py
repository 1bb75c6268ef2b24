"""Real meshes on free ports, shared by the tests of a module that need the same one; and the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

from hello_mesh.local.components import installed_envoy
from hello_mesh.local.mesh import Mesh, RunningMesh, running_mesh
from hello_mesh.local.run_dir import RunDir
from hello_mesh.local.topology import Topology, hop_names

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def mesh_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningMesh]]:
    """Return a function that starts a mesh: mesh_of(3, tracer="b3"). It stops a different one first."""
    with ExitStack() as stack:
        kept: dict[Topology, RunningMesh] = {}

        def mesh_of(hops: int = 3, **settings: Any) -> RunningMesh:
            topology = Topology(hop_names(hops), gateway_port=0, **settings)
            if topology not in kept:
                stack.close()
                kept.clear()
                folder = tmp_path_factory.mktemp("mesh")
                kept[topology] = stack.enter_context(
                    running_mesh(topology, folder, folder / "traces.db", installed_envoy())
                )
            return kept[topology]

        yield mesh_of


@dataclass
class User:
    """A user with an environment of their own: no variables set, and private folders."""

    folder: Path
    _started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables."""
        ours = ("GRPC_", "OTEL_", "XDG_")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        folders = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "TMPDIR": "tmp"}
        return clean | {key: str(self.folder / name) for key, name in folders.items()}

    def run(self, command: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command until it exits."""
        return subprocess.run(
            [BIN / command, *arguments],
            env=self.environment | variables,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def mesh(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run hello-grpc-mesh until it exits."""
        return self.run("hello-grpc-mesh", *arguments)

    def start(
        self, command: str, *arguments: str, stdout: int | TextIO = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        """Start a command."""
        process = subprocess.Popen(
            [BIN / command, *arguments],
            env=self.environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def up(self, *arguments: str) -> tuple["subprocess.Popen[str]", Mesh]:
        """Start a mesh in the foreground on free ports, and wait until it is ready."""
        process = self.start("hello-grpc-mesh", "up", "--gateway-port", "0", *arguments)
        assert process.stdout
        assert "is ready" in process.stdout.readline()
        mesh = self.state()
        assert mesh is not None
        return process, mesh

    @property
    def run_dir(self) -> RunDir:
        """The default run directory."""
        return RunDir(self.folder / "run" / "hello-grpc")

    def state(self) -> Mesh | None:
        """Return the running mesh."""
        return self.run_dir.read()

    def stop_all(self) -> None:
        """Stop everything that was started."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)
        self.run_dir.stop()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A user of the commands. What they leave running is stopped."""
    for name in ("run", "state", "tmp"):
        (tmp_path / name).mkdir()
    found = User(tmp_path)
    yield found
    found.stop_all()


def alive(mesh: Mesh) -> list[str]:
    """Return the names of the components that still run."""
    return [component.name for component in mesh.components if _is_running(component.pid)]


def _is_running(pid: int) -> bool:
    # A zombie counts as gone: its parent was killed, too, and nothing may collect it in a container.
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


@pytest.fixture
def still_alive() -> Callable[[Mesh], list[str]]:
    """Return a function that names the components that still run."""
    return alive


@pytest.fixture
def kill() -> Callable[[Mesh, str], None]:
    """Return a function that kills a component."""

    def kill(mesh: Mesh, name: str) -> None:
        (pid,) = (component.pid for component in mesh.components if component.name == name)
        os.kill(pid, signal.SIGKILL)

    return kill


@pytest.fixture
def lines_of() -> Callable[[Path, int], list[Any]]:
    """Return a function that waits until a file has a number of JSON lines, and returns them."""

    def lines_of(path: Path, count: int) -> list[Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
            if len(whole) >= count:
                return [json.loads(line) for line in whole]
            time.sleep(0.01)
        raise AssertionError(f"{path} has fewer than {count} lines")

    return lines_of
