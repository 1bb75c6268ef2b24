"""Sends what was stored to another endpoint that speaks OTLP: a Jaeger, a cloud's tracing service."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from hello_mesh.base.errors import RuntimeEnvironmentError, UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.tracing.formats import otlp
from hello_mesh.tracing.span import Span

Protocol = Literal["grpc", "http/protobuf"]

_BATCH = 500
_PROTOBUF = "application/x-protobuf"
_LONGEST_ANSWER = 64 * 1024


class ExportError(RuntimeEnvironmentError):
    """The endpoint did not take the spans."""


@dataclass(frozen=True)
class ExportConfig:
    """Where spans go. What it holds of headers is secret and never shown."""

    endpoint: str
    """`http://host:port` or `https://…`; over HTTP also with a path, else the one of OTLP."""
    protocol: Protocol = "grpc"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request, as a tracing service asks for them to know who sends."""
    timeout: float = 10.0
    """Seconds that each request may take."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
            port = parts.port
        except ValueError as error:
            raise UsageError("the endpoint is not a URL: its host or its port is wrong") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("the endpoint must be a URL: http://host:port or https://host:port")
        if self.protocol == "grpc" and port is None:
            raise UsageError("the endpoint must name its port for gRPC: http://host:4317")
        if self.protocol == "grpc" and parts.path not in ("", "/"):
            raise UsageError("gRPC takes no path in the endpoint: did you mean --protocol http/protobuf?")

    @property
    def place(self) -> str:
        """The endpoint as texts name it: tracing services put secrets into the rest of the URL."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True)
class Exported:
    """What became of the spans."""

    spans: int
    """How many the endpoint took."""
    rejected: int
    """How many it says it rejected."""
    reason: str
    """What it says of the first rejection, or ""."""


_Send = Callable[[ExportTraceServiceRequest], Awaitable[ExportTraceServiceResponse]]


async def export(spans: Sequence[Span], config: ExportConfig) -> Exported:
    """Sends spans, some hundreds at a time.

    Raises:
        ExportError: the endpoint cannot be reached, does not answer in time, or refuses.
    """
    opened = _over_grpc if config.protocol == "grpc" else _over_http
    rejected = 0
    reason = ""
    async with opened(config) as send:
        for first in range(0, len(spans), _BATCH):
            partial = (await send(otlp.to_protobuf(spans[first : first + _BATCH]))).partial_success
            rejected += max(0, partial.rejected_spans)
            reason = reason or excerpt(partial.error_message, 200)
    return Exported(len(spans) - rejected, rejected, reason)


@asynccontextmanager
async def _over_grpc(config: ExportConfig) -> AsyncIterator[_Send]:
    parts = urlsplit(config.endpoint)
    target = parts.netloc.rpartition("@")[2]
    if parts.scheme == "https":
        channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials())
    else:
        channel = grpc.aio.insecure_channel(target)
    metadata = tuple((key.lower(), value) for key, value in config.headers.items())
    async with channel:
        call: grpc.aio.UnaryUnaryMultiCallable[ExportTraceServiceRequest, ExportTraceServiceResponse]
        call = channel.unary_unary(
            f"/{otlp.TRACE_SERVICE}/{otlp.EXPORT_METHOD}",
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )

        async def send(request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
            try:
                return await call(request, metadata=metadata, timeout=config.timeout)
            except grpc.aio.AioRpcError as error:
                details = excerpt(error.details() or "", 200)
                raise ExportError(f"{config.place} refused: {error.code().name}: {details}") from error

        yield send


@asynccontextmanager
async def _over_http(config: ExportConfig) -> AsyncIterator[_Send]:
    parts = urlsplit(config.endpoint)
    url = config.endpoint if parts.path not in ("", "/") else f"{config.endpoint.rstrip('/')}{otlp.OTLP_PATH}"
    headers = {"Content-Type": _PROTOBUF, **config.headers}
    timeout = aiohttp.ClientTimeout(total=config.timeout)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def send(request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
            try:
                # No redirects: they would carry the headers to somebody else.
                async with session.post(
                    url, data=BytesIO(request.SerializeToString()), allow_redirects=False
                ) as response:
                    body = await response.content.read(_LONGEST_ANSWER)
                    return _http_answer(config, response.status, body)
            except TimeoutError as error:
                raise ExportError(f"{config.place} did not answer within {config.timeout:g} s") from error
            except aiohttp.ClientError as error:
                raise ExportError(f"{config.place} cannot be reached: {excerpt(str(error), 200)}") from error

        yield send


def _http_answer(config: ExportConfig, status: int, body: bytes) -> ExportTraceServiceResponse:
    if status != 200:  # noqa: PLR2004
        raise ExportError(f"{config.place} refused: HTTP {status}{_status_text(body)}")
    try:
        return ExportTraceServiceResponse.FromString(body)
    except DecodeError as error:
        raise ExportError(f"{config.place} does not speak OTLP: its answer cannot be read") from error


def _status_text(body: bytes) -> str:
    """What an error's body says, be it OTLP's own form or text."""
    try:
        text = Status.FromString(body).message
    except DecodeError:
        text = body.decode(errors="replace").strip()
    return f": {excerpt(text, 200)}" if text else ""
