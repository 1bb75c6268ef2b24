"""Receive spans in OTLP over gRPC and HTTP, and in Zipkin v2 over HTTP, and store them.

aiohttp serves HTTP: it runs inside the event loop, on any free port, and limits and decompresses bodies.
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

from hello_mesh.base.errors import PayloadError, StoreError
from hello_mesh.base.listening import cannot_listen, join_host_port
from hello_mesh.tracing.formats import otlp, zipkin
from hello_mesh.tracing.formats.batch import Batch
from hello_mesh.tracing.sources.sqlite import DEFAULT_MAX_SPANS, Store, writing

_logger = logging.getLogger(__name__)
_http_logger = logging.getLogger(f"{__name__}.http")

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"

# aiohttp decompresses these.
_ENCODINGS = ("", "identity", "gzip", "deflate")

# How long requests in progress may take when the collector stops.
_COLLECTOR_GRACE_SECONDS = 2.0

Decode = Callable[[bytes], Batch]


@dataclass(frozen=True)
class CollectorConfig:
    """The configuration of a collector."""

    store: Path
    """The file for the spans."""

    host: str = "127.0.0.1"
    """The address to listen on; by default, other hosts cannot reach it."""

    grpc_port: int = 4317
    """The port of OTLP/gRPC; 0 is any free one."""

    http_port: int = 4318
    """The port of OTLP/HTTP and Zipkin; 0 is any free one."""

    max_body_bytes: int = 4 * 1024 * 1024
    """The largest request after decompression: gRPC's default, here for HTTP, too."""

    max_spans: int = DEFAULT_MAX_SPANS
    """How many spans are kept. The traces that were received first are removed first."""


@dataclass(frozen=True)
class RunningCollector:
    """A collector that accepts spans."""

    grpc_port: int
    """The port of OTLP/gRPC, also if the configuration asked for any free one."""
    http_port: int
    """The port of OTLP/HTTP and Zipkin."""


@asynccontextmanager
async def running_collector(config: CollectorConfig) -> AsyncIterator[RunningCollector]:
    """Run a collector until the context ends. All spans that it accepted are stored then.

    Raises:
        RuntimeEnvironmentError: a port is in use, or the store cannot be written.
    """
    async with AsyncExitStack() as stack:
        store = stack.enter_context(writing(config.store, config.max_spans))
        # One thread: SQLite has one writer. The event loop continues while it decodes and writes.
        thread = stack.enter_context(ThreadPoolExecutor(1, "span-store"))
        intake = _Intake(store, thread)
        grpc_port = await _start_grpc(stack, config, intake)
        http_port = await _start_http(stack, config, intake)
        yield RunningCollector(grpc_port, http_port)


@dataclass(frozen=True)
class _Intake:
    """The path of every body to the store, in any protocol."""

    store: Store
    thread: ThreadPoolExecutor

    async def accept(self, decode: Decode, body: bytes) -> Batch:
        """Store the valid spans of a body.

        Raises:
            PayloadError: the body has no valid span.
            StoreError: the store cannot be written now.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self.thread, self._decode_and_store, decode, body
        )

    def _decode_and_store(self, decode: Decode, body: bytes) -> Batch:
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
        raise PayloadError(f"none of {batch.rejected} spans is valid; the first: {batch.reason}")
    return batch


async def _start_grpc(stack: AsyncExitStack, config: CollectorConfig, intake: _Intake) -> int:
    options = {"grpc.max_receive_message_length": config.max_body_bytes, "grpc.so_reuseport": 0}
    server = grpc.aio.server(options=tuple(options.items()))
    # Bytes in and out: decoding happens outside the event loop, and names its errors.
    export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_grpc_export(intake))
    handlers = grpc.method_handlers_generic_handler(otlp.TRACE_SERVICE, {otlp.EXPORT_METHOD: export})
    server.add_generic_rpc_handlers((handlers,))
    try:
        port = server.add_insecure_port(join_host_port(config.host, config.grpc_port))
    except RuntimeError as error:
        raise cannot_listen(config.host, config.grpc_port, "--grpc-port or --host") from error
    await server.start()
    stack.push_async_callback(server.stop, _COLLECTOR_GRACE_SECONDS)
    return port


def _grpc_export(intake: _Intake) -> Callable[[bytes, Any], Any]:
    async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return _export_response(await intake.accept(otlp.from_protobuf, body)).SerializeToString()
        except PayloadError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    return export


def _export_response(batch: Batch) -> ExportTraceServiceResponse:
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
    _http_logger.addFilter(_is_own_error)
    runner = web.AppRunner(
        application, logger=_http_logger, access_log=None, shutdown_timeout=_COLLECTOR_GRACE_SECONDS
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, config.host, config.http_port).start()
    except OSError as error:
        raise cannot_listen(config.host, config.http_port, "--http-port or --host", error) from error
    port: int = runner.addresses[0][1]
    return port


def _is_own_error(record: logging.LogRecord) -> bool:
    """Return False for a sender that sends no HTTP or disconnects: that needs no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | ConnectionResetError)


@dataclass(frozen=True)
class _Protocol:
    """How one protocol decodes a body over HTTP, and how it responds."""

    decode: Decode
    accepted: Callable[[Batch], web.Response]
    refused: Callable[[int, grpc.StatusCode, str], web.Response]


def _status_response(content_type: str) -> Callable[[int, grpc.StatusCode, str], web.Response]:
    """Return a function that makes OTLP's responses to a failed request.

    Their body is a google.rpc.Status: https://opentelemetry.io/docs/specs/otlp/#failures-1
    """

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
    lambda batch: _message_response(_export_response(batch), _PROTOBUF),
    _status_response(_PROTOBUF),
)
_OTLP_JSON = _Protocol(
    otlp.from_json, lambda batch: _message_response(_export_response(batch), _JSON), _status_response(_JSON)
)
_ZIPKIN = _Protocol(zipkin.from_json, lambda _: web.Response(status=202), _text_response)


def _http_handler(intake: _Intake, protocols: Mapping[str, _Protocol]) -> Callable[[web.Request], Any]:
    """Return a handler for a path that accepts the content types of `protocols`."""

    async def handle(request: web.Request) -> web.Response:
        protocol = protocols.get(request.content_type)
        encoding = request.headers.get("Content-Encoding", "").lower()
        if protocol is None or encoding not in _ENCODINGS:
            refused = (protocol or protocols[_JSON]).refused
            expected = f"send {' or '.join(protocols)}, plain or with Content-Encoding gzip"
            return refused(415, grpc.StatusCode.INVALID_ARGUMENT, expected)
        return await _respond(intake, protocol, request)

    return handle


async def _respond(intake: _Intake, protocol: _Protocol, request: web.Request) -> web.Response:
    try:
        return protocol.accepted(await intake.accept(protocol.decode, await request.read()))
    except web.HTTPRequestEntityTooLarge:
        text = f"the body is larger than {request.client_max_size} bytes"
        return protocol.refused(413, grpc.StatusCode.RESOURCE_EXHAUSTED, text)
    except (web.RequestPayloadError, PayloadError) as error:
        return protocol.refused(400, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except StoreError as error:
        return protocol.refused(503, grpc.StatusCode.UNAVAILABLE, str(error))
