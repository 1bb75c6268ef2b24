"""Lines to a file descriptor that never block their writer: a bounded queue, drained by one thread."""

import os
import threading
from collections import deque

_MAX_WAITING = 20_000

# Lines wait so long, so that one system call writes many of them.
_INTERVAL_SECONDS = 0.2

_CLOSE_SECONDS = 2.0


class LineWriter:
    """Writes lines in the background.

    If the reader of the descriptor stops reading, lines beyond the bound are dropped and counted.
    """

    def __init__(self, descriptor: int, max_waiting: int = _MAX_WAITING) -> None:
        self._descriptor = descriptor
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="line-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line, which may hold line breaks of its own; the final one is added."""
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(line)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued. Give up after two seconds if the reader has stopped reading."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while not self._closing.wait(_INTERVAL_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(f"{dropped} lines dropped: the reader of the log is too slow")
        data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass  # the reader has gone, so the error cannot be reported either
