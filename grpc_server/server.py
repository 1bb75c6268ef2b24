"""Bind, report the port, serve, drain."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import grpc

from grpc_server.call import Calls
from grpc_server.config import ServerConfig
from grpc_server.relay import Relay
from grpc_server.service import Answering
from grpc_server.standard_services import Health, UnknownMethods, add_health, add_reflection
from hello_mesh.base.listening import cannot_listen, join_host_port
from hello_mesh.net.channel import open_channel
from hello_mesh.net.rpc import LANDING_SERVICE, MAX_REQUEST_BYTES, METADATA_OPTIONS
from hello_mesh.net.tls import server_credentials

_logger = logging.getLogger(__name__)

_SERVER_OPTIONS = {
    "grpc.max_receive_message_length": MAX_REQUEST_BYTES,
    **METADATA_OPTIONS,
    # By default, gRPC cancels calls at random as soon as 1,000 wait to be accepted, and no caller retries
    # CANCELLED. A burst is accepted instead.
    "grpc.server.max_pending_requests": 10_000,
    "grpc.server.max_pending_requests_hard_limit": 30_000,
    # Otherwise a flood on one connection ends calls on other connections.
    "grpc.http.overload_protection": 0,
    # With the default, a second server binds the same port without an error and gets some of the calls.
    "grpc.so_reuseport": 0,
    # Clients may keep idle connections alive. By default gRPC closes a connection that pings more often
    # than every five minutes.
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.min_ping_interval_without_data_ms": 1000,
}

# Calls that were on their way when the hop began to drain arrive within this time.
_ARRIVAL_SECONDS = 0.5


@dataclass(frozen=True)
class RunningServer:
    """A server that accepts calls."""

    port: int
    """The port that it listens on, also if the configuration asked for any free one."""

    _server: grpc.aio.Server
    _health: Health
    _calls: Calls

    async def drain(self, grace: float) -> None:
        """Send callers elsewhere, and return when calls in flight are over, at most `grace` seconds later.

        Each connection gets GOAWAY: its caller makes new calls on another one. Calls that still run at the
        end are cut off.
        """
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self._server.stop(grace))
        with suppress(TimeoutError):
            # Wait only for calls of the service: a health watcher can stay forever.
            await asyncio.wait_for(self._calls.gate.idle(), grace)
        await asyncio.wait((stopping,), timeout=_ARRIVAL_SECONDS)
        await self._server.stop(0)
        await stopping


@asynccontextmanager
async def running_server(config: ServerConfig) -> AsyncIterator[RunningServer]:
    """Run a server for as long as the context lasts; its end cuts off calls in flight.

    Raises:
        RuntimeEnvironmentError: the port is in use, or certificates cannot be used.
    """
    async with AsyncExitStack() as stack:
        calls = Calls(config.name, config.role, config.extra_headers, forward=config.forward)
        server = grpc.aio.server(options=tuple(_SERVER_OPTIONS.items()))
        service: Answering | Relay = Answering(calls)
        if config.backend is not None:
            _warn_about_headers(config)
            channel = await stack.enter_async_context(open_channel(config.backend, config.certificates))
            service = Relay(calls, channel)
        server.add_generic_rpc_handlers((_handlers(service),))
        health_servicer = await add_health(server, LANDING_SERVICE.full_name)
        add_reflection(server, LANDING_SERVICE.full_name)
        server.add_generic_rpc_handlers((UnknownMethods(),))  # the last one: it matches every method
        port = _bind(server, config)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        yield RunningServer(port, server, health_servicer, calls)


async def serve(config: ServerConfig, on_listening: Callable[[int], None]) -> bool:
    """Serve until SIGTERM or SIGINT; the first drains, the second stops at once.

    Args:
        config: what to serve.
        on_listening: called with the port when the server accepts calls.

    Returns:
        True if it drained, False if a second signal cut it short.

    Raises:
        RuntimeEnvironmentError: as `running_server`.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    async with running_server(config) as server:
        on_listening(server.port)
        first = await signals.get()
        _logger.info("%s: draining for up to %g s", first.name, config.grace)
        draining = asyncio.ensure_future(server.drain(config.grace))
        second = asyncio.ensure_future(signals.get())
        await asyncio.wait((draining, second), return_when=asyncio.FIRST_COMPLETED)
        drained = draining.done()
        second.cancel()
        draining.cancel()  # no effect if it is done
    _logger.info("stopped" if drained else "stopped at once by a second signal")
    await _wait_for_handlers()
    if drained:
        await draining  # raises what went wrong in it
    return drained


async def _wait_for_handlers() -> None:
    """Wait until calls that were cut off have left their handlers.

    gRPC logs an error for each handler that the event loop ends instead.
    """
    leaving = asyncio.all_tasks() - {asyncio.current_task()}
    if leaving:
        await asyncio.wait(leaving, timeout=1)


def _warn_about_headers(config: ServerConfig) -> None:
    if config.extra_headers.denied:
        _logger.warning(
            "headers that belong to the transport are not propagated, remove them from --forward-headers: %s",
            ", ".join(config.extra_headers.denied),
        )
    if not config.forward:
        _logger.warning("headers are not propagated (--no-forward): every trace breaks at this hop")


def _handlers(service: Answering | Relay) -> grpc.GenericRpcHandler:
    """Return a handler of bytes for each method."""
    return grpc.method_handlers_generic_handler(
        LANDING_SERVICE.full_name,
        {
            "Talk": grpc.unary_unary_rpc_method_handler(service.Talk),
            "TalkOneAnswerMore": grpc.unary_stream_rpc_method_handler(service.TalkOneAnswerMore),
            "TalkMoreAnswerOne": grpc.stream_unary_rpc_method_handler(service.TalkMoreAnswerOne),
            "TalkBidirectional": grpc.stream_stream_rpc_method_handler(service.TalkBidirectional),
        },
    )


def _bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    address = join_host_port(config.host, config.port)
    try:
        if config.certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, server_credentials(config.certificates))
    except RuntimeError as error:
        raise cannot_listen(config.host, config.port, "--port or --host") from error
