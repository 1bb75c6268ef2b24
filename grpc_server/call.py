"""Common to every call to this hop: hop report, log line, errors as statuses, in-flight gate."""

from __future__ import annotations  # the types of grpc take arguments in stubs only

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from hello_mesh.base import log
from hello_mesh.base.errors import GreetingError, TooManyGreetingsError, UnknownIndexError
from hello_mesh.propagation.headers import ExtraHeaders, propagated_headers
from hello_mesh.propagation.hop_report import HOP_METADATA_KEY, Hop, Role, encode
from hello_mesh.propagation.trace_context import MetadataPairs

CallContext: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

_STATUS_CODES: dict[type[GreetingError], grpc.StatusCode] = {
    UnknownIndexError: grpc.StatusCode.INVALID_ARGUMENT,
    TooManyGreetingsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# grpc.aio ends the request stream slightly before it cancels the task; wait this long for the cancellation.
_CANCELLATION_SECONDS = 0.002


class CallGate:
    """Counts the calls in flight, so that a hop that drains can wait for them."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """Count one more call."""
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count one call fewer."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Return as soon as no call is in flight."""
        await self._idle.wait()


class Calls:
    """The state that all calls to one hop share."""

    def __init__(self, name: str, role: Role, extra_headers: ExtraHeaders, *, forward: bool = True) -> None:
        self.gate = CallGate()
        self._name = name
        self._role = role
        self._extra_headers = extra_headers
        self.forward = forward
        """Whether a relay propagates headers."""

    def serve(self, method: str, context: CallContext) -> ServedCall:
        """Return the context manager in which a handler serves one call of `method`."""
        # One pass over the metadata: what the report needs is among what is propagated.
        headers = propagated_headers(context.invocation_metadata() or (), self._extra_headers)
        hop = Hop.from_metadata(self._name, self._role, headers, forward=self.forward)
        return ServedCall(self, method, context, headers, hop)


class ServedCall:
    """One call while this hop serves it. Errors leave it as statuses; its end writes the log line."""

    __slots__ = ("_calls", "_context", "_method", "_peer", "_started", "_trace_id", "headers", "report")

    def __init__(
        self, calls: Calls, method: str, context: CallContext, headers: MetadataPairs, hop: Hop
    ) -> None:
        self._calls = calls
        self._method = method
        self._context = context
        self._started = time.monotonic()
        self._peer = context.peer()  # read now: gRPC forgets it when the call is over
        self._trace_id = hop.trace_id
        self.headers = headers
        """The headers to propagate on the calls that this one causes."""
        self.report = ((HOP_METADATA_KEY, encode(hop)),)
        """This hop's report, as trailing metadata."""

    async def __aenter__(self) -> Self:
        self._calls.gate.enter()
        log.trace_id.set(self._trace_id)  # each call runs in a task of its own, and the value ends with it
        # Set first, the report is sent however the call ends.
        self._context.set_trailing_metadata(self.report)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        code = grpc.StatusCode.OK if error is None else self._status_code(error)
        try:
            if isinstance(error, GreetingError):
                await self._context.abort(code, str(error))
            elif isinstance(error, DecodeError):
                await self._context.abort(code, "invalid request: the bytes received are not a TalkRequest")
            elif isinstance(error, grpc.aio.InternalError):
                # Nothing can be sent: for the caller the call is over, and its task is cancelled soon.
                raise asyncio.CancelledError from error
        finally:
            self._leave(code)

    def _status_code(self, error: BaseException) -> grpc.StatusCode:
        match error:
            case GreetingError():
                return _STATUS_CODES[type(error)]
            case DecodeError():
                return grpc.StatusCode.INTERNAL  # as gRPC in other languages does
            case grpc.aio.AbortError():
                return self._context.code()
            case asyncio.CancelledError() | GeneratorExit() | grpc.aio.InternalError():
                late = self._context.time_remaining() == 0
                return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        return grpc.StatusCode.UNKNOWN  # what gRPC makes of any other exception

    def _leave(self, code: grpc.StatusCode) -> None:
        self._calls.gate.leave()
        milliseconds = round((time.monotonic() - self._started) * 1000, 1)
        log.log_call(self._method, self._trace_id, code.name, milliseconds, unquote(self._peer))


async def read_requests(context: CallContext) -> AsyncIterator[bytes]:
    """Yield the requests of a call. The end means that the caller has half-closed the stream.

    grpc.aio ends the stream in the same way if the caller has cancelled, or its deadline has passed, and
    cancels the task a moment later. Without the wait, half a stream would be taken for a whole one.
    """
    while True:
        request: Any = await context.read()
        if request is grpc.aio.EOF:
            await asyncio.sleep(_CANCELLATION_SECONDS)
            return
        yield request
