"""The meshes of this user that run: each in a folder of its own, found by its name.

Beside the folder lies a lock, held for as long as the command runs that watches over the mesh. So nobody has
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

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local import topology
from hello_mesh.local.files import file_errors, write_private
from hello_mesh.local.identity import born
from hello_mesh.local.mesh import Mesh, Part
from hello_mesh.local.processes import POLL_SECONDS, STOP_SECONDS

_OURS_ALONE = 0o700

# Somebody who asks whether a mesh runs holds its lock for a moment.
_LOCK_SECONDS = 0.5

# A mesh ends its parts in three rounds.
_DOWN_SECONDS = 3 * STOP_SECONDS + 5


@dataclass(frozen=True)
class Place:
    """Where a mesh of a certain name has its files."""

    base: Path
    """The folder of all meshes of this user; absolute."""
    name: str

    @property
    def folder(self) -> Path:
        """The mesh's own: configuration, certificates, logs."""
        return self.base / self.name

    @property
    def output(self) -> Path:
        """What a mesh in the background said; it stays behind when the mesh ends with an error."""
        return self.base / f"{self.name}.out"

    @property
    def _state(self) -> Path:
        return self.folder / "mesh.json"

    @property
    def _lock(self) -> Path:
        return self.base / f"{self.name}.lock"

    def prepare(self) -> None:
        """Makes the folder of all meshes.

        Raises:
            RuntimeEnvironmentError: it cannot be made, or is somebody else's.
        """
        with file_errors():
            self.base.mkdir(mode=_OURS_ALONE, parents=True, exist_ok=True)
            # In a folder that everybody may write to, somebody else may have been faster.
            if self.base.stat().st_uid != os.getuid():
                raise RuntimeEnvironmentError(
                    f"{self.base} belongs to somebody else: choose another with --run-dir"
                )

    @contextmanager
    def taken(self) -> Iterator[None]:
        """This place, for a mesh that runs as long as the context; its folder is new, and goes at the end.

        Raises:
            RuntimeEnvironmentError: a mesh of this name runs, or the folder cannot be made.
        """
        self.prepare()
        with file_errors():
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+") as lock:
            if not _acquired(lock.fileno(), _LOCK_SECONDS):
                raise self._taken()
            try:
                with file_errors():
                    self.clear()
                    self.folder.mkdir(mode=_OURS_ALONE)
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, str(os.getpid()).encode())
                yield
            finally:
                os.ftruncate(descriptor, 0)
                self.clear()

    def check_free(self) -> None:
        """Looks whether a mesh could take this place now.

        Raises:
            RuntimeEnvironmentError: as `taken`.
        """
        self.prepare()
        if self.watcher() is not None:
            raise self._taken()

    def _taken(self) -> RuntimeEnvironmentError:
        return RuntimeEnvironmentError(
            f"a mesh named {self.name} runs already: end it with hello-grpc-mesh down, or use --name"
        )

    def write(self, mesh: Mesh) -> None:
        """Says that the mesh is ready, and what it is."""
        with file_errors():
            write_private(self._state, json.dumps(asdict(mesh), default=str).encode())

    def read(self) -> Mesh | None:
        """The mesh that runs and is ready; None where there is none."""
        return None if self.watcher() is None else self._read()

    def watcher(self) -> int | None:
        """The process that watches over the mesh; None where no mesh of this name runs."""
        with file_errors():
            if not self._lock.exists():
                return None
            with self._lock.open("r+") as lock:
                if _acquired(lock.fileno()):
                    return None
                return int(lock.read() or 0) or None

    def down(self) -> bool:
        """Ends the mesh, and what one left that was killed; returns whether there was anything to end.

        Raises:
            RuntimeEnvironmentError: it does not end.
        """
        watcher = self.watcher()
        if watcher is None:
            found = self.folder.exists() or self.output.exists()
            self.clear()
            self.output.unlink(missing_ok=True)
            return found
        os.kill(watcher, signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_SECONDS
        while self.watcher() is not None:
            if time.monotonic() > deadline:
                raise RuntimeEnvironmentError(f"the mesh {self.name} does not end: look at process {watcher}")
            time.sleep(POLL_SECONDS)
        self.output.unlink(missing_ok=True)
        return True

    def clear(self) -> None:
        """Removes the folder, and ends what still runs of a mesh whose watcher was killed."""
        mesh = self._read()
        for part in mesh.parts if mesh else ():
            if born(part.pid) == part.born:  # and so no other process that has its number now
                os.kill(part.pid, signal.SIGKILL)
        if self.folder.exists():
            with file_errors():
                shutil.rmtree(self.folder)

    def _read(self) -> Mesh | None:
        with file_errors():
            return _mesh(self._state.read_bytes()) if self._state.exists() else None


def _mesh(text: bytes) -> Mesh:
    values = json.loads(text)
    values["topology"] = topology.from_json(values["topology"])
    values["store"] = Path(values["store"])
    values["parts"] = tuple(Part(**part) for part in values["parts"])
    return Mesh(**values)


def _acquired(descriptor: int, seconds: float = 0.0) -> bool:
    """Whether a lock could be taken."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True
