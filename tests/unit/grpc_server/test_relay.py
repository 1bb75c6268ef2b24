"""A middle hop, apart from headers: single messages, back-pressure, deadline, cancellation, recovery."""

import asyncio
import logging
import time
from typing import Any

import grpc
import pytest

from grpc_client.plan import RPC_METHODS, RpcMethod
from grpc_server.relay import remaining_timeout
from hello_mesh.base import log
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse

lengths = pytest.mark.parametrize("length", [1, 2, 3])
TALK, ONE_MORE, MORE_ONE, BIDI = RPC_METHODS

BLOCK = "x" * 65536
# Upper limit of what the HTTP/2 windows and buffers of one hop's two connections hold.
HELD_PER_HOP = 16 * 1024 * 1024


async def _wait_forever(_peer: Any, _context: Any) -> None:
    await asyncio.Event().wait()


def _start(chain: Any, pattern: RpcMethod, **settings: Any) -> Any:
    """Start a call, with its only request unless requests are streamed, and leave it open."""
    method = getattr(chain.stub, pattern.rpc)
    return method(**settings) if pattern.streams_requests else method(TalkRequest(data="0"), **settings)


@lengths
async def test_a_message_is_answered_before_the_next_is_sent(start_chain: Any, length: int) -> None:
    call = (await start_chain(length)).stub.TalkBidirectional()
    for index in ("0", "1", "2"):
        await call.write(TalkRequest(data=index))
        answer = await asyncio.wait_for(call.read(), 5)
        assert answer.results[0].kv["idx"] == index
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@lengths
async def test_a_response_arrives_before_the_last_hop_sends_the_next(
    start_chain: Any, start_peer: Any, length: int
) -> None:
    resume = asyncio.Event()

    async def write_and_wait(_peer: Any, context: Any) -> None:
        await context.write(TalkResponse(status=1))
        await resume.wait()

    peer = await start_peer(write_and_wait)
    call = _start(await start_chain(length, backend=f"127.0.0.1:{peer.port}"), ONE_MORE)
    assert (await asyncio.wait_for(call.read(), 5)).status == 1
    resume.set()
    assert (await call.read()).status == 200


@lengths
async def test_a_next_hop_that_stops_reading_stops_the_caller(
    start_chain: Any, start_peer: Any, length: int
) -> None:
    resume = asyncio.Event()

    async def wait(_peer: Any, _context: Any) -> None:
        await resume.wait()

    peer = await start_peer(wait)
    call = _start(await start_chain(length, backend=f"127.0.0.1:{peer.port}"), MORE_ONE)
    sent, last = await _write_until_held(
        lambda: call.write(TalkRequest(data=BLOCK)), HELD_PER_HOP * (length + 1)
    )
    resume.set()
    await last
    await call.done_writing()
    assert (await call).status == 200
    assert len(peer.requests) == sent


@lengths
async def test_a_caller_that_stops_reading_stops_the_last_hop(
    start_chain: Any, start_peer: Any, length: int
) -> None:
    held: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answer = TalkResponse(status=1)
    answer.results.add().kv["data"] = BLOCK

    async def write(_peer: Any, context: Any) -> None:
        most = HELD_PER_HOP * (length + 1)
        written, last = await _write_until_held(lambda: context.write(answer), most)
        held.set_result(written)
        await last

    peer = await start_peer(write)
    call = _start(await start_chain(length, backend=f"127.0.0.1:{peer.port}"), ONE_MORE)
    written = await asyncio.wait_for(held, 60)
    answers = [answer.status async for answer in call]
    assert answers == [1] * written + [200]


