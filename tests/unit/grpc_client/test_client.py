"""The client as a process: its output, its exit codes, and what reaches the server."""

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

from grpc_client.plan import RPC_METHODS, RpcMethod
from hello_mesh.propagation.call_record import CallRecord

RPCS = [method.rpc for method in RPC_METHODS]
UUID = "[0-9a-f-]{36}"


def _events(out: str, event: str) -> list[dict[str, Any]]:
    """Return the JSON lines of one event; every line must be JSON."""
    return [line for line in map(json.loads, out.splitlines()) if line["event"] == event]


async def test_a_call_shows_its_responses_its_path_and_its_verdict(
    start_chain: Any, run_client: Any, pattern: RpcMethod
) -> None:
    chain = await start_chain(3)
    client = await run_client(pattern.command, "--server", chain.target)
    assert (client.code, client.err) == (0, "")
    responses, path, _ = client.out.split("\n\n")
    greetings = dict(zip("012", ("Hello", "Bonjour", "Hola"), strict=True))
    expected = [rf"  {index}  {greetings[index]}  PYTHON  {UUID}" for index in pattern.data.split(",")]
    assert re.fullmatch("\n".join((pattern.rpc, *expected)), responses)
    headline, *hops, verdict, trace = path.splitlines()
    assert headline.split() == ["hop", "trace", "id", "parent", "span", "sampled"]
    assert [hop.split()[0] for hop in hops] == ["svc1", "svc2", "svc3"]
    assert {hop.split()[3] for hop in hops} == {"yes"}
    assert {hop.split()[1] for hop in hops} == {trace.split()[2]}
    assert re.fullmatch(r"trace id: [0-9a-f]{32} \([0-9.]+ ms\)", trace)
    assert verdict.startswith("no sidecar ")
    assert verdict.endswith(": one trace (W3C) over 3 hops")


