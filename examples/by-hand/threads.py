"""One hop on grpcio's threads that keeps a trace connected, with grpcio alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from common import TRACE_HEADERS, answer, backend_target, listen_address, pb2_grpc

FOREVER = 1e9  # without a deadline, grpcio reports a time that is too long for a timeout


def trace_headers(context: grpc.ServicerContext) -> list[tuple[str, str | bytes]]:
    """Return the trace headers of an incoming call. Some receivers reject empty values: skip them."""
    return [(key, value) for key, value in context.invocation_metadata() if key in TRACE_HEADERS and value]


def time_left(context: grpc.ServicerContext) -> float | None:
    """Return the seconds until the caller's deadline."""
    seconds = context.time_remaining() or 0.0
    return seconds if seconds < FOREVER else None


@contextmanager
def tied(context: grpc.ServicerContext, call: Any) -> Iterator[None]:
    """Cancel the outgoing call when the incoming call ends, and return the status of the outgoing call."""
    if not context.add_callback(call.cancel):
        call.cancel()  # the incoming call has ended already
    try:
        yield
    except (grpc.RpcError, grpc.FutureCancelledError):
        context.abort(call.code(), call.details())


class Relay:
    """Forward each call to the next hop, with its trace headers and its remaining time."""

    def __init__(self, target: str) -> None:
        self.stub = pb2_grpc.LandingServiceStub(grpc.insecure_channel(target))

    def Talk(self, request: Any, context: grpc.ServicerContext) -> Any:
        headers = trace_headers(context)
        call = self.stub.Talk.future(request, metadata=headers, timeout=time_left(context))
        with tied(context, call):
            return call.result()

    def TalkOneAnswerMore(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        headers = trace_headers(context)
        call = self.stub.TalkOneAnswerMore(request, metadata=headers, timeout=time_left(context))
        with tied(context, call):
            yield from call

    def TalkMoreAnswerOne(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        headers = trace_headers(context)
        call = self.stub.TalkMoreAnswerOne.future(requests, metadata=headers, timeout=time_left(context))
        with tied(context, call):
            return call.result()

    def TalkBidirectional(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        headers = trace_headers(context)
        call = self.stub.TalkBidirectional(requests, metadata=headers, timeout=time_left(context))
        with tied(context, call):
            yield from call


class LastHop:
    """Answer each call."""

    def Talk(self, request: Any, _: grpc.ServicerContext) -> Any:
        return answer([request.data])

    def TalkOneAnswerMore(self, request: Any, _: grpc.ServicerContext) -> Iterator[Any]:
        yield from (answer([index]) for index in request.data.split(","))

    def TalkMoreAnswerOne(self, requests: Iterator[Any], _: grpc.ServicerContext) -> Any:
        return answer(request.data for request in requests)

    def TalkBidirectional(self, requests: Iterator[Any], _: grpc.ServicerContext) -> Iterator[Any]:
        yield from (answer([request.data]) for request in requests)


def main() -> None:
    """Serve until the process is stopped."""
    target = backend_target()
    server = grpc.server(ThreadPoolExecutor(max_workers=100))  # each open stream occupies a thread
    pb2_grpc.add_LandingServiceServicer_to_server(Relay(target) if target else LastHop(), server)
    port = server.add_insecure_port(listen_address())
    server.start()
    print(f"listening on port {port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
