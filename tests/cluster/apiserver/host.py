"""The thread of a server and its controllers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from apiserver.server import Server
from apiserver.store import Store

ADDRESS = "127.0.0.1"

_START_SECONDS = 10.0
_SETTLE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_MIN_POLL_SECONDS = 0.005
_SOON_SECONDS = 1.0


class Controller(Protocol):
    """Moves the actual state toward the desired one."""

    def step(self) -> float | None:
        """Do one step, and return the seconds until the next one; None: after a change."""


@dataclass
class Host:
    """Runs a server and its controllers until its context ends."""

    name: str
    server: Server
    store: Store
    controllers: list[Controller]
    port: int = 0
    """The port of the server. It stays the same after the first start."""
    _loop: asyncio.AbstractEventLoop | None = None
    _runner: web.AppRunner | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: threading.Event = field(default_factory=threading.Event)
    _error: Exception | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve on a free port.

        Raises:
            Exception: a controller failed.
        """
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), name=self.name)
        thread.start()
        try:
            assert started.wait(_START_SECONDS), f"{self.name} did not start"
            yield
        finally:
            if self._loop:
                self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()
        self._check()

    def settle(self) -> None:
        """Wait until the controllers are idle."""
        settled = self._idle.wait(_SETTLE_SECONDS)
        self._check()
        assert settled, f"{self.name} is not idle after {_SETTLE_SECONDS} s"

    def listen(self) -> None:
        """Start listening, unless it does."""
        self._in_loop(self._listen)

    def close(self) -> None:
        """Stop listening."""
        self._in_loop(self._close)

    def _check(self) -> None:
        if self._error:
            raise self._error

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        self.store.since(self.store.version, lambda _change: self._wake())
        controlling = asyncio.create_task(self._control())
        started.set()
        await self._stopping.wait()
        controlling.cancel()
        await self._close()

    async def _listen(self) -> None:
        if self._runner:
            return
        self._runner = web.AppRunner(
            self.server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, ADDRESS, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def _in_loop(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(action(), self._loop).result(_START_SECONDS)

    def _wake(self) -> None:
        assert self._loop is not None
        self._idle.clear()
        self._loop.call_soon_threadsafe(self._changed.set)

    async def _control(self) -> None:
        """Run the controllers after each change, and often enough to see the settings of a test."""
        while True:
            self._changed.clear()
            try:
                due = self._step()
            except Exception as error:  # noqa: BLE001 - `settle` and the end of the context raise it
                self._error = error
                self._idle.set()
                return
            try:
                async with asyncio.timeout(max(min(due, _POLL_SECONDS), _MIN_POLL_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _step(self) -> float:
        """Run one step of each controller, and return the seconds until the next one."""
        with self.store.lock:
            before = self.store.version
            due = [seconds for each in self.controllers if (seconds := each.step()) is not None]
            first = min(due, default=_SOON_SECONDS)
            if before == self.store.version and first >= _SOON_SECONDS:
                self._idle.set()
        return first
