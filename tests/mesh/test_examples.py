"""The servers of examples/by-hand: hops of a real mesh, and what they pass on."""

import ast
import asyncio
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from hello_mesh.local.components import config_path, installed_envoy, sidecar_name
from hello_mesh.local.mesh import RunningMesh, running_mesh
from hello_mesh.local.topology import GATEWAY_SERVICE, Topology, Tracer, hop_names, span_services
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.verdict.expect import MismatchKind, expected_chain
from hello_mesh.tracing.verdict.verify import TraceVerdict, verify

ROOT = Path(__file__).parents[2]
BY_HAND = ROOT / "examples" / "by-hand"
SERVERS = ("threads.py", "aio.py")
OUR_SERVER = [str(Path(sys.executable).with_name("hello-grpc-server"))]
HOPS = hop_names(3)
GREETINGS = ["Hello", "Bonjour", "Hola"]
CALL_SECONDS = 20

Command = list[str]


def by_hand(server: str, folder: Path = BY_HAND) -> Command:
    return [sys.executable, str(folder / server)]


@contextmanager
def serving(command: Command, port: int = 0, backend: int | None = None) -> Iterator[int]:
    """Run a server on this host, ours or one of the examples, and yield its port."""
    settings = {"GRPC_HELLO_PORT": str(port)}
    if backend:
        settings["GRPC_HELLO_BACKEND"] = f"127.0.0.1:{backend}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GRPC_", "OTEL_"))}
    with subprocess.Popen(command, env=clean | settings, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"listening on port (\d+)\n", process.stdout.readline())
            assert found, f"{command} did not start"
            yield int(found[1])
        finally:
            process.terminate()


# In the mesh


class Sidecars:
    """A mesh whose applications were stopped: gateway and sidecars, ready for other applications."""

    def __init__(self, live: RunningMesh, folder: Path) -> None:
        self.mesh = live.mesh
        self._folder = folder
        pids = {component.name: component.pid for component in live.mesh.components}
        for hop in HOPS:
            os.kill(pids[hop], signal.SIGTERM)
            _wait_until_free(self.ports(hop)[0])

    def ports(self, hop: str) -> tuple[int, int | None]:
        """Return the port of a hop's application, and the port of its sidecar for outgoing calls."""
        config = json.loads(config_path(self._folder, sidecar_name(hop)).read_text())["static_resources"]
        (endpoints,) = config["clusters"][0]["load_assignment"]["endpoints"]
        application = endpoints["lb_endpoints"][0]["endpoint"]
        outbound = [each for each in config["listeners"] if each["name"] == "virtualOutbound"]
        return _port(application), _port(outbound[0]) if outbound else None

    @contextmanager
    def applications(self, commands: Sequence[Command]) -> Iterator[None]:
        """Run one server for each hop, first hop first."""
        with ExitStack() as stack:
            for hop, command in zip(HOPS, commands, strict=True):
                stack.enter_context(serving(command, *self.ports(hop)))
            yield

    def verdicts(self, tracer: Tracer) -> list[TraceVerdict]:
        """Call all four patterns through the gateway, and return the verdict on the trace of each call."""
        with grpc.insecure_channel(self.mesh.gateway) as channel:
            trace_ids = [_call(channel, number, tracer) for number in range(4)]
        expected = expected_chain(span_services(HOPS), gateway=GATEWAY_SERVICE)
        with reading(self.mesh.store) as store:
            return list(verify(store, trace_ids, expected, timeout=10))


def _port(holder: dict[str, Any]) -> int:
    port: int = holder["address"]["socket_address"]["port_value"]
    return port


def _wait_until_free(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.01)
    raise AssertionError(f"port {port} is still in use")


