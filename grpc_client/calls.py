"""Makes the calls of a plan: one code path for the four methods."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from grpc_client.plan import CallSpec, Plan, TraceHeaders
from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.base.text import count, excerpt
from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.channel import open_channel
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub
from hello_mesh.net.rpc import method_path
from hello_mesh.propagation import hop_report
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.trace_context import Metadata, TraceContext, new_trace_context
from hello_mesh.propagation.verdict import Verdict, evaluate

_PROBE_SECONDS = 2.0

# A connection that takes longer than this is announced to the user.
_SILENT_SECONDS = 2.0

# A response stream is stopped after this many responses that the client did not ask for.
_MAX_SURPLUS = 10

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
    unreadable: tuple[str, ...] = ()
    """The reasons why parts of the hop report cannot be read."""

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
            unreadable=self.unreadable,
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
        start_ns, started_ns = time.time_ns(), time.monotonic_ns()
        call = self._start(spec, metadata)
        watcher = StatusWatcher(call)
        responses: list[TalkResponse] = []
        invalid: CallStatus | None = None
        try:
            async for message in call:
                if invalid := _surplus(spec, len(responses) + 1):
                    break
                responses.append(TalkResponse.FromString(message))
                self.on_response(number, spec, responses[-1])
        except grpc.aio.AioRpcError:
            pass  # the status is read below, as it is on success
        except DecodeError:
            invalid = _invalid_response("the bytes received are not a TalkResponse")
        call.cancel()  # no effect on a call that is over
        status = invalid or _checked(spec, len(responses), await watcher.status())
        duration_ns = time.monotonic_ns() - started_ns
        report = hop_report.parse_report(status.trailing)
        answered = status.code is grpc.StatusCode.OK
        return Outcome(
            number,
            spec,
            tuple(responses),
            status.code,
            status.details,
            report.hops,
            evaluate(report.hops, metadata, report.unreadable, answered=answered),
            start_ns,
            duration_ns,
            context,
            report.unreadable,
        )

    def _start(self, spec: CallSpec, metadata: Metadata) -> Any:
        """Start a call whose responses are a stream of bytes.

        A stream of one response is a unary response on the wire. Read as one, grpc.aio waits for ever if a
        second response arrives, and raises no error if there is none.
        """
        method: Any = (
            self.channel.stream_stream if spec.method.streams_requests else self.channel.unary_stream
        )
        request = _requests(spec) if spec.method.streams_requests else _request(spec, spec.messages[0])
        return method(method_path(spec.method.rpc))(request, metadata=metadata, timeout=self.plan.timeout)


def _surplus(spec: CallSpec, received: int) -> CallStatus | None:
    """Return the status of a call that must be stopped, because the server sends too many responses."""
    if not spec.method.streams_responses:
        return _invalid_response("more than one message for one response") if received > 1 else None
    if received <= spec.expected_responses + _MAX_SURPLUS:
        return None
    asked = count(spec.expected_responses, "response")
    text = f"stopped by the client: {received} responses received, {asked} expected"
    return CallStatus(grpc.StatusCode.CANCELLED, text, ())


def _checked(spec: CallSpec, received: int, status: CallStatus) -> CallStatus:
    """Return the status of a call, or another one if it is OK without the one response that it must have."""
    if status.code is not grpc.StatusCode.OK or received or spec.method.streams_responses:
        return status
    invalid = _invalid_response("the call ended OK without a message")
    return CallStatus(invalid.code, invalid.details, status.trailing)


def _invalid_response(problem: str) -> CallStatus:
    return CallStatus(grpc.StatusCode.INTERNAL, f"invalid response: {problem}", ())


def _call_headers(plan: Plan) -> tuple[TraceContext | None, Metadata]:
    """Return the trace context that the client starts, if it starts one, and all headers of the call.

    A trace header among `plan.headers` has precedence: then the client starts no trace.
    """
    context = new_trace_context()
    started = _CONTEXT_HEADERS[plan.trace_headers](context)
    if not started or {key for key, _ in started} & {key for key, _ in plan.headers}:
        return None, plan.headers
    return context, (*started, *plan.headers)


async def _requests(spec: CallSpec) -> AsyncIterator[bytes]:
    for index, data in enumerate(spec.messages):
        if index and spec.interval:
            await asyncio.sleep(spec.interval)
        yield _request(spec, data)


def _request(spec: CallSpec, data: str) -> bytes:
    return TalkRequest(data=data, meta=spec.meta).SerializeToString()
