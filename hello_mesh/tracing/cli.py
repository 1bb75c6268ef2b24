"""Options → collect, list, show, verify, topology."""

import asyncio
import logging
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hello_mesh.base.cli import CONTEXT_SETTINGS, Group, comma_separated, output_option, parsed_by, quiet_grpc
from hello_mesh.base.errors import EXIT_FAILED, UsageError
from hello_mesh.base.extras import extra
from hello_mesh.base.text import excerpt
from hello_mesh.tracing import render
from hello_mesh.tracing.options import store_option
from hello_mesh.tracing.service_graph import service_graph
from hello_mesh.tracing.sources.sqlite import DEFAULT_MAX_SPANS, Store, TraceFilter, reading
from hello_mesh.tracing.span import Span, padded
from hello_mesh.tracing.verdict.expect import expected_chain
from hello_mesh.tracing.verdict.verify import verify

if TYPE_CHECKING:
    from hello_mesh.tracing.collector import CollectorConfig


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """Collect the spans of a mesh, show them, and verify that each call is one trace.

    \b
    Exit codes: 0 OK; 1 a trace is not as expected, or not found; 2 wrong usage;
    3 environment error (port in use, unreadable file); 130 Ctrl-C.
    """


def _parse_trace_id(text: str) -> str:
    trace_id = padded(text.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        raise UsageError(f"invalid trace id {excerpt(text)!r}: use 32 hex digits, or 16")
    return trace_id


_trace_ids_argument = click.argument(
    "trace_ids", metavar="TRACE_ID...", nargs=-1, required=True, callback=parsed_by(_parse_trace_id)
)


@main.command(context_settings=CONTEXT_SETTINGS)
@store_option
@click.option(
    "--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other hosts send spans."
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), default=4317, help="Port of OTLP/gRPC; 0 is any free one."
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=4318,
    help="Port of OTLP/HTTP and Zipkin v2; 0 is any free one.",
)
@click.option(
    "--max-spans",
    type=click.IntRange(1),
    default=DEFAULT_MAX_SPANS,
    help="Number of spans to keep. The traces that were received first are removed first.",
)
def collect(*, store: Path, host: str, grpc_port: int, http_port: int, max_spans: int) -> None:
    """Receive spans in OTLP and Zipkin v2, and store them, until SIGTERM or SIGINT."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    quiet_grpc()
    with extra("traces"):
        from hello_mesh.tracing.collector import CollectorConfig  # imports grpc: after quiet_grpc

    asyncio.run(_collect(CollectorConfig(store, host, grpc_port, http_port, max_spans=max_spans)))


async def _collect(config: "CollectorConfig") -> None:
    from hello_mesh.tracing.collector import running_collector

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_collector(config) as collector:
        click.echo(
            f"collecting on port {collector.grpc_port} (OTLP/gRPC)"
            f" and port {collector.http_port} (OTLP/HTTP, Zipkin v2)"
        )
        await stop.wait()


@main.command("list", context_settings=CONTEXT_SETTINGS)
@store_option
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=TraceFilter.limit, help="Maximum number of traces."
)
@click.option("--service", help="Only traces with a span of this service.")
@click.option("--failed", is_flag=True, help="Only traces with a failed span.")
@click.option("--min-ms", type=click.FloatRange(0), default=0.0, help="Minimum duration in milliseconds.")
@click.option("--since", type=click.FloatRange(0), metavar="SECONDS", help="Only traces of the last SECONDS.")
@output_option
def list_command(
    *,
    store: Path,
    limit: int,
    service: str | None,
    failed: bool,
    min_ms: float,
    since: float | None,
    output: str,
) -> None:
    """List traces, newest first."""
    matching = TraceFilter(limit, service, failed, int(min_ms * 1e6), _unix_time_before(since))
    with reading(store) as spans:
        _echo((render.list_json if output == "json" else render.list_text)(spans.recent(matching)))


@main.command("show", context_settings=CONTEXT_SETTINGS)
@_trace_ids_argument
@store_option
@click.option(
    "--output",
    type=click.Choice(["text", "json", "otlp"]),
    default="text",
    help="Text for people; JSON: one object per trace; or OTLP/JSON: one export request for all traces.",
)
def show_command(*, trace_ids: Sequence[str], store: Path, output: str) -> None:
    """Show traces as trees, with offsets and durations."""
    with reading(store) as spans:
        traces = _find_all(spans, trace_ids)
    if output == "otlp":
        with extra("traces"):
            from hello_mesh.tracing.formats import otlp
        _echo(otlp.to_json(span for trace in traces for span in trace))
        return
    for trace in traces:
        _echo(render.trace_json(trace) if output == "json" else f"{render.trace_text(trace)}\n")


@main.command("verify", context_settings=CONTEXT_SETTINGS)
@_trace_ids_argument
@store_option
@click.option(
    "--hops",
    required=True,
    callback=parsed_by(comma_separated),
    metavar="NAME,NAME,…",
    help="Services on the path of a call, first hop first; in full, or without the namespace.",
)
@click.option("--gateway", metavar="NAME", help="Service of the gateway in front of them.")
@click.option("--requestor", metavar="NAME", help="Service of the caller's own span.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400),
    default=10.0,
    help="Seconds to wait for spans; 0 verifies what is there.",
)
@output_option
def verify_command(
    *,
    trace_ids: Sequence[str],
    store: Path,
    hops: Sequence[str],
    gateway: str | None,
    requestor: str | None,
    timeout: float,
    output: str,
) -> None:
    """Verify that traces are one tree over all hops, each with a sidecar; show each mismatch."""
    expected = expected_chain(hops, gateway=gateway, requestor=requestor)
    ok = True
    with reading(store) as spans:
        for verdict in verify(spans, trace_ids, expected, timeout):
            ok = ok and verdict.comparison.ok
            _echo(render.verdict_json(verdict) if output == "json" else render.verdict_text(verdict))
    sys.exit(0 if ok else EXIT_FAILED)


@main.command("topology", context_settings=CONTEXT_SETTINGS)
@store_option
@click.option("--since", type=click.FloatRange(0), metavar="SECONDS", help="Only spans of the last SECONDS.")
@output_option
def topology_command(*, store: Path, since: float | None, output: str) -> None:
    """Show which service calls which in the newest 10,000 spans, with calls, errors and durations."""
    with reading(store) as spans:
        graph = service_graph(spans.latest(_unix_time_before(since)))
    _echo((render.topology_json if output == "json" else render.topology_text)(graph))


def _find_all(store: Store, trace_ids: Sequence[str]) -> list[tuple[Span, ...]]:
    """Return the spans of each trace; exit if one is missing."""
    traces = [store.trace(trace_id) for trace_id in trace_ids]
    for trace_id, spans in zip(trace_ids, traces, strict=True):
        if not spans:
            click.echo(f"trace {trace_id} not found: check the id with hello-grpc-traces list", err=True)
    if not all(traces):
        sys.exit(EXIT_FAILED)
    return traces


def _unix_time_before(seconds: float | None) -> int:
    """Return the Unix time in nanoseconds so many seconds ago; 0 for None."""
    return 0 if seconds is None else max(0, time.time_ns() - int(seconds * 1e9))


def _echo(text: str) -> None:
    if text:
        click.echo(text)
