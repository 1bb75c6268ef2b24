import asyncio
import gzip
import io
import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status
from making import PAYLOADS, TRACE, message, real, request, zipkin_entry
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from hello_mesh.base.errors import RuntimeEnvironmentError, StoreError
from hello_mesh.tracing.collector import CollectorConfig, RunningCollector, running_collector
from hello_mesh.tracing.formats import otlp, zipkin
from hello_mesh.tracing.sources.sqlite import Store, reading
from hello_mesh.tracing.span import Span

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BODY = 256 * 1024


class Sender:
    """Sends requests to a collector, as a mesh and its applications do."""

    def __init__(self, collector: RunningCollector, session: aiohttp.ClientSession, store: Path) -> None:
        self.collector = collector
        self._session = session
        self._store = store

    async def post(
        self, path: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        url = f"http://127.0.0.1:{self.collector.http_port}{path}"
        sent = {"Content-Type": content_type} | dict(headers or {})
        async with self._session.post(url, data=io.BytesIO(body), headers=sent) as response:
            return response.status, await response.read(), response.content_type

    async def export(self, body: bytes) -> ExportTraceServiceResponse:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.collector.grpc_port}") as channel:
            call: Any = channel.unary_unary(
                f"/{otlp.TRACE_SERVICE}/{otlp.EXPORT_METHOD}",
                response_deserializer=ExportTraceServiceResponse.FromString,
            )
            response: ExportTraceServiceResponse = await call(body, timeout=30)
            return response

    def stored(self, trace_id: str = TRACE) -> tuple[Span, ...]:
        with reading(self._store) as store:
            return store.trace(trace_id)


