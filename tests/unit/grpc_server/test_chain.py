"""Responses, order, statuses, headers and the hop report, for each pattern over one, two and three hops."""

import base64
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcAioInstrumentorServer

from grpc_client.plan import RPC_METHODS, RpcMethod
from hello_mesh.base.languages import HELLOS
from hello_mesh.net.pb.landing_pb2 import OK, TalkRequest
from hello_mesh.propagation.headers import FAMILIES, ExtraHeaders
from hello_mesh.propagation.hop_report import Role
from hello_mesh.propagation.verdict import VerdictKind

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
B3 = (("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), ("x-b3-spanid", "0020000000000001"))

HIDDEN_BY_GRPC = {"grpc-trace-bin"}

lengths = pytest.mark.parametrize("length", [1, 2, 3])


@lengths
async def test_every_index_is_answered_in_order(
    start_chain: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    chain = await start_chain(length)
    indexes = (
        ["5", "0", "3", "3", "1", "2", "4"] if "More" in pattern.rpc or pattern.streams_requests else ["3"]
    )
    outcome = await ask(chain.target, pattern, ",".join(indexes))
    results = [result for answer in outcome.responses for result in answer.results]
    assert outcome.code is grpc.StatusCode.OK
    assert [result.kv["idx"] for result in results] == indexes
    assert [result.kv["data"] for result in results] == [HELLOS[int(index)] for index in indexes]
    assert {result.kv["meta"] for result in results} == {"PYTHON"}
    assert {result.type for result in results} == {OK}
    assert {answer.status for answer in outcome.responses} == {200}
    assert len({result.kv["id"] for result in results}) == len(indexes)
    assert len(outcome.responses) == (len(indexes) if pattern.streams_responses else 1)


@lengths
async def test_every_hop_reports_in_order(
    start_chain: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    chain = await start_chain(length)
    outcome = await ask(
        chain.target,
        pattern,
        headers=(("traceparent", TRACEPARENT), *B3, ("x-request-id", "r;=1")),
    )
    assert [hop.name for hop in outcome.hops] == list(chain.names)
    assert [hop.role for hop in outcome.hops] == [Role.RELAY] * (length - 1) + [Role.LAST]
    assert {hop.w3c.traceparent for hop in outcome.hops} == {TRACEPARENT}
    assert {(hop.b3.trace_id, hop.b3.span_id) for hop in outcome.hops} == {(B3[0][1], B3[1][1])}
    assert {hop.request for hop in outcome.hops} == {"r;=1"}
    assert [hop.sent for hop in outcome.hops] == [True] * (length - 1) + [None]


@pytest.mark.parametrize(
    ("forward", "trace_headers", "sent"),
    [(True, "w3c", True), (True, "b3", True), (False, "w3c", False), (True, "none", False)],
)
async def test_a_relay_reports_whether_its_outgoing_call_has_trace_context(
    start_chain: Any, start_peer: Any, ask: Any, forward: bool, trace_headers: str, sent: bool
) -> None:
    peer = await start_peer()
    chain = await start_chain(1, backend=f"127.0.0.1:{peer.port}", at={"svc1": {"forward": forward}})
    outcome = await ask(chain.target, RPC_METHODS[0], trace_headers=trace_headers)
    assert outcome.hops[0].sent is sent
    assert bool({"traceparent", "x-b3-traceid"} & dict(peer.metadata).keys()) is sent


@lengths
async def test_a_failure_keeps_status_text_and_report(
    start_chain: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    chain = await start_chain(length)
    outcome = await ask(chain.target, pattern, "9")
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.details == 'invalid language index "9": use a number from 0 to 5'
    assert [hop.name for hop in outcome.hops] == list(chain.names)


@lengths
async def test_a_status_of_another_server_comes_back_unchanged(
    start_chain: Any, start_peer: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    text = 'quota "ü" of\nsvc: 100% gone'
    trailing = (("x-why", "because"), ("x-why", "twice"), ("grpc-status-details-bin", b"\x08\x08\xff"))

    async def refuse(_peer: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text, trailing)

    peer = await start_peer(refuse)
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    call = chain.stub.TalkOneAnswerMore(TalkRequest(data="0"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert [pair for pair in raised.value.trailing_metadata() if pair[0] != "hello-hop"] == list(trailing)
    outcome = await ask(chain.target, pattern)
    assert (outcome.code, outcome.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    assert [hop.name for hop in outcome.hops] == list(chain.names)


@lengths
async def test_initial_and_trailing_metadata_of_a_success_come_back(
    start_chain: Any, start_peer: Any, length: int
) -> None:
    async def decorate(_peer: Any, context: Any) -> None:
        await context.send_initial_metadata((("x-early", "1"), ("date", "today")))
        context.set_trailing_metadata((("x-late-bin", b"\x00\xff"), ("server", "envoy"), ("x-late", "2")))

    peer = await start_peer(decorate)
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    call = chain.stub.Talk(TalkRequest(data="0"))
    assert list(await call.initial_metadata()) == [("x-early", "1")]
    trailing = [pair for pair in await call.trailing_metadata() if pair[0] != "hello-hop"]
    assert trailing == [("x-late-bin", b"\x00\xff"), ("x-late", "2")]


def _values(key: str) -> list[str | bytes]:
    if key == "traceparent":
        return [TRACEPARENT]
    return [f"{key}=1;a b", "two"]


@lengths
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_every_header_family_is_propagated(
    start_chain: Any, start_peer: Any, ask: Any, pattern: RpcMethod, family: Any, length: int
) -> None:
    peer = await start_peer()
    chain = await start_chain(length, backend=f"127.0.0.1:{peer.port}")
    sent = [(key, value) for key in family.keys if key not in HIDDEN_BY_GRPC for value in _values(key)]
    await ask(chain.target, pattern, headers=tuple(sent), trace_headers="none")
    assert [pair for pair in peer.metadata if pair[0] in family.keys] == sent


async def test_grpc_hides_one_header_from_every_application(start_peer: Any, ask: Any) -> None:
    """If this fails, gRPC shows the header: remove `HIDDEN_BY_GRPC`."""
    peer = await start_peer()
    await ask(f"127.0.0.1:{peer.port}", RPC_METHODS[0], headers=tuple((key, b"\1") for key in HIDDEN_BY_GRPC))
    assert not HIDDEN_BY_GRPC & {key for key, _ in peer.metadata}


async def test_other_headers_are_not_propagated(
    start_chain: Any, start_peer: Any, ask: Any, pattern: RpcMethod
) -> None:
    peer = await start_peer()
    allowed = "x-user-id, x-canary-*, x-session-bin, authorization"
    denied = "x-envoy-*, x-forwarded-for, te, host, user-agent, grpc-foo"
    at = {"svc1": {"extra_headers": ExtraHeaders.parse(f"{allowed}, {denied}")}}
    chain = await start_chain(1, backend=f"127.0.0.1:{peer.port}", at=at)
    dropped = (
        ("cookie", "c"),
        ("x-other", "o"),
        ("x-envoy-attempt-count", "1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("host", "elsewhere"),
        ("tracestate", ""),
    )
    kept = (
        ("x-user-id", "u"),
        ("x-canary-color", "blue"),
        ("x-canary-", "bare"),
        ("authorization", "configured"),
    )
    await ask(chain.target, pattern, headers=dropped + kept, trace_headers="none")
    own = {"user-agent"}  # gRPC's own, of the relay itself
    assert {pair for pair in peer.metadata if pair[0] not in own} == set(kept)
    assert dict(peer.metadata)["user-agent"].count("grpc-python-asyncio") == 1


async def test_a_hop_without_propagation_breaks_the_trace(
    start_chain: Any, ask: Any, pattern: RpcMethod
) -> None:
    chain = await start_chain(3, at={"svc2": {"forward": False}})
    outcome = await ask(chain.target, pattern)
    assert outcome.code is grpc.StatusCode.OK
    assert (outcome.verdict.kind, outcome.verdict.hop) == (VerdictKind.BROKEN, "svc2")
    assert outcome.hops[2].w3c is None


async def test_headers_that_grpc_cannot_carry_are_dropped_and_the_call_succeeds(
    start_chain: Any, start_peer: Any, talk_over_h2: Any
) -> None:
    """A client without gRPC can send headers that gRPC's own client refuses."""
    peer = await start_peer()
    chain = await start_chain(1, backend=f"127.0.0.1:{peer.port}")
    foreign = [(b"baggage", "k=ü".encode()), (b"tracestate", b"a=1"), (b"x-request-id", b"")]
    assert await talk_over_h2(chain.servers[0].port, foreign) == b"0"
    assert [pair for pair in peer.metadata if pair[0] != "user-agent"] == [("tracestate", "a=1")]


async def test_messages_are_relayed_as_unchanged_bytes(start_chain: Any) -> None:
    """A field that this version does not know survives every hop."""
    received: list[bytes] = []

    async def echo(request: bytes, _context: Any) -> bytes:
        received.append(request)
        return base64.b16decode("08C801") + request

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "org.feuyeux.grpc.LandingService", {"Talk": grpc.unary_unary_rpc_method_handler(echo)}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    chain = await start_chain(3, backend=f"127.0.0.1:{port}")
    unknown_field = base64.b16decode("0A0130") + base64.b16decode("BA3E0576616C7565")
    talk = chain.channel.unary_unary("/org.feuyeux.grpc.LandingService/Talk")
    assert await talk(unknown_field) == base64.b16decode("08C801") + unknown_field
    assert received == [unknown_field]
    await server.stop(0)


async def test_hops_under_opentelemetrys_agent_serve_every_method(
    start_chain: Any, ask: Any, pattern: RpcMethod
) -> None:
    """The agent puts interceptors of its own around the handlers and the calls to the next hop."""
    agents: tuple[Any, ...] = (GrpcAioInstrumentorServer(), GrpcAioInstrumentorClient())  # type: ignore[no-untyped-call]
    for agent in agents:
        agent.instrument()
    try:
        chain = await start_chain(2)
        outcome = await ask(chain.target, pattern)
        failed = await ask(chain.target, pattern, "77")
    finally:
        for agent in agents:
            agent.uninstrument()
    assert outcome.ok, outcome.details
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    for each in (outcome, failed):
        assert [hop.name for hop in each.hops] == ["svc1", "svc2"]


def test_the_patterns_are_the_four_methods_of_the_service() -> None:
    assert [(p.rpc, p.streams_requests, p.streams_responses) for p in RPC_METHODS] == [
        ("Talk", False, False),
        ("TalkOneAnswerMore", False, True),
        ("TalkMoreAnswerOne", True, False),
        ("TalkBidirectional", True, True),
    ]
