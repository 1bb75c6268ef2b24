"""Invalid input: the error is clear, the server continues, and the memory is freed."""

import gc
import os
import subprocess
from typing import Any

import grpc
import pytest

from grpc_client.plan import RPC_METHODS, RpcMethod
from grpc_server import greetings
from grpc_server.greetings import greeting, parse_indexes
from hello_mesh.base.errors import TooManyGreetingsError, UnknownIndexError
from hello_mesh.base.languages import HELLOS
from hello_mesh.net.pb.landing_pb2 import TalkRequest
from hello_mesh.net.rpc import method_path

TALK, ONE_MORE, MORE_ONE, BIDI = RPC_METHODS

INVALID_INDEXES = [
    "",
    "6",
    "a,b",
    "0,,1",
    " 0",
    "0 ",
    "-1",
    "+1",
    "1_0",
    "1.0",
    "٣",
    "²",
    "0x1",
    "None",
    "0\n",
    "9" * 5000,
]
lengths = pytest.mark.parametrize("length", [1, 3])


@pytest.mark.parametrize("index", INVALID_INDEXES)
def test_only_ascii_digits_in_range_are_a_valid_index(index: str) -> None:
    with pytest.raises(UnknownIndexError, match="use a number from 0 to 5"):
        greeting(index)


@pytest.mark.parametrize("index", range(len(HELLOS)))
def test_a_few_leading_zeros_change_nothing(index: int) -> None:
    assert greeting(f"{index:08}") == HELLOS[index]


@pytest.mark.parametrize("index", range(len(HELLOS)))
def test_an_index_of_more_than_eight_digits_is_invalid(index: int) -> None:
    with pytest.raises(UnknownIndexError):
        greeting(f"{index:09}")


def test_a_list_of_exactly_the_most_greetings_is_accepted() -> None:
    assert len(parse_indexes(",".join(["0"] * 10_000))) == 10_000
    with pytest.raises(TooManyGreetingsError, match="request at most 10000"):
        parse_indexes(",".join(["0"] * 10_001))


@lengths
@pytest.mark.parametrize("data", INVALID_INDEXES)
async def test_an_invalid_index_is_an_invalid_argument_and_quoted(
    start_chain: Any, pattern: RpcMethod, length: int, data: str
) -> None:
    chain = await start_chain(length)
    request = TalkRequest(data=data)
    method = getattr(chain.stub, pattern.rpc)
    call = method(iter([request])) if pattern.streams_requests else method(request)
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = await call.details()
    assert details.isprintable()
    assert len(details) < 150
    assert details.startswith('invalid language index "')
    assert details.endswith('": use a number from 0 to 5')
    assert (await chain.stub.Talk(TalkRequest(data="0"))).status == 200


async def test_the_whole_list_is_checked_before_the_first_response(start_chain: Any, ask: Any) -> None:
    outcome = await ask((await start_chain(3)).target, ONE_MORE, "0,1,2,3,6")
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.details.startswith('invalid language index "6"')
    assert outcome.responses == ()


@lengths
async def test_a_list_of_100_000_indexes_is_refused(start_chain: Any, ask: Any, length: int) -> None:
    outcome = await ask((await start_chain(length)).target, ONE_MORE, ",".join(["0"] * 100_000))
    assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert outcome.details.endswith("request at most 10000")
    assert len(outcome.hops) == length


@lengths
async def test_a_client_stream_without_end_is_refused(
    start_chain: Any, ask: Any, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greetings, "MAX_GREETINGS", 100)
    chain = await start_chain(length)
    exactly = await ask(chain.target, MORE_ONE, ",".join(["0"] * 100))
    assert exactly.code is grpc.StatusCode.OK
    assert len(exactly.responses[0].results) == 100
    for count in (101, 5000):
        more = await ask(chain.target, MORE_ONE, ",".join(["0"] * count))
        assert more.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert more.details == "too many greetings in one call (101 or more): request at most 100"


@lengths
async def test_a_message_of_ten_megabytes_is_refused_and_its_memory_freed(
    start_chain: Any, ask: Any, pattern: RpcMethod, length: int
) -> None:
    chain = await start_chain(length)
    message = "0" * 10 * 1024 * 1024
    await ask(chain.target, pattern, message)  # the allocator keeps the memory of the first one
    before = _resident_megabytes()
    for _ in range(10):
        outcome = await ask(chain.target, pattern, message)
        assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in outcome.details
    assert (await ask(chain.target, TALK)).code is grpc.StatusCode.OK
    gc.collect()
    assert _resident_megabytes() - before < 40  # ten such messages are 100


@lengths
async def test_bytes_that_are_not_a_message_are_refused_and_the_server_continues(
    start_chain: Any, pattern: RpcMethod, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    chain = await start_chain(length)
    call = chain.channel.stream_stream(method_path(pattern.rpc))(iter([b"\xff\xff\xff\xff"]))
    assert await call.code() is grpc.StatusCode.INTERNAL
    assert await call.details() == "invalid request: the bytes received are not a TalkRequest"
    assert [key for key, _ in await call.trailing_metadata()] == ["hello-hop"] * length
    assert caplog.records == []
    assert (await chain.stub.Talk(TalkRequest(data="0"))).status == 200


@lengths
async def test_an_unknown_method_is_unimplemented(start_chain: Any, length: int) -> None:
    call = (await start_chain(length)).channel.unary_unary("/org.feuyeux.grpc.LandingService/Shout")(b"")
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    assert await call.details() == "unknown method /org.feuyeux.grpc.LandingService/Shout"


async def test_a_huge_request_id_does_not_break_the_report(start_chain: Any, ask: Any) -> None:
    """The whole id in the reports of eight hops would exceed gRPC's limit for trailing metadata."""
    chain = await start_chain(8)
    outcome = await ask(chain.target, TALK, headers=(("x-request-id", "%" * 4000),))
    assert outcome.code is grpc.StatusCode.OK
    assert [hop.name for hop in outcome.hops] == list(chain.names)


def _resident_megabytes() -> float:
    # macOS has ps, but no /proc.
    listed = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], check=True, capture_output=True)
    return int(listed.stdout) / 1024
