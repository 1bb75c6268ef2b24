"""The client's own spans, taken by the real collector."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_client.plan import PATTERNS, Pattern
from grpc_client.spans import SERVICE_NAME, Endpoint, parse_endpoint
from hello_mesh.base.errors import UsageError
from hello_mesh.tracing.collector import CollectorConfig, RunningCollector, running_collector
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.span import Span, SpanKind, Status


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[RunningCollector]:
    """A collector on free ports; its store is traces.db."""
    async with running_collector(
        CollectorConfig(tmp_path / "traces.db", grpc_port=0, http_port=0)
    ) as collector:
        yield collector


def stored(tmp_path: Path) -> tuple[Span, ...]:
    with reading(tmp_path / "traces.db") as store:
        return store.latest()


def at(collector: RunningCollector) -> str:
    return f"http://127.0.0.1:{collector.grpc_port}"


async def test_a_call_leaves_a_span_that_its_headers_name(
    start_chain: Any, ask: Any, pattern: Pattern, collector: RunningCollector, tmp_path: Path
) -> None:
    chain = await start_chain(1)
    outcome = await ask(chain.target, pattern, spans_to=at(collector))
    (span,) = stored(tmp_path)
    assert (span.trace_id, span.span_id) == (outcome.hops[0].w3c.trace_id, outcome.hops[0].w3c.span_id)
    assert (span.service, span.kind, span.parent_id) == (SERVICE_NAME, SpanKind.CLIENT, None)
    assert span.name == f"org.feuyeux.grpc.LandingService/{pattern.rpc}"
    assert span.status is not Status.ERROR
    assert span.duration_ns == pytest.approx(outcome.seconds * 1e9, abs=1e3)


async def test_a_call_that_fails_leaves_one_that_says_so(
    ask: Any, free_port: int, collector: RunningCollector, tmp_path: Path
) -> None:
    outcome = await ask(f"127.0.0.1:{free_port}", PATTERNS[0], spans_to=at(collector))
    (span,) = stored(tmp_path)
    assert (span.trace_id, span.status) == (outcome.sent_trace_id, Status.ERROR)
    assert span.status_message.startswith("UNAVAILABLE: ")


@pytest.mark.parametrize(("headers", "families"), [("w3c", {"w3c"}), ("b3", {"b3"}), ("both", {"w3c", "b3"})])
async def test_the_trace_is_in_the_headers_asked_for(
    start_chain: Any, ask: Any, headers: str, families: set[str]
) -> None:
    chain = await start_chain(2)
    outcome = await ask(chain.target, PATTERNS[0], trace_headers=headers)
    for hop in outcome.hops:
        seen = {name: getattr(hop, name).trace_id for name in ("w3c", "b3") if getattr(hop, name)}
        assert seen == dict.fromkeys(families, outcome.sent_trace_id)


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ("w3c", ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ("b3", ("x-b3-traceid", "a" * 32)),
    ],
)
async def test_in_a_trace_of_the_users_own_it_has_no_span(
    start_chain: Any,
    ask: Any,
    collector: RunningCollector,
    tmp_path: Path,
    headers: str,
    own: tuple[str, str],
) -> None:
    chain = await start_chain(1)
    outcome = await ask(
        chain.target, PATTERNS[0], headers=(own,), trace_headers=headers, spans_to=at(collector)
    )
    assert (outcome.ok, outcome.sent_trace_id) == (True, None)
    assert stored(tmp_path) == ()


async def test_a_collector_that_is_away_costs_a_line_and_no_call(
    start_chain: Any, run_client: Any, free_port: int
) -> None:
    chain = await start_chain(1)
    ended = await run_client(
        "talk", "--server", chain.target, "--repeat", "20", "--spans-to", f"http://127.0.0.1:{free_port}"
    )
    assert ended.code == 0
    assert "20 calls, 0 errors" in ended.out
    (line,) = ended.err.splitlines()
    assert line.startswith("lost spans: 20; the collector says UNAVAILABLE: ")


async def test_a_collector_that_is_silent_delays_the_end_by_seconds_at_most(
    start_chain: Any, run_client: Any, silent_port: int
) -> None:
    chain = await start_chain(1)
    ended = await run_client(
        "talk", "--server", chain.target, "--spans-to", f"http://127.0.0.1:{silent_port}"
    )
    assert ended.code == 0
    assert "lost spans: 1; the collector says DEADLINE_EXCEEDED" in ended.err


async def test_the_standard_variable_names_the_collector(
    start_chain: Any, run_client: Any, collector: RunningCollector, tmp_path: Path
) -> None:
    chain = await start_chain(1)
    variable = {"OTEL_EXPORTER_OTLP_ENDPOINT": at(collector)}
    assert (await run_client("talk", "--server", chain.target, env=variable)).code == 0
    assert len(stored(tmp_path)) == 1
    empty = await run_client("talk", "--server", chain.target, env={"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert (empty.code, empty.err) == (0, "")


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:4317", Endpoint("localhost:4317", secure=False)),
        ("https://collector.example", Endpoint("collector.example:4317", secure=True)),
        ("http://[::1]:99/", Endpoint("[::1]:99", secure=False)),
    ],
)
def test_an_endpoint_is_read_as_the_standard_writes_it(url: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(url) == endpoint


@pytest.mark.parametrize(
    "url", ["localhost:4317", "ftp://localhost", "http://", "http://a:b", "http://a:99999"]
)
def test_what_is_no_endpoint_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="is no collector"):
        parse_endpoint(url)


async def test_wrong_endpoints_are_told_before_a_call_is_made(run_client: Any) -> None:
    ended = await run_client("talk", "--spans-to", "nowhere")
    assert ended.code == 2
    assert "is no collector: write http://HOST:PORT" in ended.err


async def test_the_record_holds_a_line_for_each_call(
    start_chain: Any, run_client: Any, tmp_path: Path
) -> None:
    chain = await start_chain(1)
    record = tmp_path / "calls.jsonl"
    ended = await run_client("all", "--server", chain.target, "--repeat", "3", "--record", str(record))
    assert ended.code == 0
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["call"] for line in lines] == list(range(1, 13))
    assert {line["status"] for line in lines} == {grpc.StatusCode.OK.value[0]}
    assert len({line["sent_trace_id"] for line in lines}) == 12


async def test_a_record_that_cannot_be_written_is_told_in_a_line(run_client: Any, tmp_path: Path) -> None:
    ended = await run_client("talk", "--record", str(tmp_path / "away/calls.jsonl"))
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.endswith("away/calls.jsonl: No such file or directory\n")


async def test_sidecars_can_be_demanded(start_chain: Any, run_client: Any) -> None:
    chain = await start_chain(2)
    command = ("talk", "--server", chain.target, "--expect-hops", "svc1,svc2")
    assert (await run_client(*command)).code == 0
    ended = await run_client(*command, "--expect-sidecars")
    assert ended.code == 1
    assert "not as expected: no sidecar before any of them" in ended.err
