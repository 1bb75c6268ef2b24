"""Servers of other implementations, and broken ones, in place of a hop of the demo."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from grpc_client.plan import RPC_METHODS, RpcMethod
from hello_mesh.base.languages import HELLOS
from hello_mesh.net.pb.landing_pb2 import TalkResponse, TalkResult
from hello_mesh.net.rpc import LANDING_SERVICE

TALK, ONE_MORE, MORE_ONE, BIDI = RPC_METHODS
UNARY_RESPONSES = (TALK, MORE_ONE)
STREAMS = (ONE_MORE, BIDI)
GREETING = TalkResponse(status=200, results=[TalkResult(kv={"idx": "0", "data": HELLOS[0]})])
OK_REPORT = "name=svc1;role=last"

Serve = Callable[..., Awaitable[str]]
Responses = Callable[[Any], AsyncIterator[bytes]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that starts a server and returns its address.

    For each method, it sends what `responses(context)` yields, however many messages that are.
    """
    servers: list[grpc.aio.Server] = []

    async def start(responses: Responses) -> str:
        async def handle(_requests: Any, context: Any) -> AsyncIterator[bytes]:
            async for message in responses(context):
                yield message

        handler: Any = grpc.stream_stream_rpc_method_handler(handle)
        methods = {method.name: handler for method in LANDING_SERVICE.methods}
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(LANDING_SERVICE.full_name, methods),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


def _messages(*messages: bytes, report: str = "") -> Responses:
    async def responses(context: Any) -> AsyncIterator[bytes]:
        if report:
            context.set_trailing_metadata((("hello-hop", report),))
        for message in messages:
            yield message

    return responses


@pytest.mark.parametrize("pattern", UNARY_RESPONSES, ids=lambda method: method.command)
@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ((), "the call ended OK without a message"),
        ((b"", b""), "more than one message for one response"),
        ((GREETING.SerializeToString(),) * 50, "more than one message for one response"),
    ],
)
async def test_one_response_means_exactly_one(
    serve: Serve, run_client: Any, pattern: RpcMethod, messages: tuple[bytes, ...], problem: str
) -> None:
    client = await run_client(
        pattern.command, "--server", await serve(_messages(*messages)), "--timeout", "9"
    )
    assert client.code == 64 + 13
    assert (
        client.err == f"{pattern.rpc} failed before any hop reported: INTERNAL: invalid response: {problem}\n"
    )


async def test_a_call_without_its_response_keeps_the_hop_report(serve: Serve, run_client: Any) -> None:
    client = await run_client("talk", "--server", await serve(_messages(report=OK_REPORT)))
    assert client.err.startswith("Talk failed at svc1: INTERNAL: ")


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05x", b"\x12\x02\x1a\xff"])
async def test_bytes_that_are_no_response_are_one_line(
    serve: Serve, run_client: Any, pattern: RpcMethod, message: bytes
) -> None:
    client = await run_client(pattern.command, "--server", await serve(_messages(message)))
    assert client.code == 64 + 13
    assert client.err == (
        f"{pattern.rpc} failed before any hop reported: INTERNAL: invalid response:"
        " the bytes received are not a TalkResponse\n"
    )


@pytest.mark.parametrize("pattern", STREAMS, ids=lambda method: method.command)
@pytest.mark.parametrize("limit", ["0", "9"])
async def test_an_endless_stream_is_stopped(
    serve: Serve, run_client: Any, pattern: RpcMethod, limit: str
) -> None:
    async def endless(_context: Any) -> AsyncIterator[bytes]:
        while True:
            yield GREETING.SerializeToString()

    client = await run_client(pattern.command, "--server", await serve(endless), "--timeout", limit)
    assert client.code == 64 + 1
    assert client.out.count(HELLOS[0]) == 13
    assert client.err == (
        f"{pattern.rpc} failed before any hop reported: CANCELLED: stopped by the client: 14 responses"
        " received, 3 responses expected\n"
    )


async def test_a_few_responses_too_many_are_a_mismatch_of_a_call_that_is_over(
    serve: Serve, run_client: Any
) -> None:
    server = await serve(_messages(*[GREETING.SerializeToString()] * 5, report=OK_REPORT))
    client = await run_client("talk-one-answer-more", "--server", server, "--expect-hops", "svc1")
    assert client.code == 1
    assert "mismatch: received 5 responses, expected 3\n" in client.err


