"""Receives spans, OTLP over gRPC and HTTP and Zipkin v2 over HTTP, and stores them.

HTTP is served by aiohttp: it starts and stops inside a running loop on a port of its choice, bounds and
unpacks bodies itself, and brings the client by which spans are exported.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from hello_mesh.base.errors import PayloadError, RuntimeEnvironmentError, StoreError
from hello_mesh.tracing.formats import otlp, zipkin
from hello_mesh.tracing.formats.batch import Batch
from hello_mesh.tracing.sources.sqlite import DEFAULT_MAX_SPANS, Store, writing

_logger = logging.getLogger(__name__)
_http_logger = logging.getLogger(f"{__name__}.http")

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"

# aiohttp unpacks these.
_ENCODINGS = ("", "identity", "gzip", "deflate")

# How long requests under way may take when the collector stops.
_GRACE_SECONDS = 2.0

Decode = Callable[[bytes], Batch]


@dataclass(frozen=True)
class CollectorConfig:
    """What a collector is to be."""

    store: Path
    """The file that keeps the spans."""

    host: str = "127.0.0.1"
    """The address to listen on; by default no other machine can reach it."""

    grpc_port: int = 4317
    """The port of OTLP over gRPC; 0: any free one."""

    http_port: int = 4318
    """The port of OTLP over HTTP and of Zipkin; 0: any free one."""

    max_body_bytes: int = 4 * 1024 * 1024
    """The largest request, unpacked: the default of gRPC, here for HTTP too."""

    max_spans: int = DEFAULT_MAX_SPANS
    """How many spans are kept; the traces that came first go first."""


@dataclass(frozen=True)
class RunningCollector:
    """A collector that accepts spans."""

    grpc_port: int
    """The port of OTLP over gRPC, also where any free one was asked for."""
    http_port: int
    """The port of OTLP over HTTP and of Zipkin."""


@asynccontextmanager
async def running_collector(config: CollectorConfig) -> AsyncIterator[RunningCollector]:
    """A collector that accepts spans until the context ends; what it has accepted is stored then.

    Raises:
        RuntimeEnvironmentError: a port is taken, or the store cannot be written.
    """
    async with AsyncExitStack() as stack:
        store = stack.enter_context(writing(config.store, config.max_spans))
        # One thread: SQLite has one writer anyway, and the loop goes on while it decodes and writes.
        thread = stack.enter_context(ThreadPoolExecutor(1, "span-store"))
        intake = _Intake(store, thread)
        grpc_port = await _start_grpc(stack, config, intake)
        http_port = await _start_http(stack, config, intake)
        yield RunningCollector(grpc_port, http_port)


@dataclass(frozen=True)
class _Intake:
    """The way that every span takes, whichever protocol brought it."""

    store: Store
    thread: ThreadPoolExecutor

    async def take(self, decode: Decode, body: bytes) -> Batch:
        """Stores the good spans of a body.

        Raises:
            PayloadError: nothing in it can be stored.
            StoreError: the store does not take them now.
        """
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._take, decode, body)

    def _take(self, decode: Decode, body: bytes) -> Batch:
        try:
            batch = _usable(decode(body))
            self.store.add(batch.spans)
        except PayloadError as error:
            _logger.warning("refused: %s", error)
            raise
        except StoreError as error:
            _logger.error("%s", error)  # noqa: TRY400 - a full disk needs no traceback
            raise
        if batch.rejected:
            _logger.warning("refused %d spans of a request: %s", batch.rejected, batch.reason)
        return batch


def _usable(batch: Batch) -> Batch:
    if batch.rejected and not batch.spans:
        raise PayloadError(f"no span of {batch.rejected} is right; the first: {batch.reason}")
    return batch


async def _start_grpc(stack: AsyncExitStack, config: CollectorConfig, intake: _Intake) -> int:
    options = {"grpc.max_receive_message_length": config.max_body_bytes, "grpc.so_reuseport": 0}
    server = grpc.aio.server(options=tuple(options.items()))
    # Bytes go in and come out, so that decoding is ours, off the loop and with its errors named.
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_grpc_export(intake))
    handlers = grpc.method_handlers_generic_handler(otlp.TRACE_SERVICE, {otlp.EXPORT_METHOD: export})
    server.add_generic_rpc_handlers((handlers,))
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        port = server.add_insecure_port(f"{host}:{config.grpc_port}")
    except RuntimeError as error:
        raise _taken(config.host, config.grpc_port, "--grpc-port") from error
    await server.start()
    stack.push_async_callback(server.stop, _GRACE_SECONDS)
    return port


def _grpc_export(intake: _Intake) -> Callable[[bytes, Any], Any]:
    async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return _response(await intake.take(otlp.from_protobuf, body)).SerializeToString()
        except PayloadError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    return export


def _response(batch: Batch) -> ExportTraceServiceResponse:
    if not batch.rejected:
        return ExportTraceServiceResponse()
    partial = ExportTracePartialSuccess(rejected_spans=batch.rejected, error_message=batch.reason)
    return ExportTraceServiceResponse(partial_success=partial)


async def _start_http(stack: AsyncExitStack, config: CollectorConfig, intake: _Intake) -> int:
    application = web.Application(client_max_size=config.max_body_bytes)
    application.router.add_post(
        otlp.OTLP_PATH, _http_handler(intake, {_PROTOBUF: _OTLP_PROTOBUF, _JSON: _OTLP_JSON})
    )
    application.router.add_post(zipkin.ZIPKIN_PATH, _http_handler(intake, {_JSON: _ZIPKIN}))
    _http_logger.addFilter(_is_our_fault)
    runner = web.AppRunner(application, logger=_http_logger, access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, config.host, config.http_port).start()
    except OSError as error:
        raise _taken(config.host, config.http_port, "--http-port") from error
    port: int = runner.addresses[0][1]
    return port


def _is_our_fault(record: logging.LogRecord) -> bool:
    """A sender that speaks no HTTP, or goes away amid a body, is no error of ours that needs a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionResetError)


