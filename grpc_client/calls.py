"""Makes the calls of a plan: one code path for the four methods."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from grpc_client.plan import CallSpec, Plan, RpcMethod, TraceHeaders
from hello_mesh.base.errors import HopReportError, RuntimeEnvironmentError
from hello_mesh.base.text import excerpt
from hello_mesh.net.call_status import StatusWatcher
from hello_mesh.net.channel import open_channel
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub
from hello_mesh.propagation import hop_report
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.trace_context import Metadata, TraceContext, new_trace_context
from hello_mesh.propagation.verdict import Verdict, evaluate

_PROBE_SECONDS = 2.0

# A connection that takes longer than this is announced to the user.
_SILENT_SECONDS = 2.0

_CONTEXT_HEADERS: Mapping[TraceHeaders, Callable[[TraceContext], tuple[tuple[str, str], ...]]] = {
    "w3c": lambda context: (("traceparent", context.traceparent),),
    "b3": lambda context: context.b3,
    "both": lambda context: (("traceparent", context.traceparent), *context.b3),
    "none": lambda _: (),
}

OnResponse = Callable[[int, CallSpec, TalkResponse], None]


@dataclass(frozen=True)
class Outcome:
    """The result of one call."""

    number: int
    """Position of the call in the run, from 1."""
    spec: CallSpec
    responses: tuple[TalkResponse, ...]
    """The responses, including those before a failure."""
    code: grpc.StatusCode
    details: str
    """The status text, "" on success."""
    hops: tuple[hop_report.Hop, ...]
    """The hop report, first hop first."""
    verdict: Verdict
    start_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int
    sent: TraceContext | None = None
    """The trace context that the client started with this call; None if it started none."""

    @property
    def ok(self) -> bool:
        """Whether the status is OK, regardless of the trace."""
        return self.code is grpc.StatusCode.OK

    def record(self, mismatches: Sequence[str] = ()) -> CallRecord:
        """Return the outcome as it is written for other programs.

        Args:
            mismatches: what is not as expected, one line each.
        """
        return CallRecord(
            number=self.number,
            rpc=self.spec.method.rpc,
            code=self.code.name,
            status=self.code.value[0],
            details=self.details,
            start_ns=self.start_ns,
            duration_ns=self.duration_ns,
            hops=self.hops,
            verdict=self.verdict,
            sent_trace_id=self.sent.trace_id if self.sent else None,
            sent_span_id=self.sent.span_id if self.sent else None,
            mismatches=tuple(mismatches),
        )


async def run(
    plan: Plan,
    on_response: OnResponse,
    on_outcome: Callable[[Outcome], None],
    on_notice: Callable[[str], None] = lambda _: None,
) -> None:
    """Make every call of the plan, up to `plan.concurrency` at the same time.

    Args:
        plan: the calls.
        on_response: called with the number and the spec of a call and each response as it arrives.
        on_outcome: called when a call has finished, with any status.
        on_notice: called with a line of text when the connection takes long.

    Raises:
        RuntimeEnvironmentError: certificates cannot be read, or there is no connection within
            `plan.connect_timeout`.
    """
    jobs = enumerate((spec for _ in range(plan.repeat) for spec in plan.calls), start=1)

    async with open_channel(plan.target, plan.certificates) as channel:
        if plan.connect_timeout is not None:
            await _wait_for_connection(channel, plan.target, plan.connect_timeout, on_notice)
        caller = _Caller(channel, plan, on_response)

        async def work() -> None:
            for number, spec in jobs:  # shared: each worker takes the next call
                on_outcome(await caller.call(number, spec))
                _raise_if_cancelled()

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(plan.concurrency, plan.total_calls)):
                workers.create_task(work())


async def _wait_for_connection(
    channel: grpc.aio.Channel, target: str, seconds: float, on_notice: Callable[[str], None]
) -> None:
    """Wait for a TCP connection with HTTP/2, and announce the wait if it takes long.

    Raises:
        RuntimeEnvironmentError: no connection in time; the text has gRPC's reason.
    """
    waiting = asyncio.ensure_future(channel.channel_ready())
    done, _ = await asyncio.wait((waiting,), timeout=min(_SILENT_SECONDS, seconds))
    if not done and seconds > _SILENT_SECONDS:
        on_notice(f"waiting up to {seconds:g} s for a connection to {excerpt(target, 100)}")
        done, _ = await asyncio.wait((waiting,), timeout=seconds - _SILENT_SECONDS)
    if not done:
        waiting.cancel()
        # gRPC gives the reason only to a call. Any call does, since none can reach a server.
        call = LandingServiceStub(channel).Talk(TalkRequest(), timeout=_PROBE_SECONDS)
        reason = excerpt(await call.details() or (await call.code()).name, 300)
        raise RuntimeEnvironmentError(
            f"no connection to {excerpt(target, 100)} within {seconds:g} s: {reason}"
        )


def _raise_if_cancelled() -> None:
    """Stop a task that was cancelled while its own call was failing.

    grpc.aio then raises the status of the call, and the cancellation is lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@dataclass(frozen=True)
class _Caller:
    """What all calls of a run share."""

    channel: grpc.aio.Channel
    plan: Plan
    on_response: OnResponse

    async def call(self, number: int, spec: CallSpec) -> Outcome:
        """Make one call and return its outcome."""
        context, metadata = _call_headers(self.plan)
        method = getattr(LandingServiceStub(self.channel), spec.method.rpc)
        request = _requests(spec) if spec.method.streams_requests else _request(spec, spec.messages[0])
        start_ns, started_ns = time.time_ns(), time.monotonic_ns()
        call = method(request, metadata=metadata, timeout=self.plan.timeout)
        watcher = StatusWatcher(call)
        responses: list[TalkResponse] = []
        try:
            async for response in _responses(call, spec.method):
                responses.append(response)
                self.on_response(number, spec, response)
        except grpc.aio.AioRpcError:
            pass  # the status is read below, as it is on success
        status = await watcher.status()
        duration_ns = time.monotonic_ns() - started_ns
        hops, unreadable = _read_hop_report(status.trailing)
        return Outcome(
            number,
            spec,
            tuple(responses),
            status.code,
            status.details,
            hops,
            evaluate(hops, metadata, unreadable),
            start_ns,
            duration_ns,
            context,
        )


def _call_headers(plan: Plan) -> tuple[TraceContext | None, Metadata]:
    """Return the trace context that the client starts, if it starts one, and all headers of the call.

    A trace header among `plan.headers` has precedence: then the client starts no trace.
    """
    context = new_trace_context()
    started = _CONTEXT_HEADERS[plan.trace_headers](context)
    if not started or {key for key, _ in started} & {key for key, _ in plan.headers}:
        return None, plan.headers
    return context, (*started, *plan.headers)


async def _requests(spec: CallSpec) -> AsyncIterator[TalkRequest]:
    for index, data in enumerate(spec.messages):
        if index and spec.interval:
            await asyncio.sleep(spec.interval)
        yield _request(spec, data)


def _request(spec: CallSpec, data: str) -> TalkRequest:
    return TalkRequest(data=data, meta=spec.meta)


async def _responses(call: Any, method: RpcMethod) -> AsyncIterator[TalkResponse]:
    if method.streams_responses:
        async for response in call:
            yield response
    else:
        yield await call


def _read_hop_report(metadata: Metadata) -> tuple[tuple[hop_report.Hop, ...], str]:
    """Return the hop report, or no hops and the reason why it is unreadable."""
    try:
        return hop_report.parse_report(metadata), ""
    except HopReportError as error:
        return (), str(error)
