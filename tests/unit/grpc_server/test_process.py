"""The server as a process: options, variables, errors, signals, logs."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from hello_mesh.net.pb.landing_pb2 import TalkRequest
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


@dataclass
class Server:
    """A server process that accepts calls."""

    process: asyncio.subprocess.Process
    port: int

    async def end(self) -> tuple[int, str]:
        """Wait until the process has exited. Return its exit code and its stderr."""
        _, stderr = await asyncio.wait_for(self.process.communicate(), 10)
        assert self.process.returncode is not None
        return self.process.returncode, stderr.decode()


async def _start(*options: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "grpc_server",
        *options,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def _server(*options: str, **variables: str) -> AsyncIterator[Server]:
    process = await _start("--host", "127.0.0.1", *options, **({"GRPC_HELLO_PORT": "0"} | variables))
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    try:
        yield Server(process, int(line.split()[-1]))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def _channel(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def _failure(*options: str, **variables: str) -> tuple[int | None, str]:
    process = await _start(*options, **variables)
    stdout, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert stdout == b""
    assert b"Traceback" not in stderr
    return process.returncode, stderr.decode().strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--port", "65536"], "65536 is not in the range"),
        (["--port", "-1"], "-1 is not in the range"),
        (["--port", "http"], "'http' is not a valid integer"),
        (["--backend", "http://svc2:9996"], "invalid address 'http://svc2:9996'"),
        (["--backend", "svc2:99999"], "invalid port in 'svc2:99999'"),
        (["--backend", "a b"], "invalid address 'a b'"),
        (["--forward-headers", "x-user id"], "invalid header name 'x-user id'"),
        (["--forward-headers", "*"], "invalid header name '*'"),
        (["--grace", "soon"], "'soon' is not a valid float"),
        (["--grace", "nan"], "'nan' is not a number of seconds"),
        (["--name", "a\nb"], "invalid hop name"),
        (["--name", "x" * 254], "invalid hop name"),
        (["--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["--nonsense"], "No such option"),
    ],
)
async def test_wrong_usage_is_reported_in_one_line(options: list[str], error: str) -> None:
    code, line = await _failure(*options)
    assert code == 2
    assert error in line


async def test_an_invalid_variable_is_reported_like_an_option() -> None:
    code, line = await _failure(GRPC_HELLO_SECURE="perhaps")
    assert code == 2
    assert "GRPC_HELLO_SECURE" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]", "::"])
async def test_a_port_in_use_is_reported_in_one_line(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        code, line = await _failure("--host", host, "--port", port)
    assert code == 3
    assert f"cannot listen on {'[::]' if host == '::' else host}:{port}" in line


async def test_two_servers_never_share_a_port() -> None:
    async with _server() as server:
        code, line = await _failure("--host", "127.0.0.1", "--port", str(server.port))
    assert code == 3
    assert "the port is in use" in line


async def test_an_invalid_host_is_reported_in_one_line() -> None:
    code, line = await _failure("--host", "no such\x1b[31mhost", "--port", "0")
    assert code == 3
    assert r"cannot listen on no such\x1b[31mhost:0" in line


async def test_missing_certificates_are_reported_in_one_line(tmp_path: Any) -> None:
    code, line = await _failure("--secure", CERT_BASE_PATH=str(tmp_path))
    assert code == 3
    assert f"certificate file {tmp_path}/server_certs/private.key not found" in line


async def test_the_variables_of_the_original_make_a_chain() -> None:
    async with AsyncExitStack() as stack:
        last = await stack.enter_async_context(_server(GRPC_HELLO_NAME="last"))
        backend = {"GRPC_HELLO_BACKEND": "127.0.0.1", "GRPC_HELLO_BACKEND_PORT": str(last.port)}
        first = await stack.enter_async_context(_server(GRPC_HELLO_NAME="first", **backend))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{first.port}"))
        call = LandingServiceStub(channel).Talk(TalkRequest(data="0"))
        assert (await call).results[0].kv["data"] == "Hello"
        trailing: Any = await call.trailing_metadata()
        names = [value.partition(";")[0] for key, value in trailing if key == "hello-hop"]
        assert names == ["name=first", "name=last"]


async def test_an_option_wins_over_its_variable() -> None:
    async with (
        _server("--name", "option", GRPC_HELLO_NAME="variable") as server,
        _channel(server) as channel,
    ):
        call = LandingServiceStub(channel).Talk(TalkRequest(data="0"))
        trailing: Any = await call.trailing_metadata()
    assert dict(trailing)["hello-hop"].startswith("name=option;")


@SIGNALS
async def test_the_first_signal_lets_calls_in_flight_finish(number: signal.Signals) -> None:
    async with _server("--grace", "10", "--name", "svc") as server:
        async with _channel(server) as channel:
            health: Any = HealthStub(channel)
            watch = health.Watch(HealthCheckRequest(service="org.feuyeux.grpc.LandingService"))
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            running = LandingServiceStub(channel).TalkBidirectional()
            await running.write(TalkRequest(data="0"))
            await running.read()
            server.process.send_signal(number)
            assert (await asyncio.wait_for(watch.read(), 5)).status == HealthCheckResponse.NOT_SERVING
            await _wait_until_refused(server.port)
            refused = LandingServiceStub(channel).Talk(TalkRequest(data="0"), timeout=5)
            # A call that meets the GOAWAY on its way is cancelled by gRPC.
            assert await refused.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            await running.write(TalkRequest(data="1"))
            answer: Any = await running.read()
            assert answer.results[0].kv["data"] == "Bonjour"
            await running.done_writing()
            assert await running.code() is grpc.StatusCode.OK
        code, stderr = await server.end()  # at once: draining does not wait for health watchers
    assert code == 0
    assert f"{number.name}: draining for up to 10 s" in stderr
    assert "Traceback" not in stderr


async def _wait_until_refused(port: int) -> None:
    """Wait until a port accepts no new connections."""
    async with asyncio.timeout(5):
        with suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.01)


async def test_callers_of_a_draining_hop_move_to_another() -> None:
    """A relay has two next hops. One drains while a stream keeps it: no other call fails."""
    async with _server("--name", "a") as a, _server("--name", "b") as b:
        targets = f"ipv4:127.0.0.1:{a.port},127.0.0.1:{b.port}"
        async with _server("--name", "svc1", "--backend", targets) as relay, _channel(relay) as channel:
            stub = LandingServiceStub(channel)
            running = stub.TalkBidirectional()
            await running.write(TalkRequest(data="0"))
            await running.read()
            a.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):  # until the GOAWAY has arrived at the relay
                while (await _hops_of_a_call(stub))[-1:] != ["name=b"]:
                    pass
            for _ in range(50):
                assert await _hops_of_a_call(stub) == ["name=svc1", "name=b"]
            await running.done_writing()
            assert await running.code() is grpc.StatusCode.OK
        code, _ = await a.end()
    assert code == 0


async def _hops_of_a_call(stub: Any) -> list[str]:
    """Return the hops that answered a call; none if it failed."""
    call = stub.Talk(TalkRequest(data="0"), timeout=5)
    if await call.code() is not grpc.StatusCode.OK:
        return []
    return [value.split(";")[0] for _, value in await call.trailing_metadata()]


async def test_the_grace_period_is_bounded() -> None:
    async with _server("--grace", "0.5") as server:
        async with _channel(server) as channel:
            running = LandingServiceStub(channel).TalkBidirectional()
            await running.write(TalkRequest(data="0"))
            await running.read()
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(running.code(), 5) is grpc.StatusCode.UNAVAILABLE
        code, stderr = await server.end()
    assert code == 0
    assert "Traceback" not in stderr


async def test_the_second_signal_stops_at_once() -> None:
    async with _server("--grace", "600") as server, _channel(server) as channel:
        health: Any = HealthStub(channel)
        watch = health.Watch(HealthCheckRequest())
        await watch.read()
        running = LandingServiceStub(channel).TalkBidirectional()
        await running.write(TalkRequest(data="0"))
        await running.read()
        server.process.send_signal(signal.SIGTERM)
        await watch.read()
        server.process.send_signal(signal.SIGTERM)
        code, stderr = await server.end()
        assert await running.code() is grpc.StatusCode.UNAVAILABLE
    assert code == 1
    assert "stopped at once by a second signal" in stderr
    assert "Traceback" not in stderr


async def test_a_server_without_calls_stops_at_once() -> None:
    async with _server("--grace", "600") as server:
        server.process.send_signal(signal.SIGTERM)
        code, _ = await server.end()
    assert code == 0


SECRET = "hidden-from-logs"  # noqa: S105 - a test value
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def _log_of_a_call(*options: str) -> list[str]:
    async with _server("--log-level", "DEBUG", "--name", "svc", *options) as server:
        async with _channel(server) as channel:
            headers = (("authorization", SECRET), ("cookie", SECRET), ("traceparent", TRACEPARENT))
            await LandingServiceStub(channel).Talk(TalkRequest(data="0"), metadata=headers)
            failing = LandingServiceStub(channel).Talk(TalkRequest(data="7"), metadata=headers)
            await failing.code()
        server.process.send_signal(signal.SIGTERM)
        _, stderr = await server.end()
    assert SECRET not in stderr
    return stderr.splitlines()


async def test_a_call_is_logged_as_a_json_line_with_its_trace() -> None:
    lines = [json.loads(line) for line in await _log_of_a_call("--log-format", "json")]
    calls = [line for line in lines if line["message"] == "Talk"]
    assert [line["code"] for line in calls] == ["OK", "INVALID_ARGUMENT"]
    for line in calls:
        assert line["trace"] == "0af7651916cd43dd8448eb211c80319c"
        assert line["name"] == "svc"
        assert line["ms"] >= 0
        assert line["peer"].startswith("ipv4:127.0.0.1:")


async def test_a_call_is_logged_as_a_text_line_with_its_trace() -> None:
    lines = [line for line in await _log_of_a_call() if " Talk " in line]
    assert len(lines) == 2
    for line in lines:
        assert "INFO svc: Talk trace=0af7651916cd43dd8448eb211c80319c code=" in line


async def test_at_level_warning_calls_are_not_logged() -> None:
    assert not [line for line in await _log_of_a_call("--log-level", "WARNING") if "Talk" in line]


async def test_a_configured_transport_header_is_logged_as_a_warning() -> None:
    async with _server("--backend", "localhost", "--forward-headers", "te,x-envoy-*,x-mine") as server:
        server.process.send_signal(signal.SIGTERM)
        _, stderr = await server.end()
    assert "are not propagated, remove them from --forward-headers: te, x-envoy-*\n" in stderr


async def test_reflection_lists_the_services() -> None:
    async with _server() as server:
        names = await asyncio.to_thread(_reflected, server.port)
    assert set(names) == {
        "org.feuyeux.grpc.LandingService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def _reflected(port: int) -> list[str]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        found = database.FindFileContainingSymbol("org.feuyeux.grpc.LandingService")
        assert [service.name for service in found.service] == ["LandingService"]
        return list(database.get_services())


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_finds_methods_in_both_versions(version: str) -> None:
    symbols = {
        "org.feuyeux.grpc.LandingService.Talk": b"org.feuyeux.grpc",
        f"grpc.reflection.{version}.ServerReflection.ServerReflectionInfo": version.encode(),
        "org.feuyeux.grpc.LandingService.Shout": None,
        "org.feuyeux.grpc.Shouting.Talk": None,
    }
    async with _server() as server, _channel(server) as channel:
        reflect: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        call = reflect(iter([ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]))
        for package in symbols.values():
            answer = await call.read()
            if package is None:
                assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
            else:
                assert package in answer.file_descriptor_response.file_descriptor_proto[0]


async def test_health_lists_the_server_and_its_service() -> None:
    messages: Any = health_pb2
    async with _server() as server, _channel(server) as channel:
        health: Any = HealthStub(channel)
        listed = await health.List(messages.HealthListRequest())
    assert {name: answer.status for name, answer in listed.statuses.items()} == {
        "": HealthCheckResponse.SERVING,
        "org.feuyeux.grpc.LandingService": HealthCheckResponse.SERVING,
    }


async def test_anyone_can_cause_one_line_at_most(talk_over_h2: Any) -> None:
    """Headers that are not UTF-8 and unknown methods: one line each, without a traceback."""
    async with _server() as server:
        async with _channel(server) as channel:
            for _ in range(20):
                assert await talk_over_h2(server.port, [(b"baggage", b"name=Jos\xe9")]) == b"0"
                shout: Any = channel.unary_unary("/org.feuyeux.grpc.LandingService/Shout")
                assert await shout(b"").code() is grpc.StatusCode.UNIMPLEMENTED
        server.process.send_signal(signal.SIGTERM)
        _, stderr = await server.end()
    assert "Traceback" not in stderr
    for text in ("Invalid encoding on b'name=Jos", "unknown method /org.feuyeux.grpc.LandingService/Shout"):
        assert 1 <= stderr.count(text) <= 5  # one line per second


async def test_the_server_raises_its_limit_of_descriptors() -> None:
    """Each connection takes a descriptor, and the usual soft limit is 1,024."""
    script = (
        "import resource;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096));"
        "from hello_mesh.base.listening import raise_descriptor_limit; raise_descriptor_limit();"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    stdout, _ = await process.communicate()
    assert stdout == b"4096 4096\n"


async def test_many_silent_connections_lock_nobody_out() -> None:
    async with _server() as server, AsyncExitStack() as stack:
        for _ in range(1100):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            stack.callback(writer.close)
        async with _channel(server) as channel:
            answer = await LandingServiceStub(channel).Talk(TalkRequest(data="0"), timeout=5)
    assert answer.status == 200


async def test_idle_clients_can_ping() -> None:
    """By default, gRPC closes an idle connection on which the client pings: "too many pings"."""
    options = (
        ("grpc.keepalive_time_ms", 1100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with _server() as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        call = LandingServiceStub(channel).TalkBidirectional()
        await call.write(TalkRequest(data="0"))
        await call.read()
        with pytest.raises(TimeoutError):  # the call survives several pings
            await asyncio.wait_for(asyncio.shield(call.code()), 6)