def _taken(host: str, port: int, option: str) -> RuntimeEnvironmentError:
    return RuntimeEnvironmentError(
        f"cannot listen on {host} port {port}: the port is taken, or the address is not one of this machine;"
        f" choose another with {option} or --host"
    )


@dataclass(frozen=True)
class _Protocol:
    """How one protocol reads a body over HTTP, and how it says what became of it."""

    decode: Decode
    accepted: Callable[[Batch], web.Response]
    refused: Callable[[int, grpc.StatusCode, str], web.Response]


def _status_response(content_type: str) -> Callable[[int, grpc.StatusCode, str], web.Response]:
    """https://opentelemetry.io/docs/specs/otlp/#failures-1: the body is a google.rpc.Status."""

    def response(http_status: int, code: grpc.StatusCode, text: str) -> web.Response:
        number: int = code.value[0]
        return _message_response(Status(code=number, message=text), content_type, http_status)

    return response


def _message_response(message: Any, content_type: str, http_status: int = 200) -> web.Response:
    body = message.SerializeToString() if content_type == _PROTOBUF else MessageToJson(message).encode()
    return web.Response(status=http_status, body=body, content_type=content_type)


def _text_response(http_status: int, _code: grpc.StatusCode, text: str) -> web.Response:
    return web.Response(status=http_status, text=text)


_OTLP_PROTOBUF = _Protocol(
    otlp.from_protobuf,
    lambda batch: _message_response(_response(batch), _PROTOBUF),
    _status_response(_PROTOBUF),
)
_OTLP_JSON = _Protocol(
    otlp.from_json, lambda batch: _message_response(_response(batch), _JSON), _status_response(_JSON)
)
_ZIPKIN = _Protocol(zipkin.from_json, lambda _: web.Response(status=202), _text_response)


def _http_handler(intake: _Intake, protocols: Mapping[str, _Protocol]) -> Callable[[web.Request], Any]:
    """A handler for a path that takes the content types of `protocols`."""

    async def handle(request: web.Request) -> web.Response:
        protocol = protocols.get(request.content_type)
        encoding = request.headers.get("Content-Encoding", "").lower()
        if protocol is None or encoding not in _ENCODINGS:
            refused = (protocol or protocols[_JSON]).refused
            wanted = f"send {' or '.join(protocols)}, plain or with Content-Encoding gzip"
            return refused(415, grpc.StatusCode.INVALID_ARGUMENT, wanted)
        return await _take(intake, protocol, request)

    return handle


async def _take(intake: _Intake, protocol: _Protocol, request: web.Request) -> web.Response:
    try:
        return protocol.accepted(await intake.take(protocol.decode, await request.read()))
    except web.HTTPRequestEntityTooLarge:
        text = f"the body is larger than {request.client_max_size} bytes"
        return protocol.refused(413, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    except (web.RequestPayloadError, PayloadError) as error:
        return protocol.refused(400, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except StoreError as error:
        return protocol.refused(503, grpc.StatusCode.UNAVAILABLE, str(error))
