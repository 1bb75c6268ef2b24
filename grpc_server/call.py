"""What surrounds every call to this hop: the hop report, the log line, errors as statuses, the in-flight gate."""

from __future__ import annotations  # the types of grpc take arguments in stubs only

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from hello_mesh.base import log
from hello_mesh.base.errors import GreetingError, TooManyGreetingsError, UnknownIndexError
from hello_mesh.propagation.headers import ExtraHeaders, propagated_headers
from hello_mesh.propagation.hop_report import HOP_METADATA_KEY, Hop, Role, encode

Context = grpc.aio.ServicerContext[bytes, bytes]

_STATUS_CODES: dict[type[GreetingError], grpc.StatusCode] = {
    UnknownIndexError: grpc.StatusCode.INVALID_ARGUMENT,
    TooManyGreetingsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# grpc.aio ends the request stream slightly before it cancels the task; wait this long for the cancellation.
_CANCELLATION_SECONDS = 0.002


class CallGate:
    """Counts the calls in flight, and refuses new ones while the hop drains."""

    def __init__(self) -> None:
        self.closed = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """Count one more call."""
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count one call less."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Return as soon as no call is in flight."""
        await self._idle.wait()


class Calls:
    """What all calls to one hop have in common."""

    def __init__(self, name: str, role: Role, extra: ExtraHeaders) -> None:
        self.gate = CallGate()
        self._name = name
        self._role = role
        self._extra = extra

    def serve(self, method: str, context: Context) -> ServedCall:
        """Return the context manager in which a handler serves one call."""
        headers = propagated_headers(context.invocation_metadata() or (), self._extra)
        return ServedCall(self, method, context, headers, Hop.from_metadata(self._name, self._role, headers))

    @property
    def refusal(self) -> str:
        """The status text of a call that comes too late."""
        return f"{self._name} is shutting down"


class ServedCall:
    """One call while this hop serves it. Errors leave it as statuses; leaving it writes the log line."""

    __slots__ = ("_calls", "_context", "_hop", "_method", "_peer", "_started", "headers", "report")

    def __init__(
        self,
        calls: Calls,
        method: str,
        context: Context,
        headers: tuple[tuple[str, str | bytes], ...],
        hop: Hop,
    ) -> None:
        self._calls = calls
        self._method = method
        self._context = context
        self._hop = hop
        self._started = time.monotonic()
        self._peer = context.peer()  # read now: gRPC forgets it when the call is over
        self.headers = headers
        """What to propagate on the calls that this one causes."""
        self.report = ((HOP_METADATA_KEY, encode(hop)),)
        """This hop's report, as trailing metadata."""

    async def __aenter__(self) -> ServedCall:
        self._calls.gate.enter()
        log.trace_id.set(self._hop.trace_id)
        # Set first, the report goes out however the call ends.
        self._context.set_trailing_metadata(self.report)
        if self._calls.gate.closed:
            try:
                await self._context.abort(grpc.StatusCode.UNAVAILABLE, self._calls.refusal)
            finally:
                self._leave(grpc.StatusCode.UNAVAILABLE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        code = self._code(error)
        try:
            if isinstance(error, GreetingError):
                await self._context.abort(code, str(error))
            elif isinstance(error, DecodeError):
                await self._context.abort(code, "the bytes received are no TalkRequest")
            elif isinstance(error, grpc.aio.InternalError):
                # Nothing can be sent: for the caller the call is over, and its task is cancelled soon.
                raise asyncio.CancelledError from error
        finally:
            self._leave(code)

    def _code(self, error: BaseException | None) -> grpc.StatusCode:
        if error is None:
            return grpc.StatusCode.OK
        if isinstance(error, GreetingError):
            return _STATUS_CODES[type(error)]
        if isinstance(error, DecodeError):
            return grpc.StatusCode.INTERNAL  # as gRPC in other languages does
        if isinstance(error, grpc.aio.AbortError):
            return self._context.code()
        if isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.InternalError):
            late = self._context.time_remaining() == 0
            return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        return grpc.StatusCode.UNKNOWN

    def _leave(self, code: grpc.StatusCode) -> None:
        self._calls.gate.leave()
        milliseconds = round((time.monotonic() - self._started) * 1000, 1)
        log.call_line(self._method, self._hop.trace_id, code.name, milliseconds, unquote(self._peer))


async def only_request(context: Context) -> bytes:
    """Return the one request of a call.

    Unary methods are served as request streams: grpc.aio never answers a unary call without a message.
    """
    request: Any = await context.read()
    if request is grpc.aio.EOF:
        await asyncio.sleep(_CANCELLATION_SECONDS)
        await context.abort(grpc.StatusCode.INTERNAL, "the call has no request message")
    message: bytes = request
    return message


async def all_requests(context: Context) -> AsyncIterator[bytes]:
    """Yield the requests of a call. It ends only where the caller has half-closed the stream.

    grpc.aio ends the stream alike where the caller has cancelled, or its deadline has passed, and cancels the
    task of the call a moment later. Without the wait, half a stream would pass for a whole one.
    """
    while True:
        request: Any = await context.read()
        if request is grpc.aio.EOF:
            await asyncio.sleep(_CANCELLATION_SECONDS)
            return
        yield request
