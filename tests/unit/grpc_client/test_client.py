"""The client as a program: its output, its exit codes, and what reaches the server."""

import asyncio
import base64
import json
import os
import pty
import re
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from grpc_client.plan import PATTERNS, Pattern
from hello_mesh.net.pb.landing_pb2 import TalkResponse

RPCS = [pattern.rpc for pattern in PATTERNS]
UUID = "[0-9a-f-]{36}"


def _events(out: str, event: str) -> list[dict[str, Any]]:
    """Of JSON lines, those of one kind; each line must be one."""
    return [line for line in map(json.loads, out.splitlines()) if line["event"] == event]


async def test_a_call_shows_its_answer_its_way_and_its_verdict(
    start_chain: Any, run_client: Any, pattern: Pattern
) -> None:
    chain = await start_chain(3)
    ended = await run_client(pattern.command, "--server", chain.target)
    assert (ended.code, ended.err) == (0, "")
    answers, way, _ = ended.out.split("\n\n")
    greetings = dict(zip("012", ("Hello", "Bonjour", "Hola"), strict=True))
    expected = [rf"  {index}  {greetings[index]}  PYTHON  {UUID}" for index in pattern.data.split(",")]
    assert re.fullmatch("\n".join((pattern.rpc, *expected)), answers)
    headline, *hops, verdict, trace = way.splitlines()
    assert headline.split() == ["hop", "trace", "id", "parent", "span", "sampled"]
    assert [hop.split()[0] for hop in hops] == ["svc1", "svc2", "svc3"]
    assert {hop.split()[3] for hop in hops} == {"yes"}
    assert {hop.split()[1] for hop in hops} == {trace.split()[2]}
    assert re.fullmatch(r"trace id: [0-9a-f]{32} \([0-9.]+ ms\)", trace)
    assert verdict == "no sidecar before any of them: one trace (W3C) over 3 hops"