async def test_all_calls_the_four_patterns_in_order(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    client = await run_client("all", "--server", chain.target)
    assert (client.code, client.err) == (0, "")
    assert [line for line in client.out.splitlines() if line in RPCS] == RPCS


async def test_json_output_has_a_line_for_each_response_and_each_call(
    start_chain: Any, run_client: Any
) -> None:
    chain = await start_chain(2)
    client = await run_client("all", "--server", chain.target, "--output", "json")
    assert (client.code, client.err) == (0, "")
    calls = _events(client.out, "call")
    assert [(call["call"], call["rpc"], call["code"]) for call in calls] == [
        (number, rpc, "OK") for number, rpc in enumerate(RPCS, start=1)
    ]
    assert {tuple(hop["name"] for hop in call["hops"]) for call in calls} == {("svc1", "svc2")}
    assert len({call["trace_id"] for call in calls}) == 4, "each call is a trace of its own"
    responses = _events(client.out, "answer")
    assert [response["rpc"] for response in responses] == [
        "Talk",
        *["TalkOneAnswerMore"] * 3,
        "TalkMoreAnswerOne",
        *["TalkBidirectional"] * 3,
    ]
    assert {response["status"] for response in responses} == {200}


async def test_a_json_line_of_a_call_is_its_record(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2, at={"svc1": {"forward": False}})
    arguments = ("all", "--server", chain.target, "--output", "json", "--expect-hops", "svc1,svc2")
    lines = _events((await run_client(*arguments)).out, "call")
    records = [CallRecord.from_json(line) for line in lines]
    assert [record.rpc for record in records] == RPCS
    assert [{"event": "call"} | record.to_json() for record in records] == lines
    for record in records:
        assert record.hops[0].w3c is not None
        assert (record.sent_trace_id, record.sent_span_id) == (
            record.hops[0].w3c.trace_id,
            record.hops[0].w3c.span_id,
        )
        assert record.mismatches == (record.verdict.text,)


async def test_headers_reach_the_server(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    value = bytes(range(256))
    client = await run_client(
        *("talk", "--server", f"127.0.0.1:{peer.port}", "--trace-headers", "none"),
        *("--header", "X-User-Id: me: and you "),
        *("--header", "x-user-id:2"),
        *("--header", f"x-data-bin:{base64.b64encode(value).decode()}"),
    )
    assert client.code == 0
    sent = [pair for pair in peer.metadata if pair[0] != "user-agent"]
    assert sent == [("x-user-id", "me: and you"), ("x-user-id", "2"), ("x-data-bin", value)]


async def test_headers_are_sent_beside_a_new_trace(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--header", "x-user-id:2")
    assert {"traceparent", "x-user-id"} <= dict(peer.metadata).keys()


async def test_a_traceparent_of_the_user_is_kept(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--header", f"traceparent:{traceparent}")
    assert [value for key, value in peer.metadata if key == "traceparent"] == [traceparent]


async def test_a_new_trace_is_sampled_and_optional(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}")
    (traceparent,) = [value for key, value in peer.metadata if key == "traceparent"]
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", traceparent)
    await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--trace-headers", "none")
    assert "traceparent" not in dict(peer.metadata)


async def test_count_cycles_through_the_data(start_peer: Any, run_client: Any) -> None:
    peer = await start_peer()
    client = await run_client(
        "talk-more-answer-one", "--server", f"127.0.0.1:{peer.port}", "--data", "4,5", "--count", "5"
    )
    assert client.code == 0
    assert peer.requests == ["4", "5", "4", "5", "4"]


async def test_an_interval_separates_messages_and_responses_are_shown_as_they_arrive(
    start_chain: Any, start_client: Any
) -> None:
    chain = await start_chain(2)
    running = await start_client(
        "talk-bidirectional", "--server", chain.target, "--count", "2", "--interval", "3600"
    )
    async with asyncio.timeout(10):
        assert await running.process.stdout.readline() == b"TalkBidirectional\n"
        assert b"Hello" in await running.process.stdout.readline()
    running.process.send_signal(signal.SIGINT)
    assert (await running.finished()).code == 130


async def test_many_calls_are_counted(start_chain: Any, run_client: Any, pattern: RpcMethod) -> None:
    chain = await start_chain(2)
    client = await run_client(
        pattern.command, "--server", chain.target, "--repeat", "25", "--concurrency", "5"
    )
    assert (client.code, client.err) == (0, "")
    assert re.fullmatch(
        rf"{pattern.rpc}: 25 calls, 0 errors, \d+ calls/s\n"
        r"  ms        p50 \d+\.\d  p90 \d+\.\d  p99 \d+\.\d  max \d+\.\d\n"
        r"  verdicts  no-sidecar 25\n"
        r"  traces    [0-9a-f]{32}\n(?: {12}[0-9a-f]{32}\n){4} {12}… --output json shows all 25 trace ids\n",
        client.out,
    )


async def test_many_calls_as_json_end_with_a_summary_for_each_method(
    start_chain: Any, run_client: Any
) -> None:
    chain = await start_chain(1)
    client = await run_client(
        *("all", "--server", chain.target, "--output", "json", "--repeat", "3", "--concurrency", "4")
    )
    assert client.code == 0
    assert sorted(call["call"] for call in _events(client.out, "call")) == list(range(1, 13))
    summaries = _events(client.out, "summary")
    assert {summary["rpc"]: summary["calls"] for summary in summaries} == dict.fromkeys(RPCS, 3)
    assert {summary["errors"] for summary in summaries} == {0}


async def test_a_terminal_shows_the_progress_of_many_calls(start_chain: Any, run_shell: Any) -> None:
    chain = await start_chain(1)
    arguments = ("talk", "--server", chain.target, "--repeat", "5")
    leader, follower = pty.openpty()
    try:
        client = await run_shell(f'"$@" 2>{os.ttyname(follower)}', *arguments)
        assert client.out.startswith("Talk: 5 calls, 0 errors")
        assert b"5/5" in os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)


async def test_concurrency_is_the_number_of_calls_at_the_same_time(start_peer: Any, run_client: Any) -> None:
    arrived = 0
    together = asyncio.Event()

    async def meet(_peer: Any, _context: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 7:
            together.set()
        await together.wait()

    peer = await start_peer(meet)
    client = await run_client(
        *("talk", "--server", f"127.0.0.1:{peer.port}", "--repeat", "7", "--concurrency", "7")
    )
    assert client.code == 0


@pytest.mark.parametrize("output", ["text", "json"])
async def test_only_the_first_ten_failures_are_shown(start_chain: Any, run_client: Any, output: str) -> None:
    chain = await start_chain(1)
    arguments = ("--data", "9", "--repeat", "12", "--output", output)
    client = await run_client("talk", "--server", chain.target, *arguments)
    assert client.code == 67
    shown = client.err.splitlines()
    assert len(shown) == 10
    if output == "json":
        assert len(_events(client.out, "call")) == 12
    else:
        assert [line.partition(":")[0] for line in shown] == [f"call {number}" for number in range(1, 11)]
        assert all(re.search(r" \(trace [0-9a-f]{32}\)$", line) for line in shown)
        assert "12 calls, 12 errors" in client.out
        assert "INVALID_ARGUMENT 12" in client.out


async def test_a_failure_without_a_report_names_the_trace_that_was_sent(
    free_port: int, run_client: Any
) -> None:
    client = await run_client("talk", "--server", f"127.0.0.1:{free_port}", "--repeat", "2")
    assert client.out.startswith("Talk: 2 calls, 2 errors")
    assert all(re.search(r" \(trace [0-9a-f]{32}\)$", line) for line in client.err.splitlines())
    assert client.err.count("\n") == 2


async def test_the_first_failure_sets_the_exit_code(start_peer: Any, run_client: Any) -> None:
    codes = iter((None, grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL, None))

    async def fail(_peer: Any, context: Any) -> None:
        if code := next(codes):
            await context.abort(code, "")

    peer = await start_peer(fail)
    client = await run_client("talk", "--server", f"127.0.0.1:{peer.port}", "--repeat", "4")
    assert client.code == 64 + grpc.StatusCode.ABORTED.value[0]


@pytest.mark.parametrize("output", ["text", "json"])
async def test_the_expected_hops_exit_with_0(start_chain: Any, run_client: Any, output: str) -> None:
    chain = await start_chain(3)
    client = await run_client(
        *("all", "--server", chain.target, "--expect-hops", "svc1, svc2,svc3", "--output", output)
    )
    assert (client.code, client.err) == (0, "")


async def test_other_hops_exit_with_1_and_a_mismatch(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    arguments = ("talk", "--server", chain.target, "--expect-hops", "svc2,svc1")
    mismatch = "path svc1 → svc2, expected svc2 → svc1"
    client = await run_client(*arguments)
    assert (client.code, client.err) == (1, f"mismatch: {mismatch}\n")
    client = await run_client(*arguments, "--output", "json")
    assert client.code == 1
    assert _events(client.out, "call")[0]["mismatches"] == [mismatch]
    client = await run_client(*arguments, "--repeat", "2")
    assert (client.code, client.err.count("\n")) == (1, 2)


async def test_a_run_with_an_expectation_ends_with_its_checks(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    arguments = ("all", "--server", chain.target, "--expect-hops", "svc2,svc1")
    for more in ((), ("--repeat", "3")):
        client = await run_client(*arguments, *more)
        assert (
            "  ok      answers   all responses complete, in order, with their greetings\n  FAILED  path "
            in client.out
        )
        assert "path svc1 → svc2, expected svc2 → svc1" in client.out
    (checks,) = _events((await run_client(*arguments, "--output", "json")).out, "checks")
    assert [(result["check"], result["failed"]) for result in checks["checks"]] == [
        ("answers", 0),
        ("path", 4),
        ("trace", 0),
        ("sampled", 0),
    ]
    assert "checks of" not in (await run_client("all", "--server", chain.target)).out


async def test_no_connection_in_time_exits_with_3_and_the_reason(
    run_client: Any, free_port: int, silent_port: int
) -> None:
    for port, reason in ((free_port, "Connection refused"), (silent_port, "")):
        client = await run_client("talk", "--port", str(port), "--connect-timeout", "0.3")
        assert (client.code, client.out) == (3, "")
        (line,) = client.err.splitlines()
        assert line.startswith(f"Error: no connection to dns:///localhost:{port} within 0.3 s: ")
        assert reason in line


async def test_a_long_wait_for_a_connection_is_announced(run_client: Any, free_port: int) -> None:
    client = await run_client("talk", "--port", str(free_port), "--connect-timeout", "2.2")
    first, last = client.err.splitlines()
    assert first == f"waiting up to 2.2 s for a connection to dns:///localhost:{free_port}"
    assert last.startswith("Error: no connection to ")


async def test_the_client_waits_for_a_server_that_starts_late(
    start_client: Any, start_peer: Any, free_port: int
) -> None:
    attempted = asyncio.Event()

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempted.set()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", free_port), asyncio.timeout(20):
        running = await start_client("talk", "--port", str(free_port), "--connect-timeout", "15")
        await attempted.wait()
    await start_peer(port=free_port)
    assert (await running.finished()).code == 0


async def test_a_broken_trace_is_a_mismatch(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(3, at={"svc2": {"forward": False}})
    client = await run_client("talk", "--server", chain.target, "--expect-hops", "svc1,svc2,svc3")
    assert client.code == 1
    assert client.err.startswith("mismatch: broken at svc2: ")
    assert (await run_client("talk", "--server", chain.target)).code == 0


async def test_expected_sidecars_that_are_missing_are_a_mismatch(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    arguments = ("talk", "--server", chain.target, "--expect-hops", "svc1,svc2")
    assert (await run_client(*arguments)).code == 0
    client = await run_client(*arguments, "--expect-sidecars")
    assert client.code == 1
    assert client.err.startswith("mismatch: no sidecar ")


@pytest.mark.parametrize("output", ["text", "json"])
async def test_an_unreachable_server_is_one_line(free_port: int, run_client: Any, output: str) -> None:
    client = await run_client("talk", "--server", f"127.0.0.1:{free_port}", "--output", output)
    assert client.code == 64 + 14
    assert re.fullmatch(r"Talk failed before any hop reported: UNAVAILABLE: .+\n", client.err)
    if output == "json":
        (call,) = _events(client.out, "call")
        assert (call["code"], call["verdict"]["kind"]) == ("UNAVAILABLE", "no-report")


async def test_an_unreachable_next_hop_is_located(start_chain: Any, free_port: int, run_client: Any) -> None:
    chain = await start_chain(2, backend=f"127.0.0.1:{free_port}")
    client = await run_client("talk", "--server", chain.target)
    assert client.code == 64 + 14
    assert client.err.startswith("Talk failed downstream of svc2: UNAVAILABLE: ")


async def test_an_invalid_index_names_the_hop_that_rejected_it(
    start_chain: Any, run_client: Any, pattern: RpcMethod
) -> None:
    chain = await start_chain(3)
    client = await run_client(pattern.command, "--server", chain.target, "--data", "9")
    assert client.code == 64 + 3
    assert client.err.startswith(f"{pattern.rpc} failed at svc3: INVALID_ARGUMENT: ")
    assert client.err.endswith(": use a number from 0 to 5\n")
    assert "svc1" in client.out


async def test_a_call_past_its_deadline_exits_with_68(
    silent_port: int, run_client: Any, pattern: RpcMethod
) -> None:
    client = await run_client(pattern.command, "--server", f"127.0.0.1:{silent_port}", "--timeout", "0.3")
    assert client.code == 64 + 4
    assert client.err.count("\n") == 1
    assert "DEADLINE_EXCEEDED" in client.err


@pytest.mark.parametrize("limit", [(), ("--timeout", "0")])
async def test_ctrl_c_cancels_the_call_and_exits_quietly(
    start_peer: Any, start_client: Any, pattern: RpcMethod, limit: tuple[str, ...]
) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    running = await start_client(pattern.command, "--server", f"127.0.0.1:{peer.port}", *limit)
    await asyncio.wait_for(peer.started.wait(), 10)
    running.process.send_signal(signal.SIGINT)
    client = await running.finished()
    assert (client.code, client.out, client.err) == (130, "", "")
    await asyncio.wait_for(peer.cancelled.wait(), 5)


async def test_ctrl_c_cancels_many_concurrent_calls(start_peer: Any, start_client: Any) -> None:
    async def wait(_peer: Any, _context: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    running = await start_client(
        *("all", "--server", f"127.0.0.1:{peer.port}", "--repeat", "100", "--concurrency", "20")
    )
    await asyncio.wait_for(peer.started.wait(), 10)
    running.process.send_signal(signal.SIGINT)
    client = await running.finished()
    assert (client.code, client.out, client.err) == (130, "", "")


async def test_variables_set_the_server_and_options_take_precedence(
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
async def test_the_client_exits_quietly_when_its_reader_exits(
    start_chain: Any, run_shell: Any, arguments: tuple[str, ...]
) -> None:
    chain = await start_chain(1)
    line = '{ "$@"; echo "exit code $?" >&2; } | head -n 1'
    client = await run_shell(line, "talk-one-answer-more", "--server", chain.target, *arguments)
    assert (client.err, client.out.count("\n")) == ("exit code 1\n", 1)


async def test_the_client_exits_quietly_when_its_summary_is_not_read(
    start_chain: Any, run_shell: Any
) -> None:
    chain = await start_chain(1)
    line = '{ "$@"; echo "exit code $?" >&2; } | true'
    client = await run_shell(line, "talk", "--server", chain.target, "--repeat", "2")
    assert client.err == "exit code 1\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("repeat", [(), ("--repeat", "2")])
async def test_a_full_device_is_one_error_line(
    start_chain: Any, repeat: tuple[str, ...], run_shell: Any
) -> None:
    chain = await start_chain(1)
    client = await run_shell('"$@" > /dev/full', "talk", "--server", chain.target, *repeat)
    assert (client.code, client.err) == (3, "Error: cannot write the output: No space left on device\n")


async def test_a_closed_stdout_is_accepted(start_chain: Any, run_shell: Any) -> None:
    chain = await start_chain(1)
    client = await run_shell('"$@" >&-', "talk", "--server", chain.target)
    assert (client.code, client.err) == (0, "")


async def test_a_terminal_without_japanese_shows_escapes(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(1)
    env = {"PYTHONIOENCODING": "latin-1"}
    client = await run_client("talk", "--server", chain.target, "--data", "3", env=env)
    assert (client.code, client.err) == (0, "")
    assert r"\u3053\u3093\u306b\u3061\u306f" in client.out


async def test_control_characters_from_a_server_are_escaped(start_peer: Any, run_client: Any) -> None:
    async def fail(_peer: Any, context: Any) -> None:
        report = "name=%1B%5B31m%0A%C2%9B;role=last;trace=%1B;parent=%0A"
        await context.abort(grpc.StatusCode.INTERNAL, "\x1b[31m\nforged\x9b", (("hello-hop", report),))

    peer = await start_peer(fail)
    for output in ("text", "json"):
        client = await run_client(
            *("talk", "--server", f"127.0.0.1:{peer.port}", "--output", output, "--expect-hops", "svc1")
        )
        assert client.code == 64 + 13
        assert (client.out + client.err).replace("\n", "").isprintable()
        assert "\nforged" not in client.out + client.err


async def test_an_unreadable_hop_report_does_not_fail_the_call(start_peer: Any, run_client: Any) -> None:
    async def garble(_peer: Any, context: Any) -> None:
        context.set_trailing_metadata((("hello-hop", "garbage"),))

    peer = await start_peer(garble)
    client = await run_client("talk", "--server", f"127.0.0.1:{peer.port}")
    assert (client.code, client.err) == (0, "")
    assert re.search(r"^no report: .*garbage", client.out, re.MULTILINE)


async def test_a_variable_enables_tls(start_chain: Any, run_client: Any, tmp_path: Any) -> None:
    chain = await start_chain(1)
    env = {"GRPC_HELLO_SECURE": "Y", "CERT_BASE_PATH": str(tmp_path)}
    client = await run_client("talk", "--server", chain.target, env=env)
    assert client.code == 3
    assert str(tmp_path) in client.err
