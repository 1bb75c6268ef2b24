"""A middle hop: calls the next hop, and passes on everything that belongs to the caller."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from grpc_server.call import CallContext, Calls, ServedCall, read_requests
from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.rpc import method_path
from hello_mesh.propagation.headers import propagated_trailers

_MAX_TIMEOUT_SECONDS = 100 * 365 * 86400.0


class Relay:
    """The four methods, each bound once to the server.

    Messages pass as bytes: a relay never looks inside them, and loses no field that it does not know.
    """

    def __init__(self, calls: Calls, channel: grpc.aio.Channel) -> None:
        self._calls = calls
        self._talk: Any = channel.unary_unary(method_path("Talk"))
        self._talk_more: Any = channel.stream_unary(method_path("TalkMoreAnswerOne"))
        self._one_answer_more: Any = channel.unary_stream(method_path("TalkOneAnswerMore"))
        self._bidirectional: Any = channel.stream_stream(method_path("TalkBidirectional"))

    async def Talk(self, request: bytes, context: CallContext) -> bytes:
        """Relay one request and one response."""
        async with self._calls.serve("Talk", context) as served:
            call = self._talk(request, **self._outgoing(context, served))
            return await _forward_response(call, None, context, served)

    async def TalkOneAnswerMore(self, request: bytes, context: CallContext) -> AsyncIterator[bytes]:
        """Relay one request and a stream of responses."""
        async with self._calls.serve("TalkOneAnswerMore", context) as served:
            call = self._one_answer_more(request, **self._outgoing(context, served))
            async for response in _forward_responses(call, context, served):
                yield response

    async def TalkMoreAnswerOne(self, _requests: AsyncIterator[bytes], context: CallContext) -> bytes:
        """Relay a stream of requests and one response."""
        async with self._calls.serve("TalkMoreAnswerOne", context) as served:
            call = self._talk_more(read_requests(context), **self._outgoing(context, served))
            return await _forward_response(call, StatusWatcher(call), context, served)

    async def TalkBidirectional(
        self, _requests: AsyncIterator[bytes], context: CallContext
    ) -> AsyncIterator[bytes]:
        """Relay two streams."""
        async with self._calls.serve("TalkBidirectional", context) as served:
            call = self._bidirectional(read_requests(context), **self._outgoing(context, served))
            async for response in _forward_responses(call, context, served):
                yield response

    def _outgoing(self, context: CallContext, served: ServedCall) -> dict[str, Any]:
        """Return the trace headers and the deadline of the outgoing call."""
        return {
            "metadata": served.headers if self._calls.forward else (),
            "timeout": remaining_timeout(context.time_remaining()),
        }


async def _forward_responses(call: Any, context: CallContext, served: ServedCall) -> AsyncIterator[bytes]:
    """Yield the next hop's responses, then end the caller's call with the next hop's status.

    Meanwhile, gRPC sends the caller's requests to the next hop. It takes one only when there is room for it,
    so at most one message per direction is held here.
    """
    watcher = StatusWatcher(call)
    try:
        if initial := propagated_trailers(await call.initial_metadata()):
            await context.send_initial_metadata(initial)
        async for response in _uninterrupted(call):
            yield response
    except grpc.aio.AioRpcError:
        pass  # the next hop ended the call: `propagate_status` passes its status on
    finally:
        call.cancel()  # no effect on a call that is over
    await propagate_status(await watcher.status(), context, served)


async def _forward_response(
    call: Any, watcher: StatusWatcher | None, context: CallContext, served: ServedCall
) -> bytes:
    """Return the next hop's only response, or end the caller's call with the next hop's status.

    A `watcher` is needed where requests are streamed: one that cannot be sent hides the true status.
    """
    try:
        response: bytes = await call
    except grpc.aio.AioRpcError as error:
        trailing: Any = error.trailing_metadata()
        status = CallStatus(error.code(), error.details() or "", tuple(trailing))
        if watcher is not None:
            status = await watcher.status()
        if status.code is grpc.StatusCode.OK:
            text = "the next hop ended the call without a response"
            status = CallStatus(grpc.StatusCode.INTERNAL, text, status.trailing)
        await propagate_status(status, context, served)
        raise
    if initial := propagated_trailers(await call.initial_metadata()):
        await context.send_initial_metadata(initial)
    if trailers := propagated_trailers(await call.trailing_metadata()):
        context.set_trailing_metadata((*served.report, *trailers))
    return response


async def _uninterrupted(call: Any) -> AsyncIterator[bytes]:
    """Yield the responses of a call without cancelling a read: grpc.aio never frees a cancelled one.

    https://github.com/grpc/grpc/issues/43360
    """
    responses = aiter(call)
    while True:
        reading = asyncio.ensure_future(anext(responses))
        try:
            response = await asyncio.shield(reading)
        except asyncio.CancelledError:
            call.cancel()  # which ends the read
            await asyncio.wait((reading,))
            reading.exception()  # retrieved, so that asyncio does not log it
            raise
        except StopAsyncIteration:
            return
        yield response


def remaining_timeout(seconds: float | None) -> float | None:
    """Return the timeout of the outgoing call in seconds: the time that is left, None without a deadline.

    gRPC sends a timeout with three digits, rounded up, so a call could gain time at every hop. One
    millisecond below a number of three digits is sent as that number.
    """
    if seconds is None:
        return None
    # gRPC cannot represent a point in time after the year 2262: an endless timeout would have passed already.
    milliseconds = int(min(seconds, _MAX_TIMEOUT_SECONDS) * 1000)
    unit: int = 10 ** max(0, len(str(milliseconds)) - 3)
    return max(0, milliseconds // unit * unit - 1) / 1000


async def propagate_status(status: CallStatus, context: CallContext, served: ServedCall) -> None:
    """End the caller's call as the next hop ended its own: the same status, text and trailing metadata."""
    # This hop's own report stays first: hops report in the order of the path.
    context.set_trailing_metadata((*served.report, *propagated_trailers(status.trailing)))
    if status.code is not grpc.StatusCode.OK:
        await context.abort(status.code, status.details)