@pytest.fixture
async def sender(tmp_path: Path) -> AsyncIterator[Sender]:
    config = CollectorConfig(tmp_path / "traces.db", grpc_port=0, http_port=0, max_body_bytes=MAX_BODY)
    async with (
        running_collector(config) as collector,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Sender(collector, session, config.store)


def otlp_json(*names: str) -> bytes:
    """Return a request in OTLP/JSON, with hex ids; a span with the name "" has no ids."""
    ids = {"traceId": TRACE, "spanId": "00f067aa0ba902b7"}
    times = {"startTimeUnixNano": "1795000000000000000", "endTimeUnixNano": "1795000000000000001"}
    spans = [times | {"name": name} | (ids if name else {}) for name in names]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


async def test_otlp_over_grpc_is_stored(sender: Sender) -> None:
    response = await sender.export((PAYLOADS / "envoy-whole.otlp.binpb").read_bytes())
    assert response == ExportTraceServiceResponse()
    spans = real("whole", "otlp")
    assert set(sender.stored(spans[0].trace_id)) == set(spans)


async def test_otlp_over_http_in_protobuf_is_stored(sender: Sender) -> None:
    body = (PAYLOADS / "envoy-whole.otlp.binpb").read_bytes()
    assert await sender.post(otlp.OTLP_PATH, body, PROTOBUF) == (200, b"", PROTOBUF)
    spans = real("whole", "otlp")
    assert set(sender.stored(spans[0].trace_id)) == set(spans)


async def test_otlp_over_http_in_json_is_stored(sender: Sender) -> None:
    status, body, content_type = await sender.post(otlp.OTLP_PATH, otlp_json("a call"), JSON)
    assert (status, json.loads(body), content_type) == (200, {}, JSON)
    assert [each.name for each in sender.stored()] == ["a call"]


async def test_zipkin_over_http_is_stored(sender: Sender) -> None:
    body = (PAYLOADS / "envoy-whole.zipkin.json").read_bytes()
    status, response, _ = await sender.post(zipkin.ZIPKIN_PATH, body, f"{JSON}; charset=utf-8")
    assert (status, response) == (202, b"")
    spans = real("whole", "zipkin")
    assert set(sender.stored(spans[0].trace_id)) == set(spans)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity"])
async def test_bodies_may_be_compressed(sender: Sender, encoding: str) -> None:
    body = request(message())
    packed = body if encoding == "identity" else gzip.compress(body)
    status, _, _ = await sender.post(otlp.OTLP_PATH, packed, PROTOBUF, {"Content-Encoding": encoding})
    assert status == 200
    assert len(sender.stored()) == 1


async def test_repeated_spans_are_stored_once(sender: Sender) -> None:
    for _ in range(3):
        await sender.export(request(message()))
        await sender.post(otlp.OTLP_PATH, request(message()), PROTOBUF)
    assert len(sender.stored()) == 1


async def test_valid_spans_are_stored_if_others_are_rejected(sender: Sender) -> None:
    body = request(message(), message(span_id=b""), message(trace_id=b"\x01"))
    partial = (await sender.export(body)).partial_success
    assert (partial.rejected_spans, "hex digits" in partial.error_message) == (2, True)
    _, response, _ = await sender.post(otlp.OTLP_PATH, body, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(response).partial_success == partial
    _, response, _ = await sender.post(otlp.OTLP_PATH, otlp_json("a call", ""), JSON)
    assert json.loads(response)["partialSuccess"]["rejectedSpans"] == "1"
    assert len(sender.stored()) == 1


@pytest.mark.parametrize("body", [b"\xff\xff", request(message())[:-2], request(message(span_id=b""))])
async def test_invalid_protobuf_is_answered_with_the_error_of_its_protocol(
    sender: Sender, body: bytes
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await sender.export(body)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, response, content_type = await sender.post(otlp.OTLP_PATH, body, PROTOBUF)
    assert (status, content_type) == (400, PROTOBUF)
    error = Status.FromString(response)
    assert (error.code, error.message) == (3, raised.value.details())


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 90_000, b"\xff", b'{"resourceSpans": 1}', otlp_json("")])
async def test_invalid_json_is_answered_with_the_error_of_its_protocol(sender: Sender, body: bytes) -> None:
    status, response, content_type = await sender.post(otlp.OTLP_PATH, body, JSON)
    assert (status, content_type, json.loads(response)["code"]) == (400, JSON, 3)
    status, response, content_type = await sender.post(zipkin.ZIPKIN_PATH, body, JSON)
    assert (status, content_type) == (400, "text/plain")
    assert response.decode().startswith("the body is not")


async def test_a_list_of_zipkin_spans_is_stored_completely_or_not_at_all(sender: Sender) -> None:
    body = json.dumps([zipkin_entry(), zipkin_entry(id="0")]).encode()
    status, response, _ = await sender.post(zipkin.ZIPKIN_PATH, body, JSON)
    assert (status, response.decode()[:23]) == (400, "span 1 of the list: inv")
    assert sender.stored() == ()


@pytest.mark.parametrize("path", [otlp.OTLP_PATH, zipkin.ZIPKIN_PATH])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-thrift", "x", "application/grpc"])
async def test_other_content_types_are_refused(sender: Sender, path: str, content_type: str) -> None:
    status, response, _ = await sender.post(path, b"[]", content_type)
    assert status == 415
    assert b"application/json" in response


async def test_an_unknown_compression_is_refused(sender: Sender) -> None:
    status, _, _ = await sender.post(otlp.OTLP_PATH, b"", PROTOBUF, {"Content-Encoding": "snappy"})
    assert status == 415


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(request(message()))[:-12]])
async def test_invalid_gzip_is_refused(sender: Sender, body: bytes) -> None:
    status, _, _ = await sender.post(otlp.OTLP_PATH, body, PROTOBUF, {"Content-Encoding": "gzip"})
    assert status == 400
    assert sender.stored() == ()


@pytest.mark.parametrize("path", [otlp.OTLP_PATH, zipkin.ZIPKIN_PATH])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "a gzip bomb"])
async def test_a_body_that_is_too_large_is_refused(sender: Sender, path: str, *, packed: bool) -> None:
    body = b" " * (MAX_BODY * 40)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    status, _, _ = await sender.post(path, gzip.compress(body) if packed else body, JSON, headers)
    assert status == 413


