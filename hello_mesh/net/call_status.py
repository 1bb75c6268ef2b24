"""The status of a call to another server."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

# grpc.aio reports this text if a message cannot be sent because the call is already over. It hides the
# status with which the call really ended, for a moment or for good.
# https://github.com/grpc/grpc/issues/36066
_PLACEHOLDER = "Internal error from Core"
_PLACEHOLDER_SECONDS = 1.0


@dataclass(frozen=True)
class CallStatus:
    """The status of a call that is over, and what came with it."""

    code: grpc.StatusCode
    details: str
    """The status text, "" if there is none."""
    trailing: tuple[tuple[str, str | bytes], ...]
    """Trailing metadata, in its order."""


class StatusWatcher:
    """Finds the status of a call, also if grpc.aio hides the one that the server sent.

    Create it right after the call.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._found: CallStatus | None = None
        call.add_done_callback(self._keep)

    async def status(self) -> CallStatus:
        """Wait until the call is over, and return its status."""
        status = await _read_status(self._call)
        waited = 0.0
        while self._found is None and status.details == _PLACEHOLDER and waited < _PLACEHOLDER_SECONDS:
            # The true status is on its way, and grpc.aio does not report its arrival.
            await asyncio.sleep(0.001)
            waited += 0.001
            status = await _read_status(self._call)
        return self._found or status

    def _keep(self, _call: grpc.aio.Call) -> None:
        status = _result_now(_read_status(self._call))
        if self._found is None and status.details != _PLACEHOLDER:
            self._found = status


async def _read_status(call: grpc.aio.Call) -> CallStatus:
    trailing: Any = await call.trailing_metadata()
    return CallStatus(await call.code(), await call.details() or "", tuple(trailing))


def _result_now(reading: Coroutine[Any, Any, CallStatus]) -> CallStatus:
    """Run a coroutine that has nothing to wait for: everything is known about a call that is over."""
    try:
        reading.send(None)
    except StopIteration as stop:
        found: CallStatus = stop.value
        return found
    raise AssertionError("the call is over, so its status is known")
