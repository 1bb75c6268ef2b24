"""Real meshes on free ports, one for all tests of a module that want the same."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from local_mesh.mesh import RunningMesh, installed_envoy, running
from local_mesh.topology import Topology, hop_names

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
                    running(topology, folder, folder / "traces.db", installed_envoy())
                )
            return kept[topology]

        yield mesh_of


MeshOf = Callable[..., RunningMesh]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where no spans are yet."""
    return tmp_path / "store" / "traces.db"


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has nothing set, and whose folders are the test's."""
    ours = ("GRPC_", "OTEL_", "XDG_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    (tmp_path / "run").mkdir()
    (tmp_path / "tmp").mkdir()
    return clean | {
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
