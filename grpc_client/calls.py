"""Makes the calls of a plan: the four patterns on one path."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc

from grpc_client import spans
from grpc_client.plan import Pattern, Plan, Talk, TraceHeaders
from hello_mesh.base.errors import HopReportError, RuntimeEnvironmentError
from hello_mesh.base.text import excerpt
from hello_mesh.net.call_status import CallStatus, StatusWatcher
from hello_mesh.net.channel import open_channel
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub
from hello_mesh.propagation import hop_report
from hello_mesh.propagation.trace_context import Metadata, TraceContext, new_trace_context
from hello_mesh.propagation.verdict import Verdict, evaluate

_COMPRESSIONS = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}

_PROBE_SECONDS = 2.0

# Seconds before a call is tried again, the first time, the second time, and so on.
_PAUSES = (0.1, 0.2, 0.4, 0.8)

# For so long nobody wonders why nothing happens.
_PATIENCE_SECONDS = 2.0

# By what each sort of mesh continues a trace.
_TRACE_HEADERS: Mapping[TraceHeaders, Callable[[TraceContext], tuple[tuple[str, str], ...]]] = {
    "w3c": lambda context: (("traceparent", context.traceparent),),
    "b3": lambda context: context.b3,
    "both": lambda context: (("traceparent", context.traceparent), *context.b3),
}

OnAnswer = Callable[[int, Talk, TalkResponse], None]


@dataclass(frozen=True)
class Outcome:
    """How one call went."""

    number: int
    """Which call of the run it was, from 1."""
    talk: Talk
    answers: tuple[TalkResponse, ...]
    """The answers that came, also those before a failure."""
    code: grpc.StatusCode
    details: str
    """The status text, "" on success."""
    hops: tuple[hop_report.Hop, ...]
    """The hop report, first hop first."""
    verdict: Verdict
    seconds: float
    sent_trace_id: str | None = None
    """Of the trace that the client began with the call, where it did."""

    @property
    def ok(self) -> bool:
        """Whether the call itself succeeded, whatever became of its trace."""
        return self.code is grpc.StatusCode.OK


async def run(
    plan: Plan,
    on_answer: OnAnswer,
    on_outcome: Callable[[Outcome], None],
    on_problem: Callable[[str], None] = lambda _: None,
) -> None:
    """Makes every call of the plan, `plan.concurrency` at a time.

    Args:
        plan: what to do.
        on_answer: called with the call's number and talk and with each answer as it arrives.
        on_outcome: called when a call has ended, however it ended.
        on_problem: called with a line of text where spans could not be sent, from which no call suffers, or
            where a connection takes long.

    Raises:
        RuntimeEnvironmentError: certificates that cannot be read, or no connection within `plan.connect_timeout`.
    """
    jobs = enumerate((talk for _ in range(plan.repeat) for talk in plan.talks), start=1)

    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(_open(plan))
        if plan.connect_timeout is not None:
            await _connect(channel, plan.target, plan.connect_timeout, on_problem)
        sender = None
        if plan.spans_to is not None:
            sender = await stack.enter_async_context(spans.sending(plan.spans_to, on_problem))

        caller = _Caller(channel, plan, on_answer, sender)

        async def work() -> None:
            for number, talk in jobs:  # shared: each worker takes the next
                on_outcome(await caller.call(number, talk))
                _heed_cancellation()

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(plan.concurrency, plan.repeat * len(plan.talks))):
                workers.create_task(work())


async def _connect(
    channel: grpc.aio.Channel, target: str, seconds: float, on_problem: Callable[[str], None]
) -> None:
    """Waits for a connection: TCP, and HTTP/2 on top of it. Says so where that takes long.

    Raises:
        RuntimeEnvironmentError: none comes; with the reason that gRPC gives.
    """
    waiting = asyncio.ensure_future(channel.channel_ready())
    done, _ = await asyncio.wait((waiting,), timeout=min(_PATIENCE_SECONDS, seconds))
    if not done and seconds > _PATIENCE_SECONDS:
        on_problem(f"waiting up to {seconds:g} s for a connection to {excerpt(target, 100)}")
        done, _ = await asyncio.wait((waiting,), timeout=seconds - _PATIENCE_SECONDS)
    if not done:
        waiting.cancel()
        # Only a call is told why there is no connection; which call does not matter, as it leads nowhere.
        call = LandingServiceStub(channel).Talk(TalkRequest(), timeout=_PROBE_SECONDS)
        reason = excerpt(await call.details() or (await call.code()).name, 300)
        raise RuntimeEnvironmentError(
            f"no connection to {excerpt(target, 100)} within {seconds:g} s: {reason}"
        )


def _heed_cancellation() -> None:
    """Ends a task that was cancelled while a call of its own was just failing: grpc.aio then raises the
    status of the call, and the cancellation is lost."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@dataclass(frozen=True)