async def _write_until_held(write: Any, most: int) -> tuple[int, asyncio.Future[None]]:
    """Write blocks until one blocks for a second. Return the number of blocks, and the write that blocks."""
    for count in range(1, most // len(BLOCK)):
        writing = asyncio.ensure_future(write())
        if not (await asyncio.wait((writing,), timeout=1))[0]:
            return count, writing
    raise AssertionError(f"no back-pressure on a writer of {most} bytes")


@pytest.mark.parametrize("length", [1, 2, 3, 8])
@pytest.mark.parametrize("seconds", [2.0, 30.0, 333.3, 86400.0])
async def test_the_deadline_shrinks_and_is_propagated(
    start_chain: Any, start_peer: Any, ask: Any, pattern: RpcMethod, length: int, seconds: float
) -> None:
    peer = await start_peer()
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    await ask(chain.target, pattern, timeout=seconds)
    assert peer.remaining is not None
    # The client's gRPC rounds up to three digits; no hop adds to that.
    assert seconds * 0.9 - 1 < peer.remaining < seconds * 1.006


@pytest.mark.parametrize(
    ("seconds", "timeout"),
    [(None, None), (0.0, 0.0), (0.0005, 0.0), (0.5, 0.499), (333.3, 332.999), (86_400.0, 86_399.999)],
)
def test_a_timeout_is_just_below_a_number_of_three_digits(
    seconds: float | None, timeout: float | None
) -> None:
    assert remaining_timeout(seconds) == timeout


def test_an_endless_timeout_is_one_that_grpc_can_represent() -> None:
    timeout = remaining_timeout(1e12)
    assert timeout is not None
    assert 90 * 365 * 86_400 < timeout <= 100 * 365 * 86_400


@lengths
async def test_no_deadline_is_invented(
    start_chain: Any, start_peer: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    peer = await start_peer()
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    await ask(chain.target, pattern, timeout=None)
    assert peer.remaining is None


@lengths
async def test_an_exceeded_deadline_ends_the_call_at_every_hop(
    start_chain: Any, start_peer: Any, pattern: RpcMethod, length: int
) -> None:
    peer = await start_peer(_wait_forever)
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    started = time.monotonic()
    call = _start(chain, pattern, timeout=0.5)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 5
    if pattern.streams_requests or peer.started.is_set():
        await asyncio.wait_for(peer.cancelled.wait(), 5)


@lengths
async def test_a_cancellation_reaches_the_last_hop(
    start_chain: Any, start_peer: Any, pattern: RpcMethod, length: int
) -> None:
    peer = await start_peer(_wait_forever)
    call = _start(await start_chain(length, backend=f"127.0.0.1:{peer.port}"), pattern)
    await asyncio.wait_for(peer.started.wait(), 5)
    call.cancel()
    await asyncio.wait_for(peer.cancelled.wait(), 5)


@lengths
async def test_a_lost_caller_is_a_cancellation(
    start_chain: Any, start_peer: Any, pattern: RpcMethod, length: int
) -> None:
    peer = await start_peer(_wait_forever)
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    call = _start(chain, pattern)
    await asyncio.wait_for(peer.started.wait(), 5)
    await chain.channel.close()
    await asyncio.wait_for(peer.cancelled.wait(), 5)
    assert call.done()


@lengths
async def test_a_stream_that_the_last_hop_refuses_halfway_keeps_its_status(
    start_chain: Any, ask: Any, length: int
) -> None:
    """Messages are still being sent when the status arrives: it must not get lost."""
    chain = await start_chain(length)
    for pattern in (MORE_ONE, BIDI):
        for _ in range(50):
            outcome = await ask(chain.target, pattern, "0,1,nonsense,2,3,4,5,0,1,2,3,4,5")
            assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
            assert '"nonsense"' in outcome.details
            assert len(outcome.hops) == length


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the status names in the log lines of calls, in the order in which the hops log them."""
    codes: list[str] = []
    monkeypatch.setattr(log, "log_call", lambda _method, _trace, code, *_: codes.append(code))
    return codes


@pytest.mark.parametrize("ends", ["cancelled", "late"])
@pytest.mark.parametrize("pattern", [MORE_ONE, BIDI], ids=lambda pattern: pattern.command)
async def test_no_hop_treats_a_stream_that_was_cut_off_as_complete(
    start_chain: Any,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
    logged: list[str],
    pattern: RpcMethod,
    ends: str,
) -> None:
    chain = await start_chain(3)
    calls = []
    for _ in range(20):
        call = _start(chain, pattern, timeout=0.3 if ends == "late" else None)
        await call.write(TalkRequest(data="0"))
        calls.append(call)
    if ends == "cancelled":
        await asyncio.sleep(0.1)  # let the messages reach the hops
        for call in calls:
            call.cancel()
    await eventually(lambda: len(logged) == 60)
    assert set(logged) <= {"CANCELLED", "DEADLINE_EXCEEDED"}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_every_hop_logs_the_status(
    start_chain: Any, ask: Any, eventually: Any, logged: list[str], pattern: RpcMethod
) -> None:
    chain = await start_chain(3)
    outcome = await ask(chain.target, pattern, "9")
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: len(logged) == 3)  # a hop logs a call after its response
    assert logged == ["INVALID_ARGUMENT"] * 3


async def test_callers_that_cancel_at_any_moment_cause_no_error(
    start_chain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chain = await start_chain(3)
    writes = []
    for number in range(200):
        pattern = RPC_METHODS[number % 4]
        call = _start(chain, pattern)
        if pattern.streams_requests:
            writes.append(asyncio.ensure_future(call.write(TalkRequest(data="0"))))
        await asyncio.sleep(number % 20 / 2000)
        call.cancel()
    for writing in writes:
        writing.cancel()  # grpc.aio leaves one that came before the call was up waiting forever
    await asyncio.gather(*writes, return_exceptions=True)
    outcome = await chain.stub.Talk(TalkRequest(data="0"), timeout=5)
    assert outcome.status == 200
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in errors] == []


@lengths
async def test_a_next_hop_that_is_down_is_reported_at_once_and_recovers(
    start_chain: Any, start_peer: Any, ask: Any, free_port: int, length: int
) -> None:
    chain = await start_chain(length, backend=f"127.0.0.1:{free_port}")
    for pattern in RPC_METHODS:
        outcome = await ask(chain.target, pattern)
        assert outcome.code is grpc.StatusCode.UNAVAILABLE
        assert outcome.duration_ns < 2e9
        assert [hop.name for hop in outcome.hops] == list(chain.names)
    await start_peer(port=free_port)
    deadline = time.monotonic() + 10
    while (await ask(chain.target, TALK)).code is not grpc.StatusCode.OK:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_next_hop_that_stops_halfway_is_unavailable(start_chain: Any, start_peer: Any) -> None:
    peer = await start_peer(_wait_forever)
    call = _start(await start_chain(2, backend=f"127.0.0.1:{peer.port}"), BIDI)
    await asyncio.wait_for(peer.started.wait(), 5)
    await peer.server.stop(0)
    assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.UNAVAILABLE


async def test_a_silent_next_hop_ends_with_the_callers_deadline(
    start_chain: Any, ask: Any, silent_port: int
) -> None:
    chain = await start_chain(2, backend=f"127.0.0.1:{silent_port}")
    outcome = await ask(chain.target, TALK, timeout=1.0)
    assert outcome.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    assert outcome.duration_ns < 3e9


async def test_a_thousand_idle_streams_delay_no_other_call(
    start_chain: Any, ask: Any, is_serving: Any
) -> None:
    chain = await start_chain(3)
    calls = []
    for _ in range(1000):
        call = chain.stub.TalkBidirectional()
        await call.write(TalkRequest(data="0"))
        calls.append(call)
    for call in calls:
        assert (await call.read()).status == 200
    for server in chain.servers:
        started = time.monotonic()
        assert await is_serving(server.port)
        assert time.monotonic() - started < 1
    outcome = await ask(chain.target, TALK)
    assert outcome.code is grpc.StatusCode.OK
    assert outcome.duration_ns < 1e9
    for call in calls:
        await call.done_writing()
    assert {await call.code() for call in calls} == {grpc.StatusCode.OK}
