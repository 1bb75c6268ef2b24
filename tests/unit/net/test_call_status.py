"""The true status of a call, also if grpc.aio reports another one meanwhile."""

import asyncio
from typing import Any

import grpc
import pytest

from grpc_client.plan import RPC_METHODS, RpcMethod
from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.channel import open_channel
from hello_mesh.net.pb.landing_pb2 import TalkRequest
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub

BIDI = RPC_METHODS[3]


def _begin(channel: grpc.aio.Channel, pattern: RpcMethod, **settings: Any) -> Any:
    method = getattr(LandingServiceStub(channel), pattern.rpc)
    return method(**settings) if pattern.streams_requests else method(TalkRequest(data="0"), **settings)


async def _finish(call: Any, pattern: RpcMethod) -> None:
    if pattern.streams_requests:
        await call.done_writing()
    if pattern.streams_responses:
        while await call.read() is not grpc.aio.EOF:
            pass
    else:
        await call


async def _write_on_and_on(call: Any) -> None:
    while True:
        await call.write(TalkRequest(data="x" * 10_000))


async def test_a_success_has_trailers_and_no_text(start_peer: Any, pattern: RpcMethod) -> None:
    async def decorate(_peer: Any, context: Any) -> None:
        context.set_trailing_metadata((("x-late", "1"), ("x-late", "2"), ("x-late-bin", b"\xff")))

    peer = await start_peer(decorate)
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        call = _begin(channel, pattern)
        watcher = StatusWatcher(call)
        await _finish(call, pattern)
        trailing = (("x-late", "1"), ("x-late", "2"), ("x-late-bin", b"\xff"))
        assert await watcher.status() == CallStatus(grpc.StatusCode.OK, "", trailing)


async def test_a_failure_has_its_status_text_and_trailers(start_peer: Any, pattern: RpcMethod) -> None:
    async def refuse(_peer: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone: ü\n%", (("x-why", "because"),))

    peer = await start_peer(refuse)
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        watcher = StatusWatcher(_begin(channel, pattern))
        status = await asyncio.wait_for(watcher.status(), 5)
        assert status == CallStatus(grpc.StatusCode.DATA_LOSS, "gone: ü\n%", (("x-why", "because"),))


async def test_a_call_that_ends_during_a_write_has_its_true_status(start_peer: Any) -> None:
    """The peer refuses the call during a write: grpc.aio then reports a status of its own."""

    async def refuse(_peer: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you", (("x-why", "because"),))

    peer = await start_peer(refuse)
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        for _ in range(50):
            call = _begin(channel, BIDI)
            watcher = StatusWatcher(call)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await _write_on_and_on(call)
            status = await asyncio.wait_for(watcher.status(), 5)
            assert status == CallStatus(grpc.StatusCode.PERMISSION_DENIED, "not you", (("x-why", "because"),))


async def test_a_call_that_its_caller_cancels_is_cancelled(start_peer: Any, pattern: RpcMethod) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        call = _begin(channel, pattern)
        watcher = StatusWatcher(call)
        await peer.started.wait()
        call.cancel()
        status = await asyncio.wait_for(watcher.status(), 5)
        assert status.code is grpc.StatusCode.CANCELLED
        await asyncio.wait_for(peer.cancelled.wait(), 5)


async def test_a_call_past_its_deadline_is_deadline_exceeded(silent_port: int, pattern: RpcMethod) -> None:
    async with open_channel(f"127.0.0.1:{silent_port}") as channel:
        watcher = StatusWatcher(_begin(channel, pattern, timeout=0.1))
        assert (await asyncio.wait_for(watcher.status(), 5)).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_status_can_be_read_late_and_repeatedly(start_peer: Any) -> None:
    peer = await start_peer()
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        call = _begin(channel, RPC_METHODS[0])
        watcher = StatusWatcher(call)
        await call
        assert await watcher.status() == await watcher.status() == CallStatus(grpc.StatusCode.OK, "", ())