async def test_a_message_that_is_too_large_is_refused(sender: Sender) -> None:
    huge = message(attributes=[KeyValue(key="k", value=AnyValue(string_value="v" * MAX_BODY))])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await sender.export(request(huge))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_invalid_input_leaves_stored_spans_unchanged(sender: Sender) -> None:
    await sender.export(request(message()))
    for body in (b"\xff", b"{", b"[]", request(message(span_id=b"")), b" " * MAX_BODY * 2):
        for path, content_type in (
            (otlp.OTLP_PATH, PROTOBUF),
            (otlp.OTLP_PATH, JSON),
            (zipkin.ZIPKIN_PATH, JSON),
        ):
            await sender.post(path, body, content_type)
    assert [each.name for each in sender.stored()] == ["a call"]
    await sender.export(request(message(span_id=b"\x07" * 8)))
    assert len(sender.stored()) == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_a_request_that_is_not_http_is_refused_without_a_traceback(
    sender: Sender, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sender.collector.http_port)
    writer.write(sent)
    assert b" 400 " in await reader.readline()
    writer.close()
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_sender_that_disconnects_during_a_body_causes_no_error(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", sender.collector.http_port)
    head = (
        f"POST {otlp.OTLP_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: 100\r\n\r\n{{"
    )
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await sender.post(otlp.OTLP_PATH, otlp_json("a call"), JSON)
    assert len(sender.stored()) == 1
    assert not [record for record in caplog.records if record.exc_info]


async def test_other_paths_and_methods_are_refused(sender: Sender) -> None:
    assert (await sender.post("/v1/metrics", b"", PROTOBUF))[0] == 404
    url = f"http://127.0.0.1:{sender.collector.http_port}{otlp.OTLP_PATH}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 405


async def test_concurrent_senders_lose_no_span(sender: Sender) -> None:
    async def send(number: int) -> None:
        body = request(*(message(span_id=(number * 100 + each + 1).to_bytes(8, "big")) for each in range(10)))
        await (sender.post(otlp.OTLP_PATH, body, PROTOBUF) if number % 2 else sender.export(body))

    async with asyncio.TaskGroup() as senders:
        for number in range(40):
            senders.create_task(send(number))
    assert len(sender.stored()) == 400


async def test_the_event_loop_continues_while_a_large_body_is_decoded(sender: Sender) -> None:
    spans = [message(span_id=(number + 1).to_bytes(8, "big")) for number in range(3_000)]
    sending = asyncio.ensure_future(sender.export(request(*spans)))
    ticks = 0
    while not sending.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 5
    assert len(sender.stored()) == 3_000


async def test_an_error_of_the_store_is_reported_to_the_sender(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(_store: Store, _spans: object) -> int:
        raise StoreError("cannot use span store traces.db: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "add", add)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await sender.export(request(message()))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        status, response, _ = await sender.post(otlp.OTLP_PATH, request(message()), PROTOBUF)
        assert (status, "disk is full" in Status.FromString(response).message) == (503, True)
        assert (await sender.post(zipkin.ZIPKIN_PATH, json.dumps([zipkin_entry()]).encode(), JSON))[0] == 503
    await sender.export(request(message()))
    assert len(sender.stored()) == 1


async def test_a_compressed_grpc_message_is_stored(sender: Sender) -> None:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{sender.collector.grpc_port}", compression=grpc.Compression.Gzip
    ) as channel:
        call: Any = channel.unary_unary(f"/{otlp.TRACE_SERVICE}/{otlp.EXPORT_METHOD}")
        await call(request(message()), timeout=30)
    assert len(sender.stored()) == 1


@pytest.mark.parametrize("option", ["grpc_port", "http_port"])
async def test_a_port_in_use_is_reported_and_nothing_keeps_running(tmp_path: Path, option: str) -> None:
    with socket.socket() as in_use:
        in_use.bind(("127.0.0.1", 0))
        in_use.listen()
        port = in_use.getsockname()[1]
        ports = {"grpc_port": 0, "http_port": 0, option: port}
        with pytest.raises(RuntimeEnvironmentError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with running_collector(CollectorConfig(tmp_path / "traces.db", **ports)):
                pass
    async with running_collector(CollectorConfig(tmp_path / "traces.db", **ports)) as collector:
        assert getattr(collector, option) == port


@pytest.mark.skipif(sys.platform != "linux", reason="only there is all of 127.0.0.0/8 this machine")
async def test_the_default_address_is_loopback_only(sender: Sender) -> None:
    for port in (sender.collector.grpc_port, sender.collector.http_port):
        with socket.socket() as elsewhere:
            # This fails if the collector listens on every address.
            elsewhere.bind(("127.0.0.2", port))


async def test_an_ipv6_address_can_be_listened_on(tmp_path: Path) -> None:
    config = CollectorConfig(tmp_path / "traces.db", host="::1", grpc_port=0, http_port=0)
    async with (
        running_collector(config) as collector,
        grpc.aio.insecure_channel(f"[::1]:{collector.grpc_port}") as channel,
    ):
        call: Any = channel.unary_unary(f"/{otlp.TRACE_SERVICE}/{otlp.EXPORT_METHOD}")
        await call(request(message()), timeout=30)


async def test_a_store_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        async with running_collector(CollectorConfig(tmp_path, grpc_port=0, http_port=0)):
            pass


async def test_protobufs_own_json_with_ids_in_base64_is_refused(sender: Sender) -> None:
    body = MessageToJson(ExportTraceServiceRequest.FromString(request(message()))).encode()
    assert (await sender.post(otlp.OTLP_PATH, body, JSON))[0] == 400
