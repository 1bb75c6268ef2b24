"""Lines to a file descriptor without ever blocking the caller: a bounded queue, and one thread that writes."""

import os
import threading
from collections import deque

_MAX_WAITING = 20_000
# Lines wait this long, so that one write carries many of them.
_INTERVAL_SECONDS = 0.2
_CLOSE_SECONDS = 2.0


class LineWriter:
    """Writes lines in the background. Lines that a blocked reader leaves no room for are dropped and counted."""

    def __init__(self, descriptor: int, max_waiting: int = _MAX_WAITING) -> None:
        self._descriptor = descriptor
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line, without its line break."""
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(line)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued; give up after two seconds where nobody reads."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while not self._closing.wait(_INTERVAL_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(f"{dropped} lines dropped")
        data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass  # the reader has gone: there is nowhere to report it