@pytest.mark.parametrize("output", ["text", "json"])
async def test_a_short_answer_is_not_a_success(serve: Serve, run_client: Any, output: str) -> None:
    server = await serve(_messages(GREETING.SerializeToString()))
    client = await run_client("talk-one-answer-more", "--server", server, "--output", output)
    text = "received 1 response, expected 3"
    assert client.code == 1
    if output == "text":
        assert client.err == f"mismatch: {text}\n"
    else:
        assert json.loads(client.out.splitlines()[-1])["mismatches"] == [text]
    counted = await run_client("talk-one-answer-more", "--server", server, "--repeat", "2")
    assert (counted.code, counted.err.count(f"mismatch: {text} (trace ")) == (1, 2)


async def test_a_first_hop_that_does_not_report_is_answered_with_the_trace_id_that_was_sent(
    serve: Serve, run_client: Any
) -> None:
    server = await serve(_messages(GREETING.SerializeToString()))
    traceparent = f"traceparent:00-{'a' * 32}-{'b' * 16}-01"
    client = await run_client("talk", "--server", server, "--header", traceparent)
    assert (client.code, client.err) == (0, "")
    verdict, trace = client.out.rstrip().splitlines()[-2:]
    assert verdict == (
        "no report: the call was answered, but no hop reported what it saw: look up the trace id in the"
        " mesh's spans"
    )
    assert trace.startswith(f"trace id: {'a' * 32} (")


async def test_a_next_hop_that_does_not_report_is_never_covered_by_a_check(
    serve: Serve, start_chain: Any, run_client: Any
) -> None:
    """The next hop answers rightly, and drops the headers: the verdict must not be `connected`."""
    next_hop = await serve(_messages(GREETING.SerializeToString()))
    chain = await start_chain(1, backend=next_hop)
    arguments = ("talk", "--server", chain.target, "--expect-hops")
    client = await run_client(*arguments, "svc1")
    assert (client.code, client.err) == (1, "mismatch: path svc1 → ?, expected svc1\n")
    assert "whole as far as svc1: one trace (W3C) over 1 hop" in client.out
    assert "no hop downstream of svc1 reported: check the mesh's spans" in client.out
    client = await run_client(*arguments, "svc1,?,?")
    assert (client.code, client.err) == (0, "")
    assert "  ok      trace     one trace id at 1 of 3 hops" in client.out


async def test_joined_and_unreadable_reports_are_read_as_far_as_possible(
    serve: Serve, run_client: Any
) -> None:
    reports = "name=svc1;role=relay;sent=1, garbage, name=svc3;role=last"
    server = await serve(_messages(GREETING.SerializeToString(), report=reports))
    arguments = ("talk", "--server", server, "--trace-headers", "none")
    client = await run_client(*arguments, "--output", "json")
    record = json.loads(client.out.splitlines()[-1])
    assert [hop["name"] for hop in record["hops"]] == ["svc1", "svc3"]
    (reason,) = record["unreadable"]
    assert "garbage" in reason
    assert record["verdict"]["text"].endswith(f"; {reason}")
    client = await run_client(*arguments, "--expect-hops", "svc1,svc3")
    assert client.code == 1
    assert "mismatch: invalid hop report: {'garbage': ''}" in client.err


async def test_variables_of_others_do_not_matter(serve: Serve, run_client: Any) -> None:
    server = await serve(_messages(GREETING.SerializeToString(), report=OK_REPORT))
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "nonsense://",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "none",
        "OTEL_TRACES_SAMPLER": "bogus",
        "OTEL_TRACES_EXPORTER": "bogus",
        "OTEL_PROPAGATORS": "bogus",
        "OTEL_SERVICE_NAME": "another",
        "GRPC_SERVER_PORT": "tcp://10.96.0.7:9996",
        "GRPC_SERVER_PORT_9996_TCP": "tcp://10.96.0.7:9996",
        "GRPC_SERVER_SERVICE_HOST": "10.96.0.7",
    }
    client = await run_client("talk", "--server", server, env=env)
    assert (client.code, client.err) == (0, "")
