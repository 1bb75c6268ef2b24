"""The run directory: where the mesh of a user keeps its files while it runs. One mesh per directory.

A lock indicates whether a mesh runs. The process that started the mesh holds it, and every component inherits
its file descriptor. An flock belongs to the open file, on Linux as on macOS: it is released when the last of
these processes exits, even if the first was killed.
"""

import fcntl
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.components import Component
from hello_mesh.local.files import file_errors, write_private
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.processes import STOP_SECONDS, WAIT_SECONDS
from hello_mesh.local.topology import topology_from_json

_OWNER_ONLY_FOLDER = 0o700

# Killed components hold the lock for a moment, and so does a command that checks whether a mesh runs.
_LOCK_SECONDS = 1.0

# A mesh stops its components in three rounds.
_STOP_ALL_SECONDS = 3 * STOP_SECONDS + 5


@dataclass(frozen=True)
class RunDir:
    """The directory of one mesh."""

    path: Path
    """Absolute."""

    @property
    def folder(self) -> Path:
        """The mesh's own files: configuration, certificates, logs. They exist only while it runs."""
        return self.path / "mesh"

    @property
    def output(self) -> Path:
        """The output of a mesh in the background. It stays if the mesh exits with an error."""
        return self.path / "up.log"

    @property
    def _state(self) -> Path:
        return self.folder / "mesh.json"

    @property
    def _lock(self) -> Path:
        """The lock, and the mark of a run directory: the first file in it, and never removed."""
        return self.path / "hello-grpc-mesh.lock"

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Lock the directory for a mesh that runs as long as the context; its folder is new.

        Yields:
            The file descriptor of the lock. Components inherit it.

        Raises:
            RuntimeEnvironmentError: a mesh runs here, or the folder cannot be created.
        """
        with self._exclusive(_LOCK_SECONDS, self._in_use()) as descriptor:
            try:
                with file_errors():
                    os.write(descriptor, str(os.getpid()).encode())
                    self._remove_folder()
                    self.folder.mkdir(mode=_OWNER_ONLY_FOLDER)
                yield descriptor
            finally:
                self._remove_folder()

    def check_free(self) -> None:
        """Check that a mesh can start here, and create the directory.

        Raises:
            RuntimeEnvironmentError: as `lock`.
        """
        with self._exclusive(_LOCK_SECONDS, self._in_use()):
            pass

    def write(self, mesh: Mesh) -> None:
        """Record a mesh that is ready."""
        with file_errors():
            write_private(self._state, json.dumps(asdict(mesh), default=str).encode())

    def read(self) -> Mesh | None:
        """Return the mesh that runs and is ready; None if there is none."""
        if self.watcher() is None:
            return None
        with file_errors():
            return _parse_mesh(self._state.read_bytes()) if self._state.exists() else None

    def watcher(self) -> int | None:
        """Return the PID of the process that watches the mesh; None if no mesh runs here.

        Raises:
            RuntimeEnvironmentError: others can write to the directory.
        """
        if not self._is_run_directory():
            return None
        with file_errors(), self._lock.open("r+") as lock:
            # Shared: two commands that check at the same time do not take each other for a mesh.
            if _acquire(lock.fileno(), fcntl.LOCK_SH):
                return None
            return int(lock.read() or 0) or None

    def stop(self) -> bool:
        """Stop the mesh. Return whether one ran.

        Raises:
            RuntimeEnvironmentError: it does not stop.
        """
        watcher = self.watcher()
        if not self._is_run_directory():
            return False
        if watcher is not None:
            with suppress(ProcessLookupError):  # it was killed, and its components are about to exit
                os.kill(watcher, signal.SIGTERM)
        error = RuntimeEnvironmentError(f"the mesh does not stop: check process {watcher}")
        with self._exclusive(_STOP_ALL_SECONDS, error), file_errors():
            found = watcher is not None or self.output.exists()
            self._remove_folder()
            self.output.unlink(missing_ok=True)
        return found

    @contextmanager
    def _exclusive(self, seconds: float, error: RuntimeEnvironmentError) -> Iterator[int]:
        """Hold the lock, without the PID of an earlier holder; raise `error` if it is not free in time."""
        self._create()
        with file_errors():
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+"):
            if not _acquire(descriptor, fcntl.LOCK_EX, seconds):
                raise error
            os.ftruncate(descriptor, 0)
            try:
                yield descriptor
            finally:
                os.ftruncate(descriptor, 0)

    def _create(self) -> None:
        with file_errors():
            self.path.mkdir(mode=_OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            self._check_owner()
            names = {entry.name for entry in self.path.iterdir()}
            if names and self._lock.name not in names:
                raise RuntimeEnvironmentError(
                    f"{self.path} has files that hello-grpc-mesh did not create:"
                    " choose another directory with --run-dir"
                )

    def _is_run_directory(self) -> bool:
        """Return whether the directory exists and a mesh created it.

        Raises:
            RuntimeEnvironmentError: others can write to it.
        """
        with file_errors():
            if not self.path.exists():
                return False
            self._check_owner()
            return self._lock.exists()

    def _in_use(self) -> RuntimeEnvironmentError:
        return RuntimeEnvironmentError(
            f"a mesh is already running in {self.path}: stop it with hello-grpc-mesh down,"
            " or choose another directory with --run-dir"
        )

    def _check_owner(self) -> None:
        """Refuse a directory, or a link, that another user created first in a shared temporary folder."""
        found = self.path.stat()
        owners = {found.st_uid, self.path.lstat().st_uid}
        if owners != {os.getuid()}:
            raise RuntimeEnvironmentError(
                f"{self.path} belongs to another user: choose another directory with --run-dir"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RuntimeEnvironmentError(
                f"other users can write to {self.path}: run chmod go-w, or choose another with --run-dir"
            )

    def _remove_folder(self) -> None:
        with file_errors():
            if self.folder.exists():
                shutil.rmtree(self.folder)


def _parse_mesh(text: bytes) -> Mesh:
    values = json.loads(text)
    values["topology"] = topology_from_json(values["topology"])
    values["store"] = Path(values["store"])
    values["components"] = tuple(Component(**component) for component in values["components"])
    return Mesh(**values)


def _acquire(descriptor: int, operation: int, seconds: float = 0.0) -> bool:
    """Try to get a lock for a while. Return whether it was acquired."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(WAIT_SECONDS)
        else:
            return True
