"""What happens around every call to this hop, whether it answers or relays: the hop report, the log line,
the translation of errors into statuses, and the count of calls under way."""

from __future__ import annotations  # the types of grpc take arguments in stubs only

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from hello_mesh.base import log
from hello_mesh.base.errors import GreetingError, TooManyGreetingsError, UnknownIndexError
from hello_mesh.net.rpc import LANDING_SERVICE, method_path
from hello_mesh.propagation import hop_report

_logger = logging.getLogger(__name__)

_CODES: dict[type[GreetingError], grpc.StatusCode] = {
    UnknownIndexError: grpc.StatusCode.INVALID_ARGUMENT,
    TooManyGreetingsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# How long a cancellation may come behind the end of the messages that it causes.
_CANCELLATION_SECONDS = 0.002

Context = grpc.aio.ServicerContext[Any, Any]
Decode = Callable[[bytes], Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallFrame(grpc.aio.ServerInterceptor):
    """Frames the calls of the service; health checks and reflection pass untouched."""

    def __init__(self, name: str, role: hop_report.Role, *, call_log: bool) -> None:
        """`call_log`: whether every call leaves a line in the log."""
        self._name = name
        self._role = role
        self._call_log = call_log
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refuses = False

    def refuse_new_calls(self) -> None:
        """From now on every new call ends UNAVAILABLE; those under way go on."""
        self._refuses = True

    async def idle(self) -> None:
        """Returns as soon as no call of the service is under way."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(method_path("")):
            return handler
        return self._framed(handler, handler_call_details.method.removeprefix(method_path("")))

    def _framed(self, handler: Handler, method: str) -> Handler:
        """The same handler of the same kind, with its behaviour inside the frame."""
        kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        behaviour = getattr(handler, kind)
        decode = handler.request_deserializer or _as_it_is

        async def framed(received: Any, context: Context) -> Any:
            async with self._frame(method, context):
                streams = LANDING_SERVICE.methods_by_name[method].client_streaming
                requests = (
                    _requests(received, decode, streams=streams)
                    if handler.request_streaming
                    else decode(received)
                )
                if not inspect.isasyncgenfunction(behaviour):
                    return await behaviour(requests, context)
                async with aclosing(behaviour(requests, context)) as responses:
                    async for response in responses:
                        await context.write(response)
                return None

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        # Bytes come in, and are decoded inside the frame: outside, bytes that are no message would end in
        # a traceback and in UNKNOWN.
        framed_handler: Handler = make(framed, None, handler.response_serializer)
        return framed_handler

    @asynccontextmanager
    async def _frame(self, method: str, context: Context) -> AsyncIterator[None]:
        hop = hop_report.Hop.from_metadata(self._name, self._role, tuple(context.invocation_metadata() or ()))
        log.trace_id.set(hop.trace_id)  # each call runs in a task of its own, and the value ends with it
        # Set first, it goes out however the call ends.
        context.set_trailing_metadata(((hop_report.HOP_METADATA_KEY, hop_report.encode(hop)),))
        started = time.monotonic()
        peer = unquote(context.peer())  # asked now: gRPC forgets it when the call is over
        ending = grpc.StatusCode.UNKNOWN  # what gRPC makes of an exception that nobody foresaw
        self._under_way += 1
        self._idle.clear()
        try:
            if self._refuses:
                await context.abort(grpc.StatusCode.UNAVAILABLE, f"{self._name} is shutting down")
            yield
            ending = grpc.StatusCode.OK
        except GreetingError as error:
            ending = _CODES[type(error)]
            await context.abort(ending, str(error))
        except DecodeError:
            ending = grpc.StatusCode.INTERNAL  # as gRPC in other languages says it
            await context.abort(ending, "the bytes received are no TalkRequest")
        except grpc.aio.AbortError:
            ending = context.code()
            raise
        except asyncio.CancelledError:
            ending = _cut_off(context)
            raise
        except grpc.aio.InternalError as error:
            # Nothing can be sent any more: for the caller the call is over, and the task of the call is
            # cancelled a moment later.
            ending = _cut_off(context)
            raise asyncio.CancelledError from error
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            if self._call_log:
                facts = log.fields(
                    code=ending.name, ms=round((time.monotonic() - started) * 1000, 1), peer=peer
                )
                _logger.info(method, extra=facts)


async def _requests(received: AsyncIterator[bytes], decode: Decode, *, streams: bool) -> AsyncIterator[Any]:
    """The messages of a call. It ends only where the caller has said that it is done.

    grpc.aio ends `received` alike where the caller has cancelled, or its deadline has passed, and cancels
    the task of the call a moment later. Whoever took that for the end would answer half a stream, or pass
    it on as a whole one.

    Args:
        received: the messages as bytes.
        decode: makes a message of bytes.
        streams: whether the caller may send more than one; one is complete when it is there.
    """
    complete = False
    async for message in received:
        complete = not streams
        yield decode(message)
    if not complete:
        await asyncio.sleep(_CANCELLATION_SECONDS)


def _cut_off(context: Context) -> grpc.StatusCode:
    """How a call ended that its caller, or its deadline, has cut off."""
    late = context.time_remaining() == 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _as_it_is(message: bytes) -> bytes:
    return message


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"
