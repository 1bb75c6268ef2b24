"""What tools expect of every gRPC server: health, reflection, and a log line for calls of unknown methods."""

from __future__ import annotations  # the types of grpc take arguments in stubs only

import logging
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from hello_mesh.base.text import excerpt

_logger = logging.getLogger(__name__)

_health_messages: Any = health_pb2  # its types lack the messages of List

_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Health(health.aio.HealthServicer):
    """The health service of a server with one service, with the method `List`, which grpcio's own lacks."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._names = ("", service)

    async def List(self, _request: Any, context: Any) -> Any:
        """Return the status of the server and of its service."""
        checks = {name: health_pb2.HealthCheckRequest(service=name) for name in self._names}
        return _health_messages.HealthListResponse(
            statuses={name: await self.Check(check, context) for name, check in checks.items()}
        )


async def add_health(server: grpc.aio.Server, service: str) -> Health:
    """Add the health service, which reports `service` as serving."""
    servicer = Health(service)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def add_reflection(server: grpc.aio.Server, service: str) -> None:
    """Add reflection in both of its versions; grpcio has only the older one. Their messages are the same."""
    names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME, _REFLECTION_V1)
    pool: Any = _SymbolPool()
    reflection.enable_server_reflection(names, server, pool)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names, pool).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": handler}),)
    )


class _SymbolPool:
    """The default pool of descriptors, which also finds methods, and reflection v1."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        alpha = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
        self._pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Return the file that declares a symbol, or the method of a service.

        Raises:
            KeyError: there is none.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


class UnknownMethods(grpc.GenericRpcHandler):
    """Refuses every method, and logs it."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler that refuses the method of `details`."""
        text = f"unknown method {excerpt(details.method, 100)}"

        async def refuse(_requests: Iterator[bytes], context: Any) -> None:
            _logger.warning("%s called by %s", text, context.peer())
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)

        return grpc.stream_stream_rpc_method_handler(refuse)
