"""Local meshes whose gateway stands for the gateway of a cluster."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apiserver.kinds import Object

from hello_mesh.local.components import installed_envoy
from hello_mesh.local.mesh import RunningMesh, running_mesh
from hello_mesh.local.topology import Topology, hop_names


def _address() -> str:
    """Return a loopback address of this process. The port is always 9999, so each mesh needs its own."""
    number = os.getpid()
    return (
        "127.0.0.1"
        if sys.platform == "darwin"
        else f"127.{number >> 14 & 255}.{number >> 7 & 127}.{number & 127}"
    )


ADDRESS = _address()


@dataclass
class Meshes:
    """Starts local meshes whose gateway listens at ADDRESS, one at a time."""

    make_folder: Callable[[], Path]
    _stack: ExitStack = field(default_factory=ExitStack)
    _topology: Topology | None = None
    _mesh: RunningMesh | None = None

    def __call__(self, **settings: Any) -> RunningMesh:
        """Return a mesh with these settings, the running one if it has them."""
        topology = Topology(hop_names(3), host=ADDRESS, **settings)
        if self._mesh is None or topology != self._topology:
            self.end()
            folder = self.make_folder()
            mesh = running_mesh(topology, folder, folder / "traces.db", installed_envoy())
            self._mesh, self._topology = self._stack.enter_context(mesh), topology
        return self._mesh

    def end(self) -> None:
        """Stop the running mesh."""
        self._stack.close()
        self._mesh = None


def run_in_mesh(
    _pod: Object, _container: Object, command: Sequence[str]
) -> tuple[list[str], Mapping[str, str]]:
    """Replace the name of the first hop by ADDRESS, as DNS in a pod would."""
    here = [ADDRESS if word == "grpc-server-svc1" else word for word in command]
    return here, {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
