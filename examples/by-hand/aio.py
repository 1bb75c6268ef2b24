"""One hop on grpc.aio that keeps a trace connected, with grpcio alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from common import TRACE_HEADERS, answer, backend_target, listen_address, pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


def trace_headers(context: Context) -> list[tuple[str, str | bytes]]:
    """Return the trace headers of an incoming call. Some receivers reject empty values: skip them."""
    metadata = context.invocation_metadata() or ()
    return [(key, value) for key, value in metadata if key in TRACE_HEADERS and value]


@asynccontextmanager
async def same_status(context: Context) -> AsyncIterator[None]:
    """Return the status of the outgoing call. A cancellation needs no code: it cancels the awaited call."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        await context.abort(error.code(), error.details() or "")


class Relay:
    """Forward each call to the next hop, with its trace headers and its remaining time."""

    def __init__(self, target: str) -> None:
        self.stub = pb2_grpc.LandingServiceStub(grpc.aio.insecure_channel(target))

    async def Talk(self, request: Any, context: Context) -> Any:
        headers = trace_headers(context)
        call = self.stub.Talk(request, metadata=headers, timeout=context.time_remaining())
        async with same_status(context):
            return await call

    async def TalkOneAnswerMore(self, request: Any, context: Context) -> AsyncIterator[Any]:
        headers = trace_headers(context)
        call = self.stub.TalkOneAnswerMore(request, metadata=headers, timeout=context.time_remaining())
        async with same_status(context):
            async for response in call:
                yield response

    async def TalkMoreAnswerOne(self, requests: AsyncIterator[Any], context: Context) -> Any:
        headers = trace_headers(context)
        call = self.stub.TalkMoreAnswerOne(requests, metadata=headers, timeout=context.time_remaining())
        async with same_status(context):
            return await call

    async def TalkBidirectional(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        headers = trace_headers(context)
        call = self.stub.TalkBidirectional(requests, metadata=headers, timeout=context.time_remaining())
        async with same_status(context):
            async for response in call:
                yield response


class LastHop:
    """Answer each call."""

    async def Talk(self, request: Any, _: Context) -> Any:
        return answer([request.data])

    async def TalkOneAnswerMore(self, request: Any, _: Context) -> AsyncIterator[Any]:
        for index in request.data.split(","):
            yield answer([index])

    async def TalkMoreAnswerOne(self, requests: AsyncIterator[Any], _: Context) -> Any:
        return answer([request.data async for request in requests])

    async def TalkBidirectional(self, requests: AsyncIterator[Any], _: Context) -> AsyncIterator[Any]:
        async for request in requests:
            yield answer([request.data])


async def main() -> None:
    """Serve until the process is stopped."""
    target = backend_target()
    server = grpc.aio.server()
    pb2_grpc.add_LandingServiceServicer_to_server(Relay(target) if target else LastHop(), server)
    port = server.add_insecure_port(listen_address())
    await server.start()
    print(f"listening on port {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
