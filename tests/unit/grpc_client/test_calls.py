"""Trace headers of a call, the record of a call, and cancellation of the workers."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome, _Caller, run
from grpc_client.plan import RPC_METHODS, CallSpec, Plan, RpcMethod, call_spec
from hello_mesh.propagation.trace_context import TraceContext


@pytest.mark.parametrize(
    ("trace_headers", "families"),
    [("w3c", {"w3c"}), ("b3", {"b3"}), ("both", {"w3c", "b3"}), ("none", set())],
)
async def test_a_call_starts_a_trace_in_the_selected_headers(
    start_chain: Any, ask: Any, trace_headers: str, families: set[str]
) -> None:
    chain = await start_chain(2)
    outcome = await ask(chain.target, RPC_METHODS[0], trace_headers=trace_headers)
    assert (outcome.sent is not None) is bool(families)
    for hop in outcome.hops:
        seen = {name: getattr(hop, name) for name in ("w3c", "b3") if getattr(hop, name)}
        assert seen == dict.fromkeys(families, outcome.sent)


@pytest.mark.parametrize(
    ("trace_headers", "own"),
    [
        ("w3c", ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ("b3", ("x-b3-traceid", "a" * 32)),
    ],
)
async def test_a_trace_header_of_the_user_prevents_a_new_trace(
    start_chain: Any, ask: Any, trace_headers: str, own: tuple[str, str]
) -> None:
    chain = await start_chain(1)
    outcome = await ask(chain.target, RPC_METHODS[0], headers=(own,), trace_headers=trace_headers)
    assert (outcome.ok, outcome.sent) == (True, None)


async def test_a_record_has_the_span_that_the_headers_name(
    start_chain: Any, ask: Any, pattern: RpcMethod
) -> None:
    chain = await start_chain(1)
    outcome = await ask(chain.target, pattern)
    record = outcome.record()
    assert (record.sent_trace_id, record.sent_span_id) == (
        outcome.hops[0].w3c.trace_id,
        outcome.hops[0].w3c.span_id,
    )
    assert (record.rpc, record.code, record.status, record.hops) == (pattern.rpc, "OK", 0, outcome.hops)


async def test_a_record_has_the_times_of_the_call(start_peer: Any, ask: Any) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.sleep(0.05)

    peer = await start_peer(wait)
    first, second = [(await ask(f"127.0.0.1:{peer.port}", RPC_METHODS[0])).record() for _ in range(2)]
    assert first.duration_ns >= 50_000_000
    assert first.start_ns + first.duration_ns <= second.start_ns


def test_a_record_of_a_failed_call_has_its_status_and_mismatches(
    make_outcome: Callable[..., Outcome],
) -> None:
    sent = TraceContext("1" * 32, "2" * 16)
    outcome = make_outcome(number=7, code=grpc.StatusCode.UNAVAILABLE, details="down", sent=sent)
    record = outcome.record(["wrong"])
    assert (record.number, record.code, record.status, record.details) == (7, "UNAVAILABLE", 14, "down")
    assert (record.sent_trace_id, record.sent_span_id) == (sent.trace_id, sent.span_id)
    assert (record.start_ns, record.duration_ns) == (outcome.start_ns, outcome.duration_ns)
    assert (record.verdict, record.hops, record.mismatches) == (outcome.verdict, outcome.hops, ("wrong",))


async def test_a_cancellation_swallowed_by_a_failing_call_still_stops_the_run(
    make_outcome: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()

    async def swallow(_caller: _Caller, _number: int, _spec: CallSpec) -> Outcome:
        started.set()
        with contextlib.suppress(asyncio.CancelledError):  # as grpc.aio does in a failing call
            await asyncio.Event().wait()
        return make_outcome()

    monkeypatch.setattr(_Caller, "call", swallow)
    plan = Plan("127.0.0.1:1", (call_spec(RPC_METHODS[0]),), repeat=3)
    outcomes: list[Outcome] = []
    task = asyncio.create_task(run(plan, lambda *_: None, outcomes.append))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(outcomes) == 1
