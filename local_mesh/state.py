"""The meshes of this user that run: each in a folder of its own, found by its name.

Beside the folder lies a lock, held as long as the command runs that watches over the mesh. So nobody needs
to guess whether a process id that was written down is still that of a mesh.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from landing.errors import MachineError
from local_mesh import topology
from local_mesh.files import file_errors, write_private
from local_mesh.mesh import Mesh, Part
from local_mesh.process import POLL_SECONDS, START_SECONDS, STOP_SECONDS

_OURS_ALONE = 0o700


@dataclass(frozen=True)
class Place:
    """Where a mesh of a certain name has its files."""

    base: Path
    """The folder of all meshes of this user."""
    name: str

    @property
    def folder(self) -> Path:
        """The mesh's own: configuration, certificates, logs. Its path may stand in configuration: absolute."""
        return self.base.absolute() / self.name

    @property
    def output(self) -> Path:
        """What a mesh in the background writes."""
        return self.base / f"{self.name}.out"

    @property
    def _state(self) -> Path:
        return self.folder / "mesh.json"

    @property
    def _lock(self) -> Path:
        return self.base / f"{self.name}.lock"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The place, for a mesh that runs as long as the context; its folder is new, and goes at the end.

        Raises:
            MachineError: a mesh of this name runs, or the folder cannot be made.
        """
        with file_errors():
            self._make_base()
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+") as lock:
            if not _acquire(lock.fileno()):
                raise MachineError(
                    f"a mesh named {self.name} is running: end it with hello-grpc-mesh down, or use --name"
                )
            try:
                with file_errors():
                    _write_pid(lock.fileno())
                    self._clear()
                    self.folder.mkdir(mode=_OURS_ALONE)
                yield
            finally:
                self._clear()
                self._lock.unlink(missing_ok=True)

    def write(self, mesh: Mesh) -> None:
        """Says that the mesh is ready, and what it is."""
        with file_errors():
            write_private(self._state, json.dumps(asdict(mesh), default=str).encode())

    def read(self) -> Mesh | None:
        """The mesh that runs and is ready; None where there is none.

        Raises:
            MachineError: its state cannot be read.
        """
        if self.watcher() is None:
            return None
        with file_errors():
            return _mesh(json.loads(self._state.read_bytes())) if self._state.exists() else None

    def watcher(self) -> int | None:
        """The process that watches over the mesh; None where no mesh of this name runs."""
        with file_errors():
            if not self._lock.exists():
                return None
            with self._lock.open("r+") as lock:
                if _acquire(lock.fileno()):
                    return None
                text = lock.read().strip()
        return int(text) if text else None
