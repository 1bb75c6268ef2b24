"""The logs of a mesh's parts, each line with the name of its part."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_POLL_SECONDS = 0.1


@dataclass
class _Tail:
    """A log that is read as it grows."""

    name: str
    path: Path
    _position: int = 0
    _rest: bytes = field(default=b"")

    def lines(self) -> Iterator[str]:
        """The whole lines that have come since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        self._position += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        for line in whole:
            yield f"{self.name} | {line.decode(errors='replace')}"


def lines(logs: Sequence[tuple[str, Path]], goes_on: Callable[[], bool]) -> Iterator[str]:
    """What stands in some logs, part by part, and while `goes_on` says so what comes then, as it comes.

    Args:
        logs: the parts' names and files.
        goes_on: asked every now and then whether to wait for more.
    """
    tails = [_Tail(name, path) for name, path in logs]
    while True:
        last = not goes_on()  # before reading, so that the last lines are not missed
        for tail in tails:
            yield from tail.lines()
        if last:
            return
        time.sleep(_POLL_SECONDS)