def _call(channel: grpc.Channel, pattern: int, tracer: Tracer) -> str:
    """Call one pattern in a new trace, check the greetings, and return the trace id."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    headers = {
        "w3c": [("traceparent", f"00-{trace_id}-{span_id}-01")],
        "b3": [("x-b3-traceid", trace_id), ("x-b3-spanid", span_id), ("x-b3-sampled", "1")],
    }[tracer]
    options: dict[str, Any] = {"metadata": headers, "timeout": CALL_SECONDS}
    stub = LandingServiceStub(channel)
    messages = [TalkRequest(data=index) for index in "012"]
    calls: list[Callable[[], list[TalkResponse]]] = [
        lambda: [stub.Talk(message, **options) for message in messages[:1]],
        lambda: list(stub.TalkOneAnswerMore(TalkRequest(data="0,1,2"), **options)),
        lambda: [stub.TalkMoreAnswerOne(iter(messages), **options)],
        lambda: list(stub.TalkBidirectional(iter(messages), **options)),
    ]
    results = [result for response in calls[pattern]() for result in response.results]
    assert [result.kv["data"] for result in results] == GREETINGS[: len(results)]
    assert len(results) == (1 if pattern == 0 else 3)
    return trace_id


@pytest.fixture(scope="module", params=["w3c", "b3"])
def sidecars(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sidecars, Tracer]]:
    """Gateway and sidecars that trace with each header family."""
    folder = tmp_path_factory.mktemp("mesh")
    topology = Topology(HOPS, gateway_port=0, tracer=request.param)
    with running_mesh(topology, folder, folder / "traces.db", installed_envoy()) as live:
        yield Sidecars(live, folder), request.param


@pytest.mark.parametrize("server", SERVERS)
def test_a_hop_written_by_hand_keeps_each_trace_connected(
    sidecars: tuple[Sidecars, Tracer], server: str
) -> None:
    mesh, tracer = sidecars
    with mesh.applications([OUR_SERVER, by_hand(server), OUR_SERVER]):
        verdicts = mesh.verdicts(tracer)
    assert [verdict.comparison.mismatches for verdict in verdicts] == [()] * 4


@pytest.mark.parametrize("server", SERVERS)
def test_a_chain_written_by_hand_is_one_trace(sidecars: tuple[Sidecars, Tracer], server: str) -> None:
    mesh, tracer = sidecars
    with mesh.applications([by_hand(server)] * 3):
        verdicts = mesh.verdicts(tracer)
    assert [verdict.comparison.mismatches for verdict in verdicts] == [()] * 4


@pytest.mark.parametrize("server", SERVERS)
def test_without_the_injected_headers_each_trace_breaks_at_that_hop(
    sidecars: tuple[Sidecars, Tracer], server: str, tmp_path: Path
) -> None:
    mesh, tracer = sidecars
    broken = tmp_path / "examples" / "by-hand"
    shutil.copytree(BY_HAND, broken, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    code, replaced = re.subn(r"metadata=headers\b", "metadata=()", (broken / server).read_text())
    assert replaced == 4
    (broken / server).write_text(code)
    with mesh.applications([OUR_SERVER, by_hand(server, broken), OUR_SERVER]):
        verdicts = mesh.verdicts(tracer)
    firsts = [verdict.comparison.mismatches[0] for verdict in verdicts]
    assert {(first.kind, first.service) for first in firsts} == {
        (MismatchKind.NOT_FORWARDED, "grpc-server-svc2.grpc-tracing")
    }
    assert len(firsts) == 4


# What else a hop passes on

StartPeer = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize(("server", "seconds"), list(itertools.product(SERVERS, (None, 5.0))))
async def test_the_deadline_is_passed_on_and_none_is_invented(
    start_peer: StartPeer, server: str, seconds: float | None
) -> None:
    peer = await start_peer()
    with serving(by_hand(server), backend=peer.port) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await LandingServiceStub(channel).Talk(TalkRequest(data="0"), timeout=seconds)
    if seconds is None:
        assert peer.remaining is None
    else:
        assert 0 < peer.remaining <= seconds * 1.02  # gRPC rounds a timeout up, to three digits


class Refusing(grpc.GenericRpcHandler):
    """Refuse each call of each pattern, after its last request: before that, grpc.aio can lose the status."""

    def service(self, _: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            pass
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")
        yield b""


@pytest.mark.parametrize("server", SERVERS)
async def test_a_status_is_passed_on(server: str) -> None:
    next_hop = grpc.aio.server()
    next_hop.add_generic_rpc_handlers((Refusing(),))
    backend = next_hop.add_insecure_port("127.0.0.1:0")
    await next_hop.start()
    request = TalkRequest(data="0")
    with serving(by_hand(server), backend=backend) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = LandingServiceStub(channel)
            for call in (
                stub.Talk(request),
                stub.TalkOneAnswerMore(request),
                stub.TalkMoreAnswerOne(iter([request])),
                stub.TalkBidirectional(iter([request])),
            ):
                assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert await call.details() == "no more"
    await next_hop.stop(0)


@pytest.mark.parametrize(("server", "streams"), list(itertools.product(SERVERS, (False, True))))
async def test_a_cancellation_is_passed_on(start_peer: StartPeer, server: str, *, streams: bool) -> None:
    async def wait(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    peer = await start_peer(wait)
    with serving(by_hand(server), backend=peer.port) as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = LandingServiceStub(channel)
            request = TalkRequest(data="0")
            call = stub.TalkOneAnswerMore(request) if streams else stub.Talk(request)
            await asyncio.wait_for(peer.started.wait(), CALL_SECONDS)
            call.cancel()
            await asyncio.wait_for(peer.cancelled.wait(), CALL_SECONDS)


# The text of the examples, and of the guide


def test_the_examples_use_no_package_of_this_repository() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in BY_HAND.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"grpc", "common"}


def test_the_guide_quotes_the_examples_as_they_are() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    quotes = re.findall(r"```python (\S+)\n(.*?)```", guide, re.DOTALL)
    assert {Path(name).name for name, _ in quotes} == {"common.py", *SERVERS}
    for name, quote in quotes:
        assert quote in (ROOT / name).read_text(encoding="utf-8"), name
    for method in ("Talk", "TalkOneAnswerMore", "TalkMoreAnswerOne", "TalkBidirectional"):
        assert sum(f"def {method}(" in quote for _, quote in quotes) == len(SERVERS)
