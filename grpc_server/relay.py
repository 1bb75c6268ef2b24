"""A middle hop: calls the next hop instead of answering, and passes on everything that belongs to the caller."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from grpc_server.call import Calls, Context, ServedCall, all_requests, only_request
from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.rpc import method_path
from hello_mesh.propagation.headers import propagated_trailers


class Relay:
    """Relays the four patterns over `channel` as bytes: no field that this hop does not know gets lost."""

    def __init__(self, calls: Calls, channel: grpc.aio.Channel, *, propagate: bool) -> None:
        self._calls = calls
        self._propagate = propagate
        self._talk = channel.unary_unary(method_path("Talk"))
        self._streams = {
            name: channel.stream_stream(method_path(name))
            for name in ("TalkOneAnswerMore", "TalkMoreAnswerOne", "TalkBidirectional")
        }

    def _headers(self, served: ServedCall) -> tuple[tuple[str, str | bytes], ...]:
        return served.headers if self._propagate else ()

    async def Talk(self, _requests: AsyncIterator[bytes], context: Context) -> bytes:
        async with self._calls.serve("Talk", context) as served:
            request = await only_request(context)
            call: Any = self._talk(
                request, metadata=self._headers(served), timeout=remaining_timeout(context.time_remaining())
            )
            try:
                response: bytes = await call
            except grpc.aio.AioRpcError as error:
                trailing: Any = error.trailing_metadata()
                await propagate_status(
                    CallStatus(error.code(), error.details() or "", tuple(trailing)), context, served
                )
                raise
            if initial := propagated_trailers(await call.initial_metadata()):
                await context.send_initial_metadata(initial)
            if trailers := propagated_trailers(await call.trailing_metadata()):
                context.set_trailing_metadata((*served.report, *trailers))
            return response

    async def TalkOneAnswerMore(
        self, _requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async for response in self._responses("TalkOneAnswerMore", context):
            yield response

    async def TalkBidirectional(
        self, _requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async for response in self._responses("TalkBidirectional", context):
            yield response

    async def TalkMoreAnswerOne(self, _requests: AsyncIterator[bytes], context: Context) -> bytes:
        responses = [response async for response in self._responses("TalkMoreAnswerOne", context)]
        return responses[0]

    async def _responses(self, method: str, context: Context) -> AsyncIterator[bytes]:
        async with self._calls.serve(method, context) as served:
            call: Any = self._streams[method](
                all_requests(context),
                metadata=self._headers(served),
                timeout=remaining_timeout(context.time_remaining()),
            )
            watcher = StatusWatcher(call)
            try:
                if initial := propagated_trailers(await call.initial_metadata()):
                    await context.send_initial_metadata(initial)
                async for response in _uninterrupted(call):
                    yield response
            except grpc.aio.AioRpcError:
                pass
            finally:
                call.cancel()
            await propagate_status(await watcher.ending(), context, served)


async def _uninterrupted(call: Any) -> AsyncIterator[bytes]:
    """Yield the responses of a call without ever cancelling a read: grpc.aio leaks one that is cancelled.

    https://github.com/grpc/grpc/issues/43360
    """
    responses = aiter(call)
    while True:
        reading = asyncio.ensure_future(anext(responses))
        try:
            response = await asyncio.shield(reading)
        except asyncio.CancelledError:
            call.cancel()
            await asyncio.wait((reading,))
            reading.exception()  # retrieved, so that asyncio does not log it
            raise
        except StopAsyncIteration:
            return
        yield response


def remaining_timeout(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    milliseconds = int(seconds * 1000)
    unit: int = 10 ** max(0, len(str(milliseconds)) - 3)
    return max(0, milliseconds // unit * unit - 1) / 1000


async def propagate_status(status: CallStatus, context: Context, served: ServedCall) -> None:
    """End the caller's call as the next hop ended its own: same status, text and trailing metadata."""
    context.set_trailing_metadata((*served.report, *propagated_trailers(status.trailing)))
    if status.code is not grpc.StatusCode.OK:
        await context.abort(status.code, status.details)
