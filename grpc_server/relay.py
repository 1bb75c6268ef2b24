"""A middle hop: asks the next hop instead of answering, and passes on all that belongs to the caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.rpc import LANDING_SERVICE, method_path
from hello_mesh.propagation.headers import propagated_trailers
from hello_mesh.propagation.trace_context import Metadata

Context = grpc.aio.ServicerContext[bytes, bytes]
Call = grpc.aio.StreamStreamCall[bytes, bytes]
Forward = Callable[[Metadata], tuple[tuple[str, str | bytes], ...]]
"""Chooses, from an incoming call's metadata, what goes along on the outgoing call."""


def relay_handlers(channel: grpc.aio.Channel, forward: Forward) -> grpc.GenericRpcHandler:
    """Handlers that relay every method of the service over `channel`.

    On the wire a unary call is a stream of one message, so one relay of streams serves all four patterns;
    and since a relay never looks inside a message, it passes bytes and loses no field that it does not know.
    """
    return grpc.method_handlers_generic_handler(
        LANDING_SERVICE.full_name,
        {
            method.name: grpc.stream_stream_rpc_method_handler(_relay(channel, method.name, forward))
            for method in LANDING_SERVICE.methods
        },
    )


def _relay(
    channel: grpc.aio.Channel, method: str, forward: Forward
) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    ask: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method_path(method))

    async def relay(requests: AsyncIterator[bytes], context: Context) -> None:
        metadata = forward(tuple(context.invocation_metadata() or ()))
        call = ask(metadata=metadata, timeout=_left(context.time_remaining()))
        watch = StatusWatcher(call)
        try:
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(_pass_requests(requests, call))
                await _pass_answers(call, context)
                asking.cancel()  # the call is over, whatever the caller would still say
        finally:
            call.cancel()  # no effect on a call that is over
        await _end_alike(await watch.ending(), context)

    return relay


def _left(seconds: float | None) -> float | None:
    """The deadline of the outgoing call: the time that is left, None where there is no deadline.

    gRPC puts a timeout on the wire with three digits, rounded up, so that a call could gain time at every
    hop. A millisecond below a number of three digits, it comes out as that number.
    """
    if seconds is None:
        return None
    milliseconds = int(seconds * 1000)
    unit: int = 10 ** max(0, len(str(milliseconds)) - 3)
    return max(0, milliseconds // unit * unit - 1) / 1000


async def _pass_requests(requests: AsyncIterator[bytes], call: Call) -> None:
    # Each write waits for room towards the next hop before the next message is taken from the caller,
    # so that at no time more than one message of a stream is held here.
    try:
        async for message in requests:
            await call.write(message)
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        pass  # the next hop has ended the call: how, comes out where its answers are read


async def _pass_answers(call: Call, context: Context) -> None:
    try:
        if initial := propagated_trailers(await call.initial_metadata()):
            await context.send_initial_metadata(initial)
        async for message in call:
            await context.write(message)
    except grpc.aio.AioRpcError:
        pass  # the call has ended with a status: `_end_alike` passes it on
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error  # the caller takes no more answers


async def _end_alike(end: CallStatus, context: Context) -> None:
    """Ends the caller's call as the next hop ended its own: the same status, text and trailing metadata."""
    # This hop's own trailing metadata is there already and stays first: hops report in order of the way.
    context.set_trailing_metadata((*context.trailing_metadata(), *propagated_trailers(end.trailing)))
    if end.code is not grpc.StatusCode.OK:
        await context.abort(end.code, end.details)
