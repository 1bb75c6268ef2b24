"""Real meshes on free ports, one for all tests of a module that want the same; and the command."""

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

from hello_mesh.local.identity import born
from hello_mesh.local.mesh import Mesh, RunningMesh, installed_envoy, running_mesh
from hello_mesh.local.run_dir import Place
from hello_mesh.local.topology import Topology, hop_names

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def mesh_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningMesh]]:
    """A running mesh of so many hops: mesh_of(3, tracer="b3"). Another one that ran before is ended."""
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
    """Somebody at a terminal of their own: nothing set, and folders that nobody else uses."""

    folder: Path
    _started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Their variables."""
        ours = ("GRPC_", "OTEL_", "XDG_")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        folders = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "TMPDIR": "tmp"}
        return clean | {key: str(self.folder / name) for key, name in folders.items()}

    def run(self, command: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs one of our commands to its end."""
        return subprocess.run(
            [BIN / command, *arguments],
            env=self.environment | variables,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def mesh(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs hello-grpc-mesh to its end."""
        return self.run("hello-grpc-mesh", *arguments)

    def start(
        self, command: str, *arguments: str, stdout: int | TextIO = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        """Starts one of our commands."""
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
        """Starts a mesh in the foreground, on free ports, and waits until it is ready."""
        process = self.start("hello-grpc-mesh", "up", "--gateway-port", "0", *arguments)
        assert process.stdout
        assert "is ready" in process.stdout.readline()
        mesh = self.state()
        assert mesh is not None
        return process, mesh

    def place(self, name: str = "default") -> Place:
        """Where a mesh has its files."""
        return Place(self.folder / "run" / "hello-grpc", name)

    def state(self, name: str = "default") -> Mesh | None:
        """The mesh that runs."""
        return self.place(name).read()

    def leave(self) -> None:
        """Ends what was started."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)
        for lock in (self.folder / "run").glob("hello-grpc/*.lock"):
            self.place(lock.stem).down()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Somebody who uses the commands; what they left running is ended."""
    for name in ("run", "state", "tmp"):
        (tmp_path / name).mkdir()
    somebody = User(tmp_path)
    yield somebody
    somebody.leave()


def alive(mesh: Mesh) -> list[str]:
    """The parts of a mesh that still run."""
    return [part.name for part in mesh.parts if born(part.pid) == part.born]


@pytest.fixture
def still_alive() -> Callable[[Mesh], list[str]]:
    """The parts of a mesh that still run."""
    return alive


@pytest.fixture
def kill() -> Callable[[Mesh, str], None]:
    """Kills a part of a mesh."""

    def kill(mesh: Mesh, name: str) -> None:
        (pid,) = (part.pid for part in mesh.parts if part.name == name)
        os.kill(pid, signal.SIGKILL)

    return kill


@pytest.fixture
def lines_of() -> Callable[[Path, int], list[Any]]:
    """Waits until a file has so many JSON lines, and returns them."""

    def lines_of(path: Path, count: int) -> list[Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
            if len(whole) >= count:
                return [json.loads(line) for line in whole]
            time.sleep(0.01)
        raise AssertionError(f"{path} has fewer than {count} lines")

    return lines_of
