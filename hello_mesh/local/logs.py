"""The logs of a mesh's components, each line with the component's name."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_FOLLOW_SECONDS = 0.1


@dataclass
class _GrowingLog:
    """A log file that is read as it grows. It stays open: its last lines can be read after its removal."""

    name: str
    file: BinaryIO
    _rest: bytes = field(default=b"")

    def new_lines(self) -> Iterator[str]:
        """Yield the complete lines since the last call."""
        *complete, self._rest = (self._rest + self.file.read()).split(b"\n")
        for line in complete:
            yield f"{self.name} | {line.decode(errors='replace')}"


def log_lines(logs: Sequence[tuple[str, Path]], is_running: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of some logs, component by component, then new lines as they appear.

    Args:
        logs: the components' names and log files.
        is_running: called regularly; new lines are awaited as long as it returns True.
    """
    with ExitStack() as files:
        growing = [
            _GrowingLog(name, files.enter_context(path.open("rb"))) for name, path in logs if path.exists()
        ]
        while True:
            last = not is_running()  # before reading, so that no final line is missed
            for log in growing:
                yield from log.new_lines()
            if last:
                return
            time.sleep(_FOLLOW_SECONDS)