async def test_all_calls_the_four_patterns_in_order(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    ended = await run_client("all", "--server", chain.target)
    assert (ended.code, ended.err) == (0, "")
    assert [line for line in ended.out.splitlines() if line in RPCS] == RPCS


async def test_json_is_a_line_for_each_answer_and_each_call(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    ended = await run_client("all", "--server", chain.target, "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    calls = _events(ended.out, "call")
    assert [(call["call"], call["rpc"], call["code"]) for call in calls] == [
        (number, rpc, "OK") for number, rpc in enumerate(RPCS, start=1)
    ]
    assert {tuple(hop["name"] for hop in call["hops"]) for call in calls} == {("svc1", "svc2")}
    assert len({call["trace_id"] for call in calls}) == 4, "each call is a trace of its own"
    answers = _events(ended.out, "answer")
    assert [answer["rpc"] for answer in answers] == [
        "Talk",
        *["TalkOneAnswerMore"] * 3,
        "TalkMoreAnswerOne",
        *["TalkBidirectional"] * 3,
    ]
    assert {answer["status"] for answer in answers} == {200}


async def test_headers_reach_the_server(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    value = bytes(range(256))
    ended = await run_client(
        *("talk", "--server", f"127.0.0.1:{peer.port}", "--no-trace"),
        *("--header", "X-User-Id: me: and you "),
        *("--header", "x-user-id:2"),
        *("--header", f"x-data-bin:{base64.b64encode(value).decode()}"),
    )
    assert ended.code == 0
    sent = [pair for pair in peer.metadata if pair[0] != "user-agent"]
    assert sent == [("x-user-id", "me: and you"), ("x-user-id", "2"), ("x-data-bin", value)]


async def test_a_traceparent_of_the_users_own_is_kept(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--header", f"traceparent:{traceparent}")
    assert [value for key, value in peer.metadata if key == "traceparent"] == [traceparent]


async def test_a_trace_of_its_own_is_sampled_and_can_be_left_out(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}")
    (traceparent,) = [value for key, value in peer.metadata if key == "traceparent"]
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", traceparent)
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--no-trace")
    assert "traceparent" not in dict(peer.metadata)


async def test_count_goes_round_the_data(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    ended = await run_client(
        "talk-more-answer-one", "--server", f"127.0.0.1:{peer.port}", "--data", "4,5", "--count", "5"
    )
    assert ended.code == 0
    assert peer.requests == ["4", "5", "4", "5", "4"]


async def test_an_interval_lies_between_messages_and_answers_come_as_they_are_made(
    start_chain: Any, start_client: Any
) -> None:
    chain = await start_chain(2)
    client = await start_client(
        "talk-bidirectional", "--server", chain.target, "--count", "2", "--interval", "3600"
    )
    async with asyncio.timeout(10):
        assert await client.process.stdout.readline() == b"TalkBidirectional\n"
        assert b"Hello" in await client.process.stdout.readline()
    client.process.send_signal(signal.SIGINT)
    assert (await client.ended()).code == 130


async def test_many_calls_are_counted(start_chain: Any, run_client: Any, pattern: Pattern) -> None:
    chain = await start_chain(2)
    ended = await run_client(
        pattern.command, "--server", chain.target, "--repeat", "25", "--concurrency", "5"
    )
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(
        rf"{pattern.rpc}: 25 calls, 0 errors, \d+ calls/s\n"
        r"  ms        p50 \d+\.\d  p90 \d+\.\d  p99 \d+\.\d  max \d+\.\d\n"
        r"  verdicts  no-sidecar 25\n"
        r"  traces    [0-9a-f]{32}\n(?: {12}[0-9a-f]{32}\n){4} {12}… those of all 25 calls: --record FILE\n",
        ended.out,
    )


async def test_many_calls_as_json_end_with_a_summary_of_each_pattern(
    start_chain: Any, run_client: Any
) -> None:
    chain = await start_chain(1)
    ended = await run_client(
        *("all", "--server", chain.target, "--output", "json", "--repeat", "3", "--concurrency", "4")
    )
    assert ended.code == 0
    assert sorted(call["call"] for call in _events(ended.out, "call")) == list(range(1, 13))
    summaries = _events(ended.out, "summary")
    assert {summary["rpc"]: summary["calls"] for summary in summaries} == dict.fromkeys(RPCS, 3)
    assert {summary["errors"] for summary in summaries} == {0}


async def test_a_terminal_sees_how_far_many_calls_are(start_chain: Any, run_shell: Any) -> None:
    chain = await start_chain(1)
    arguments = ("talk", "--server", chain.target, "--repeat", "5")
    leader, follower = pty.openpty()
    try:
        ended = await run_shell(f'"$@" 2>{os.ttyname(follower)}', *arguments)
        assert ended.out.startswith("Talk: 5 calls, 0 errors")
        assert b"5/5" in os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)


async def test_calls_are_made_as_many_at_once_as_asked_for(start_peer: Any, run_client: Any) -> None:
    arrived = 0
    together = asyncio.Event()

    async def meet(_peer: Any, _context: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 7:
            together.set()
        await together.wait()

    peer = await start_peer(meet)
    ended = await run_client(
        *("talk", "--server", f"127.0.0.1:{peer.port}", "--repeat", "7", "--concurrency", "7")
    )
    assert ended.code == 0


async def test_of_many_failures_the_first_ten_are_told(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(1)
    ended = await run_client("talk", "--server", chain.target, "--data", "9", "--repeat", "12")
    assert ended.code == 67
    told = ended.err.splitlines()
    assert [line.partition(":")[0] for line in told] == [f"call {number}" for number in range(1, 11)]
    assert "12 calls, 12 errors" in ended.out
    assert "INVALID_ARGUMENT 12" in ended.out


@pytest.mark.parametrize("output", ["text", "json"])
async def test_the_hops_that_were_expected_end_with_0(start_chain: Any, run_client: Any, output: str) -> None:
    chain = await start_chain(3)
    ended = await run_client(
        *("all", "--server", chain.target, "--expect-hops", "svc1, svc2,svc3", "--output", output)
    )
    assert (ended.code, ended.err) == (0, "")


async def test_other_hops_end_with_1_and_a_line(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    arguments = ("talk", "--server", chain.target, "--expect-hops", "svc2,svc1")
    why = "went svc1 → svc2, expected svc2 → svc1"
    ended = await run_client(*arguments)
    assert (ended.code, ended.err) == (1, f"not as expected: {why}\n")
    ended = await run_client(*arguments, "--output", "json")
    assert ended.code == 1
    assert _events(ended.out, "call")[0]["mismatches"] == [why]
    ended = await run_client(*arguments, "--repeat", "2")
    assert (ended.code, ended.err.count("\n")) == (1, 2)


async def test_a_run_that_expects_something_ends_with_its_checks(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    arguments = ("all", "--server", chain.target, "--expect-hops", "svc2,svc1")
    for more in ((), ("--repeat", "3")):
        ended = await run_client(*arguments, *more)
        assert "  ok      answers   as asked\n  FAILED  way " in ended.out
        assert "went svc1 → svc2, expected svc2 → svc1" in ended.out
    (checks,) = _events((await run_client(*arguments, "--output", "json")).out, "checks")
    assert [(row["check"], row["failed"]) for row in checks["checks"]] == [
        ("answers", 0),
        ("way", 4),
        ("trace", 0),
        ("sampled", 0),
    ]
    assert "checks of" not in (await run_client("all", "--server", chain.target)).out


async def test_a_connection_that_does_not_come_ends_with_3_and_the_reason(
    run_client: Any, free_port: int, silent_port: int
) -> None:
    for port, reason in ((free_port, "Connection refused"), (silent_port, "")):
        ended = await run_client("talk", "--port", str(port), "--connect-timeout", "0.3")
        assert (ended.code, ended.out) == (3, "")
        (line,) = ended.err.splitlines()
        assert line.startswith(f"Error: no connection to dns:///localhost:{port} within 0.3 s: ")
        assert reason in line


async def test_a_connection_that_takes_long_is_told_to_be_waited_for(run_client: Any, free_port: int) -> None:
    ended = await run_client("talk", "--port", str(free_port), "--connect-timeout", "2.2")
    first, last = ended.err.splitlines()
    assert first == f"waiting up to 2.2 s for a connection to dns:///localhost:{free_port}"
    assert last.startswith("Error: no connection to ")


async def test_a_connection_that_comes_late_is_waited_for(
    start_client: Any, start_peer: Any, free_port: int
) -> None:
    knocked = asyncio.Event()

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.set()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", free_port), asyncio.timeout(20):
        client = await start_client("talk", "--port", str(free_port), "--connect-timeout", "15")
        await knocked.wait()
    await start_peer(port=free_port)
    assert (await client.ended()).code == 0


async def test_a_broken_trace_is_not_as_expected(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(3, at={"svc2": {"forward": False}})
    ended = await run_client("talk", "--server", chain.target, "--expect-hops", "svc1,svc2,svc3")
    assert ended.code == 1
    assert ended.err.startswith("not as expected: broken at svc2: headers not forwarded")
    assert (await run_client("talk", "--server", chain.target)).code == 0


@pytest.mark.parametrize("output", ["text", "json"])
async def test_a_server_that_is_down_is_one_line(free_port: int, run_client: Any, output: str) -> None:
    ended = await run_client("talk", "--server", f"127.0.0.1:{free_port}", "--output", output)
    assert ended.code == 64 + 14
    assert re.fullmatch(r"Talk failed before any hop could report: UNAVAILABLE: .+\n", ended.err)
    if output == "json":
        (call,) = _events(ended.out, "call")
        assert (call["code"], call["verdict"]["kind"]) == ("UNAVAILABLE", "no-report")


async def test_a_next_hop_that_is_down_is_named(start_chain: Any, free_port: int, run_client: Any) -> None:
    chain = await start_chain(2, backend=f"127.0.0.1:{free_port}")
    ended = await run_client("talk", "--server", chain.target)
    assert ended.code == 64 + 14
    assert ended.err.startswith("Talk failed behind svc2: UNAVAILABLE: ")


async def test_a_bad_index_names_the_hop_that_refused_it(
    start_chain: Any, run_client: Any, pattern: Pattern
) -> None:
    chain = await start_chain(3)
    ended = await run_client(pattern.command, "--server", chain.target, "--data", "9")
    assert ended.code == 64 + 3
    why = '"9" is no language index: use a number from 0 to 5'
    assert ended.err == f"{pattern.rpc} failed at svc3: INVALID_ARGUMENT: {why}\n"
    assert "svc1" in ended.out


async def test_a_call_that_takes_too_long_ends_with_68(
    silent_port: int, run_client: Any, pattern: Pattern
) -> None:
    ended = await run_client(pattern.command, "--server", f"127.0.0.1:{silent_port}", "--timeout", "0.3")
    assert ended.code == 64 + 4
    assert ended.err.count("\n") == 1
    assert "DEADLINE_EXCEEDED" in ended.err


@pytest.mark.parametrize("limit", [(), ("--timeout", "0")])
async def test_ctrl_c_cancels_the_call_and_leaves_quietly(
    start_peer: Any, start_client: Any, pattern: Pattern, limit: tuple[str, ...]
) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    client = await start_client(pattern.command, "--server", f"127.0.0.1:{peer.port}", *limit)
    await asyncio.wait_for(peer.started.wait(), 10)
    client.process.send_signal(signal.SIGINT)
    ended = await client.ended()
    assert (ended.code, ended.out, ended.err) == (130, "", "")
    await asyncio.wait_for(peer.cancelled.wait(), 5)


async def test_ctrl_c_ends_many_calls_at_once(start_peer: Any, start_client: Any) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    client = await start_client(
        *("all", "--server", f"127.0.0.1:{peer.port}", "--repeat", "100", "--concurrency", "20")
    )
    await asyncio.wait_for(peer.started.wait(), 10)
    client.process.send_signal(signal.SIGINT)
    ended = await client.ended()
    assert (ended.code, ended.out, ended.err) == (130, "", "")


async def test_wait_for_ready_waits_for_a_server_to_come(
    start_peer: Any, start_client: Any, free_port: int
) -> None:
    client = await start_client("talk", "--server", f"127.0.0.1:{free_port}", "--wait-for-ready")
    async with asyncio.timeout(10):
        await _first_connection_refused_on(free_port)
    await start_peer(port=free_port)
    assert (await client.ended()).code == 0


async def _first_connection_refused_on(port: int) -> None:
    """Listens until somebody knocks, and shuts the door on them: then the client has found nobody there."""
    knocked = asyncio.Event()

    def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        knocked.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        await knocked.wait()


async def test_wait_for_ready_waits_no_longer_than_the_timeout(free_port: int, run_client: Any) -> None:
    ended = await run_client(
        *("talk", "--server", f"127.0.0.1:{free_port}", "--wait-for-ready", "--timeout", "0.3")
    )
    assert ended.code == 64 + 4


@pytest.mark.parametrize(("retries", "code"), [((), 64 + 14), (("--retries", "1"), 0)])
async def test_a_call_is_tried_again_where_that_was_asked_for(
    start_peer: Any, run_client: Any, pattern: Pattern, retries: tuple[str, ...], code: int
) -> None:
    attempts = 0

    async def fail_once(_peer: Any, context: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")

    peer = await start_peer(fail_once)
    ended = await run_client(pattern.command, "--server", f"127.0.0.1:{peer.port}", *retries)
    assert ended.code == code
    assert attempts == len(retries) // 2 + 1


async def test_a_call_that_was_answered_in_part_is_not_tried_again(start_peer: Any, run_client: Any) -> None:
    attempts = 0

    async def answer_once_and_fail(_peer: Any, context: Any) -> None:
        nonlocal attempts
        attempts += 1
        await context.write(TalkResponse(status=200))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "half-way")

    peer = await start_peer(answer_once_and_fail)
    target = f"127.0.0.1:{peer.port}"
    ended = await run_client("talk-one-answer-more", "--server", target, "--retries", "2")
    assert (ended.code, attempts) == (64 + 14, 1)


async def test_no_more_is_tried_than_was_asked_for(start_peer: Any, run_client: Any) -> None:
    attempts = 0

    async def fail(_peer: Any, context: Any) -> None:
        nonlocal attempts
        attempts += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "never")

    peer = await start_peer(fail)
    ended = await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--retries", "2")
    assert (ended.code, attempts) == (64 + 14, 3)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_messages_can_be_compressed(
    start_chain: Any, run_client: Any, pattern: Pattern, algorithm: str
) -> None:
    chain = await start_chain(2)
    ended = await run_client(pattern.command, "--server", chain.target, "--compression", algorithm)
    assert (ended.code, ended.err) == (0, "")


async def test_compression_makes_a_message_smaller_on_the_wire(run_client: Any) -> None:
    sizes = {}
    for algorithm in ("none", "gzip"):
        sink = _Sink()
        async with await asyncio.start_server(sink.take, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            arguments = ("--data", "0" * 30_000, "--compression", algorithm)
            await run_client("talk", "--server", f"127.0.0.1:{port}", *arguments)
        sizes[algorithm] = sink.received
        assert sink.encoding == {"none": None, "gzip": b"gzip"}[algorithm]
    assert sizes["none"] > 30_000
    assert sizes["gzip"] < 1_000


class _Sink:
    """Takes one call and counts the bytes of its messages; then it hangs up."""

    received = 0
    encoding: bytes | None = None

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        connection.initiate_connection()
        over = False
        while not over:
            writer.write(connection.data_to_send())
            for event in connection.receive_data(await reader.read(65536)):
                if isinstance(event, RequestReceived):
                    self.encoding = dict(event.headers).get(b"grpc-encoding")
                elif isinstance(event, DataReceived):
                    self.received += len(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    connection.reset_stream(event.stream_id)
                    over = True
        writer.write(connection.data_to_send())
        writer.close()
        await writer.wait_closed()


async def test_keepalive_is_accepted(start_chain: Any, run_client: Any) -> None:
    """That pings of an idle stream are not punished would take longer than a test should: the server
    allows one in 5 s, the option's least is 10 s."""
    chain = await start_chain(1)
    ended = await run_client("all", "--server", chain.target, "--keepalive", "10")
    assert (ended.code, ended.err) == (0, "")


async def test_the_variables_say_where_to_call_and_options_win(
    start_chain: Any, run_client: Any, free_port: int
) -> None:
    chain = await start_chain(1)
    host, _, port = chain.target.partition(":")
    right = {"GRPC_SERVER": host, "GRPC_SERVER_PORT": port}
    assert (await run_client("talk", env=right)).code == 0
    wrong = right | {"GRPC_SERVER_PORT": str(free_port)}
    assert (await run_client("talk", env=wrong)).code == 64 + 14
    assert (await run_client("talk", "--port", port, env=wrong)).code == 0
    assert (await run_client("talk", "--server", chain.target, env=wrong)).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--count", "9000"),
        ("--count", "9000", "--output", "json"),
        ("--repeat", "500", "--concurrency", "3", "--output", "json"),
    ],
)
async def test_a_reader_that_goes_away_ends_the_client_quietly(
    start_chain: Any, run_shell: Any, arguments: tuple[str, ...]
) -> None:
    chain = await start_chain(1)
    line = '{ "$@"; echo "it ended with $?" >&2; } | head -n 1'
    ended = await run_shell(line, "talk-one-answer-more", "--server", chain.target, *arguments)
    assert (ended.err, ended.out.count("\n")) == ("it ended with 1\n", 1)


async def test_a_summary_that_nobody_reads_ends_the_client_quietly(start_chain: Any, run_shell: Any) -> None:
    chain = await start_chain(1)
    line = '{ "$@"; echo "it ended with $?" >&2; } | true'
    ended = await run_shell(line, "talk", "--server", chain.target, "--repeat", "2")
    assert ended.err == "it ended with 1\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("repeat", [(), ("--repeat", "2")])
async def test_an_output_that_is_full_is_one_line(
    start_chain: Any, repeat: tuple[str, ...], run_shell: Any
) -> None:
    chain = await start_chain(1)
    ended = await run_shell('"$@" > /dev/full', "talk", "--server", chain.target, *repeat)
    assert (ended.code, ended.err) == (3, "Error: cannot write the output: No space left on device\n")


async def test_an_output_that_is_closed_from_the_start_does_no_harm(start_chain: Any, run_shell: Any) -> None:
    chain = await start_chain(1)
    ended = await run_shell('"$@" >&-', "talk", "--server", chain.target)
    assert (ended.code, ended.err) == (0, "")


async def test_a_terminal_that_knows_no_japanese_gets_escapes(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(1)
    env = {"PYTHONIOENCODING": "latin-1"}
    ended = await run_client("talk", "--server", chain.target, "--data", "3", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert r"\u3053\u3093\u306b\u3061\u306f" in ended.out


async def test_nothing_hostile_that_a_server_sends_reaches_the_terminal(
    start_peer: Any, run_client: Any
) -> None:
    async def refuse(_peer: Any, context: Any) -> None:
        report = "name=%1B%5B31m%0A%C2%9B;role=last;trace=%1B;parent=%0A"
        await context.abort(grpc.StatusCode.INTERNAL, "\x1b[31m\nforged\x9b", (("hello-hop", report),))

    peer = await start_peer(refuse)
    for output in ("text", "json"):
        ended = await run_client(
            *("talk", "--server", f"127.0.0.1:{peer.port}", "--output", output, "--expect-hops", "svc1")
        )
        assert ended.code == 64 + 13
        assert (ended.out + ended.err).replace("\n", "").isprintable()
        assert "\nforged" not in ended.out + ended.err


async def test_a_report_that_cannot_be_read_is_told_and_the_answer_stands(
    start_peer: Any, run_client: Any
) -> None:
    async def garble(_peer: Any, context: Any) -> None:
        context.set_trailing_metadata((("hello-hop", "garbage"),))

    peer = await start_peer(garble)
    ended = await run_client("talk", "--server", f"127.0.0.1:{peer.port}")
    assert (ended.code, ended.err) == (0, "")
    assert "no report: not a hop report: garbage" in ended.out


async def test_tls_is_asked_for_by_variable(start_chain: Any, run_client: Any, tmp_path: Any) -> None:
    chain = await start_chain(1)
    env = {"GRPC_HELLO_SECURE": "Y", "CERT_BASE_PATH": str(tmp_path)}
    ended = await run_client("talk", "--server", chain.target, env=env)
    assert ended.code == 3
    assert str(tmp_path) in ended.err
