import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.rpc.status_pb2 import Status
from making import TRACE, real, span, whole
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from hello_mesh.base.errors import UsageError
from hello_mesh.tracing.collector import CollectorConfig, RunningCollector, running_collector
from hello_mesh.tracing.export import ExportConfig, Exported, ExportError, Protocol, export
from hello_mesh.tracing.formats import otlp
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.span import SpanKind

PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf")
SECRET = "a-secret-token"  # noqa: S105


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[RunningCollector]:
    async with running_collector(
        CollectorConfig(tmp_path / "there.db", grpc_port=0, http_port=0)
    ) as collector:
        yield collector


@pytest.fixture
def unused_port() -> Iterator[int]:
    with socket.socket() as bound:  # and not listening: who connects is refused
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class Endpoint:
    """A tracing service over HTTP that answers as a test wants."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.answer: dict[str, Any] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        await request.read()
        return web.Response(**self.answer)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    there = Endpoint()
    application = web.Application()
    application.router.add_post("/{path:.*}", there.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield there
    await runner.cleanup()


def over_http(endpoint: Endpoint, path: str = "") -> ExportConfig:
    headers = {"Authentication": SECRET}
    return ExportConfig(endpoint.url + path, "http/protobuf", headers, timeout=30)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("origin", ["otlp", "zipkin"])
async def test_spans_arrive_as_they_were(
    collector: RunningCollector, tmp_path: Path, protocol: Protocol, origin: str
) -> None:
    port = collector.grpc_port if protocol == "grpc" else collector.http_port
    config = ExportConfig(f"http://127.0.0.1:{port}", protocol, {"Authentication": SECRET})
    spans = real("whole", origin)
    assert await export(spans, config) == Exported(6, 0, "")
    with reading(tmp_path / "there.db") as store:
        there = store.trace(spans[0].trace_id)
    key = [(each.span_id, each.parent_id, each.service, each.kind, dict(each.attributes)) for each in there]
    assert sorted(key, key=str) == sorted(
        ((each.span_id, each.parent_id, each.service, each.kind, dict(each.attributes)) for each in spans),
        key=str,
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_many_spans_go_in_several_requests(
    collector: RunningCollector, tmp_path: Path, protocol: Protocol
) -> None:
    port = collector.grpc_port if protocol == "grpc" else collector.http_port
    spans = [span("svc", SpanKind.INTERNAL, number + 1, ms=1) for number in range(1_234)]
    assert (await export(spans, ExportConfig(f"http://127.0.0.1:{port}", protocol))).spans == 1_234
    with reading(tmp_path / "there.db") as store:
        assert len(store.trace(TRACE)) == 1_234


async def test_headers_and_the_path_of_the_endpoint_are_used(endpoint: Endpoint) -> None:
    await export(whole(), over_http(endpoint))
    await export(whole(), over_http(endpoint, "/adapt_abc/api/otlp/traces"))
    assert [request.path for request in endpoint.seen] == [otlp.OTLP_PATH, "/adapt_abc/api/otlp/traces"]
    assert {request.headers["Authentication"] for request in endpoint.seen} == {SECRET}
    assert {request.content_type for request in endpoint.seen} == {"application/x-protobuf"}


async def test_rejected_spans_are_counted(endpoint: Endpoint) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too\x1bold")
    body = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    endpoint.answer = {"body": body, "content_type": "application/x-protobuf"}
    assert await export(whole(), over_http(endpoint)) == Exported(4, 2, "too\\x1bold")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "HTTP 401: <html>"),
        (b"", "HTTP 401$"),
        (Status(message="who?").SerializeToString(), "who"),
    ],
)
async def test_a_refusal_is_told_with_its_status_and_text(endpoint: Endpoint, body: bytes, told: str) -> None:
    endpoint.answer = {"status": 401, "body": body}
    with pytest.raises(ExportError, match=f"^{endpoint.url} refused: .*{told}") as raised:
        await export(whole(), over_http(endpoint, "/path-with-a-token"))
    assert SECRET not in str(raised.value)
    assert "path-with-a-token" not in str(raised.value)


async def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    endpoint.answer = {"status": 307, "headers": {"Location": f"{endpoint.url}/elsewhere"}}
    with pytest.raises(ExportError, match="HTTP 307"):
        await export(whole(), over_http(endpoint))
    assert len(endpoint.seen) == 1


async def test_an_answer_of_another_kind_is_named(endpoint: Endpoint) -> None:
    endpoint.answer = {"body": b"\xff\xff\xff"}
    with pytest.raises(ExportError, match="does not speak OTLP"):
        await export(whole(), over_http(endpoint))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_endpoint_that_is_not_there_is_named(unused_port: int, protocol: Protocol) -> None:
    config = ExportConfig(f"http://127.0.0.1:{unused_port}", protocol, {"Authentication": SECRET})
    with pytest.raises(ExportError, match=f"127.0.0.1:{unused_port}") as raised:
        await export(whole(), config)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_endpoint_that_does_not_answer_is_named_after_the_timeout(protocol: Protocol) -> None:
    with socket.socket() as silent:  # accepts connections, as the system does by itself, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ExportError, match=r"did not answer|DEADLINE_EXCEEDED|UNAVAILABLE"):
            await export(whole(), ExportConfig(url, protocol, timeout=0.3))


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("", "grpc"),
        ("localhost:4317", "grpc"),
        ("ftp://localhost:21", "grpc"),
        ("http://", "http/protobuf"),
        ("http://localhost", "grpc"),
        ("http://localhost:99999", "grpc"),
        ("http://localhost:port", "http/protobuf"),
        ("http://[::1", "http/protobuf"),
        ("http://localhost:4317/v1/traces", "grpc"),
    ],
)
def test_a_wrong_endpoint_is_wrong_usage(endpoint: str, protocol: Protocol) -> None:
    with pytest.raises(UsageError, match=r"the endpoint|gRPC takes no path"):
        ExportConfig(endpoint, protocol)


def test_headers_are_not_in_what_a_configuration_shows_of_itself() -> None:
    config = ExportConfig("http://user:password@localhost:4317", headers={"Authentication": SECRET})
    assert SECRET not in repr(config)
    assert config.place == "http://localhost:4317"