class _Caller:
    """What every call of a run needs."""

    channel: grpc.aio.Channel
    plan: Plan
    on_answer: OnAnswer
    sender: spans.Sender | None

    async def call(self, number: int, talk: Talk) -> Outcome:
        """Makes one, and again where it ended UNAVAILABLE, nothing was answered, and the plan allows it."""
        context, metadata = _beginning(self.plan)
        start_ns, started = time.time_ns(), time.monotonic()
        pauses = iter(_PAUSES[: self.plan.retries])
        while True:
            answers, end = await self._attempt(number, talk, metadata, started)
            if answers or end.code is not grpc.StatusCode.UNAVAILABLE:
                break
            pause = next(pauses, None)
            if pause is None or self._remaining(started, pause) == 0:
                break
            await asyncio.sleep(pause)
        seconds = time.monotonic() - started
        if self.sender is not None and context is not None:
            end_ns = start_ns + int(seconds * 1e9)
            self.sender.add(
                spans.CallSpan(context, talk.pattern.rpc, start_ns, end_ns, end.code, end.details)
            )
        way, unreadable = _report(end.trailing)
        verdict = evaluate(way, metadata, unreadable)
        sent = context.trace_id if context else None
        return Outcome(number, talk, tuple(answers), end.code, end.details, way, verdict, seconds, sent)

    async def _attempt(
        self, number: int, talk: Talk, metadata: Metadata, started: float
    ) -> tuple[list[TalkResponse], CallStatus]:
        """Its answers, and how it ended."""
        method = getattr(LandingServiceStub(self.channel), talk.pattern.rpc)
        answers: list[TalkResponse] = []
        call = method(
            _messages(talk) if talk.pattern.streams_requests else _message(talk, talk.messages[0]),
            metadata=metadata,
            timeout=self._remaining(started),
            wait_for_ready=self.plan.wait_for_ready or None,
        )
        watch = StatusWatcher(call)
        try:
            async for answer in _answers(call, talk.pattern):
                answers.append(answer)
                self.on_answer(number, talk, answer)
        except grpc.aio.AioRpcError:
            pass  # the status is read below, where success has its own
        finally:
            call.cancel()  # no effect on a call that is over
        return answers, await watch.status()

    def _remaining(self, started: float, pause: float = 0.0) -> float | None:
        """What is left of a call's time after a pause; None: it has as long as it likes."""
        if self.plan.timeout is None:
            return None
        return max(0.0, self.plan.timeout - (time.monotonic() - started) - pause)


def _beginning(plan: Plan) -> tuple[TraceContext | None, Metadata]:
    """The span with which a call begins a trace, where it does, and the metadata that it sends."""
    if not plan.trace:
        return None, plan.headers
    context = new_trace_context()
    headers = _TRACE_HEADERS[plan.trace_headers](context)
    if {key for key, _ in headers} & {key for key, _ in plan.headers}:
        return None, plan.headers  # the user's own trace
    return context, (*headers, *plan.headers)


async def _messages(talk: Talk) -> AsyncIterator[TalkRequest]:
    for number, data in enumerate(talk.messages):
        if number and talk.interval:
            await asyncio.sleep(talk.interval)
        yield _message(talk, data)


def _message(talk: Talk, data: str) -> TalkRequest:
    return TalkRequest(data=data, meta=talk.meta)


async def _answers(call: Any, pattern: Pattern) -> AsyncIterator[TalkResponse]:
    if pattern.streams_answers:
        async for answer in call:
            yield answer
    else:
        yield await call


def _report(metadata: Metadata) -> tuple[tuple[hop_report.Hop, ...], str]:
    """The hop report, or why it cannot be read."""
    try:
        return hop_report.parse_report(metadata), ""
    except HopReportError as error:
        return (), str(error)


def _open(plan: Plan) -> grpc.aio.Channel:
    options: dict[str, int | str] = {}
    if plan.keepalive is not None:
        options["grpc.keepalive_time_ms"] = int(plan.keepalive * 1000)
        options["grpc.keepalive_permit_without_calls"] = 1
    compression = _COMPRESSIONS[plan.compression]
    return open_channel(plan.target, plan.certificates, options=options, compression=compression)
