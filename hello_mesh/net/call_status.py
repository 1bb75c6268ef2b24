"""How a call that we made ended."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import grpc

# What grpc.aio says where a message could not be sent because the call was over already. It stands in for
# the status with which the call really ended: before that has come in, or even after, for good.
# https://github.com/grpc/grpc/issues/36066
_STAND_IN = "Internal error from Core"
_STAND_IN_SECONDS = 1.0


@dataclass(frozen=True)
class CallStatus:
    """The status of a call that is over, and what came with it."""

    code: grpc.StatusCode
    details: str
    """The status text, "" where there is none."""
    trailing: tuple[tuple[str, str | bytes], ...]
    """Trailing metadata, in its order."""


class StatusWatcher:
    """Sees how a call ends, also where grpc.aio puts another status in place of the one that came in."""

    def __init__(self, call: grpc.aio.Call) -> None:
        """To be made as soon as the call is."""
        self._call = call
        self._seen: CallStatus | None = None
        call.add_done_callback(self._see)

    async def ending(self) -> CallStatus:
        """Waits until the call is over and says how it ended."""
        ending = await _read(self._call)
        waited = 0.0
        while self._seen is None and ending.details == _STAND_IN and waited < _STAND_IN_SECONDS:
            # The true status is on its way, and grpc.aio tells nobody when it is there.
            await asyncio.sleep(0.001)
            waited += 0.001
            ending = await _read(self._call)
        return self._seen or ending

    def _see(self, _call: grpc.aio.Call) -> None:
        ending = _at_once(_read(self._call))
        if self._seen is None and ending.details != _STAND_IN:
            self._seen = ending


async def _read(call: grpc.aio.Call) -> CallStatus:
    trailing: Any = await call.trailing_metadata()
    return CallStatus(await call.code(), await call.details() or "", tuple(trailing))


def _at_once(reading: Coroutine[Any, Any, CallStatus]) -> CallStatus:
    """Runs a coroutine that has nothing to wait for: of a call that is over, all is known."""
    try:
        reading.send(None)
    except StopIteration as stop:
        found: CallStatus = stop.value
        return found
    raise AssertionError("a call that is over has no status")
