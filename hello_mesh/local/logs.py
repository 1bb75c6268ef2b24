"""The logs of a mesh's components, each line with the component's name."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_FOLLOW_SECONDS = 0.1


@dataclass
class _GrowingLog:
    """A log file that is read as it grows."""

    name: str
    path: Path
    _position: int = 0
    _rest: bytes = field(default=b"")

    def new_lines(self) -> Iterator[str]:
        """Yield the complete lines since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        self._position += len(content)
        *complete, self._rest = (self._rest + content).split(b"\n")
        for line in complete:
            yield f"{self.name} | {line.decode(errors='replace')}"


def log_lines(logs: Sequence[tuple[str, Path]], is_running: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of some logs, component by component, then new lines as they appear.

    Args:
        logs: the components' names and log files.
        is_running: called regularly; new lines are awaited as long as it returns True.
    """
    growing = [_GrowingLog(name, path) for name, path in logs]
    while True:
        last = not is_running()  # before reading, so that no final line is missed
        for log in growing:
            yield from log.new_lines()
        if last:
            return
        time.sleep(_FOLLOW_SECONDS)
