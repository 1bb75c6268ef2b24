"""Real servers on free ports, in this process, called over real sockets."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from grpc_client.calls import Outcome, run
from grpc_client.plan import RPC_METHODS, Plan, RpcMethod, call_spec
from grpc_server.config import ServerConfig
from grpc_server.server import RunningServer, running_server
from hello_mesh.net.channel import open_channel
from hello_mesh.net.pb.landing_pb2 import TalkRequest, TalkResponse
from hello_mesh.net.pb.landing_pb2_grpc import (
    LandingServiceServicer,
    LandingServiceStub,
    add_LandingServiceServicer_to_server,
)

# Python ignores SIGINT if a script starts it in the background, and SIGHUP under nohup. Child processes
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PeerContext = grpc.aio.ServicerContext[TalkRequest, TalkResponse]


@dataclass
class Chain:
    """Servers that relay to one another, first hop first."""

    names: tuple[str, ...]
    servers: tuple[RunningServer, ...]
    channel: grpc.aio.Channel

    @property
    def target(self) -> str:
        """The address of the first hop."""
        return f"127.0.0.1:{self.servers[0].port}"

    @property
    def stub(self) -> LandingServiceStub:
        """The stub of the first hop."""
        return LandingServiceStub(self.channel)


StartChain = Callable[..., Awaitable[Chain]]


@pytest.fixture
async def start_chain() -> AsyncIterator[StartChain]:
    """Return a function that starts `length` hops named svc1, svc2, … and stops them after the test.

    With a `backend`, the last hop relays to it. `at` has settings per hop: at={"svc2": {"forward": False}}.
    """
    async with AsyncExitStack() as stack:

        async def start(
            length: int, backend: str | None = None, at: dict[str, dict[str, object]] | None = None
        ) -> Chain:
            names = tuple(f"svc{number}" for number in range(1, length + 1))
            servers: list[RunningServer] = []
            for name in reversed(names):
                config = ServerConfig(name=name, host="127.0.0.1", port=0, backend=backend)
                config = replace(config, **(at or {}).get(name, {}))  # type: ignore[arg-type]
                servers.append(await stack.enter_async_context(running_server(config)))
                backend = f"127.0.0.1:{servers[-1].port}"
            channel = await stack.enter_async_context(open_channel(backend or ""))
            return Chain(names, tuple(reversed(servers)), channel)

        yield start


@dataclass
class Peer(LandingServiceServicer):
    """A next hop that a test controls: it records what it receives, and behaves as the test says."""

    behave: Callable[["Peer", PeerContext], Awaitable[None]] | None = None
    """Called at the start of each call, before any response."""
    port: int = 0
    metadata: list[tuple[str, str | bytes]] = field(default_factory=list)
    """The metadata of the latest call."""
    remaining: float | None = None
    """The seconds until the deadline when the latest call arrived; None without a deadline."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[str] = field(default_factory=list)
    server: grpc.aio.Server | None = None

    async def _enter(self, context: PeerContext) -> None:
        self.metadata = list(context.invocation_metadata() or ())
        self.remaining = context.time_remaining()
        self.started.set()
        try:
            if self.behave:
                await self.behave(self, context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def Talk(self, request: TalkRequest, context: PeerContext) -> TalkResponse:
        await self._enter(context)
        self.requests.append(request.data)
        return TalkResponse(status=200)

    async def TalkOneAnswerMore(
        self, request: TalkRequest, context: PeerContext
    ) -> AsyncIterator[TalkResponse]:
        await self._enter(context)
        self.requests.append(request.data)
        yield TalkResponse(status=200)

    async def TalkMoreAnswerOne(
        self, request_iterator: AsyncIterator[TalkRequest], context: PeerContext
    ) -> TalkResponse:
        await self._enter(context)
        async for request in request_iterator:
            self.requests.append(request.data)
        return TalkResponse(status=200)

    async def TalkBidirectional(
        self, request_iterator: AsyncIterator[TalkRequest], context: PeerContext
    ) -> AsyncIterator[TalkResponse]:
        await self._enter(context)
        async for request in request_iterator:
            self.requests.append(request.data)
            yield TalkResponse(status=200)


StartPeer = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    """Return a function that starts a `Peer`, on a free port unless the test needs a certain one."""
    servers: list[grpc.aio.Server] = []

    async def start(
        behave: Callable[[Peer, PeerContext], Awaitable[None]] | None = None, port: int = 0
    ) -> Peer:
        peer = Peer(behave)
        peer.server = server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        servers.append(server)
        add_LandingServiceServicer_to_server(peer, server)
        peer.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return peer

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture(params=RPC_METHODS, ids=lambda method: method.command)
def pattern(request: pytest.FixtureRequest) -> RpcMethod:
    """Return each of the four methods."""
    method: RpcMethod = request.param
    return method


Ask = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def ask() -> Ask:
    """Return a function that calls a method with the real client: ask(target, method, "0,1", timeout=…)."""

    async def ask(target: str, method: RpcMethod, data: str | None = None, **plan: object) -> Outcome:
        outcomes: list[Outcome] = []
        settings: dict[str, object] = {"timeout": 10.0} | plan
        await run(
            Plan(target=target, calls=(call_spec(method, data),), **settings),  # type: ignore[arg-type]
            on_response=lambda *_: None,
            on_outcome=outcomes.append,
        )
        return outcomes[0]

    return ask


TalkOverH2 = Callable[[int, list[tuple[bytes, bytes]]], Awaitable[bytes]]


@pytest.fixture
def talk_over_h2() -> TalkOverH2:
    """Return a function that calls `Talk` without gRPC's checks of headers, and returns the `grpc-status`."""

    async def talk(port: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        config = H2Configuration(header_encoding=None, validate_outbound_headers=False)
        connection = H2Connection(config)
        connection.initiate_connection()
        fixed = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"test"),
            (b":path", b"/org.feuyeux.grpc.LandingService/Talk"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        connection.send_headers(1, fixed + headers)
        message = TalkRequest(data="0").SerializeToString()
        connection.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        try:
            async with asyncio.timeout(10):
                while True:
                    writer.write(connection.data_to_send())
                    for event in connection.receive_data(await reader.read(65536)):
                        if isinstance(event, ResponseReceived | TrailersReceived):
                            status = dict(event.headers).get(b"grpc-status")
                            if status is not None:
                                return bytes(status)
        finally:
            writer.close()
            await writer.wait_closed()

    return talk


Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Return a function that waits until a condition is true, and fails the test after some seconds."""

    async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    return eventually


@pytest.fixture
def free_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


IsServing = Callable[..., Awaitable[bool]]


@pytest.fixture
def is_serving() -> IsServing:
    """Return a function that checks the health of a server: overall, and of the service by name."""

    async def is_serving(port: int) -> bool:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = HealthStub(channel)
            names = ("", "org.feuyeux.grpc.LandingService")
            answers = [await stub.Check(HealthCheckRequest(service=name), timeout=5) for name in names]
            return all(answer.status == HealthCheckResponse.SERVING for answer in answers)

    return is_serving


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    """Fail a test after which a task of a call still runs: a handler, or a stream of requests."""
    yield
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while _call_tasks():
                await asyncio.sleep(0.01)
    assert _call_tasks() == []


def _call_tasks() -> list[str]:
    # grpc.aio names the task of a handler, and the coroutine that sends a relay's requests.
    names = ("HandleExceptions[/org.feuyeux.grpc.", "_consume_request_iterator")
    return [str(task) for task in asyncio.all_tasks() if any(name in str(task) for name in names)]
