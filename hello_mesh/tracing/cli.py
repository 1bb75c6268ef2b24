"""Options → one value → collect, list, show, judge or export."""

import asyncio
import logging
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hello_mesh.base.cli import CONTEXT_SETTINGS, quiet_grpc, reporting_errors
from hello_mesh.base.extras import extra
from hello_mesh.tracing import render as report
from hello_mesh.tracing.options import store_option
from hello_mesh.tracing.service_graph import service_graph
from hello_mesh.tracing.sources.sqlite import DEFAULT_MAX_SPANS, Store, TraceFilter, reading
from hello_mesh.tracing.span import Span, padded
from hello_mesh.tracing.verdict.expect import expected_chain
from hello_mesh.tracing.verdict.verify import verify as judged

if TYPE_CHECKING:
    from hello_mesh.tracing.collector import CollectorConfig

_INTERRUPTED_EXIT = 130

_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")


class _Interruptible(click.Group):
    """Ends with 130 on Ctrl-C, as a shell does; click's own 1 would be a verdict."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED_EXIT)


@click.group(cls=_Interruptible, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """Collect the spans of a mesh, look at them, and judge whether calls were one trace.

    \b
    Exit codes: 0 all went well; 1 a trace is not as wanted, or not there; 2 wrong usage;
    3 the machine, or the other side, does not allow it; 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no box-drawing gets escapes instead of an error.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _trace_id(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return tuple(_parse_trace_id(value) for value in values)


def _parse_trace_id(text: str) -> str:
    trace_id = padded(text.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        raise click.BadParameter(f"{text!r} is no trace id: 32 hex digits, or 16")
    return trace_id


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> Any:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise click.BadParameter("name at least one hop")
    return names


def _headers(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return dict(_parse_header(value) for value in values)


def _parse_header(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    # The errors do not quote what was given: it is, or holds, a secret.
    if not equals or not _HEADER_NAME.fullmatch(key) or key.lower().endswith("-bin"):
        raise click.BadParameter("a header is written KEY=VALUE; binary ones, in -bin, cannot be sent")
    if not _HEADER_VALUE.fullmatch(value):
        raise click.BadParameter(f"the value of {key} must be one or more printable ASCII characters")
    return key, value


_output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="For people, or one JSON object a line.",
)
_limit_option = click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=TraceFilter.limit, help="How many traces at most."
)
_ids = click.argument("trace_ids", metavar="TRACE_ID...", nargs=-1, required=True, callback=_trace_id)


@main.command(context_settings=CONTEXT_SETTINGS)
@store_option
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 lets other machines send.")
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), default=4317, help="Port of OTLP/gRPC; 0: any free one."
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=4318,
    help="Port of OTLP/HTTP and Zipkin v2; 0: any free one.",
)
@click.option(
    "--max-spans",
    type=click.IntRange(1),
    default=DEFAULT_MAX_SPANS,
    help="How many spans to keep; the traces that came first go first.",
)
def collect(*, store: Path, host: str, grpc_port: int, http_port: int, max_spans: int) -> None:
    """Receive spans, OTLP and Zipkin v2, and keep them, until SIGTERM or SIGINT."""
    with reporting_errors():
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
        quiet_grpc()
        with extra("mesh"):
            from hello_mesh.tracing.collector import (
                CollectorConfig,  # imports grpc, which must come after quiet_grpc
            )

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
@_limit_option
@click.option("--service", help="Only traces in which this service takes part.")
@click.option("--failed", is_flag=True, help="Only traces in which a span failed.")
@click.option("--min-ms", type=click.FloatRange(0), default=0.0, help="Only traces that took so long.")
@click.option("--since", type=click.FloatRange(0), help="Only traces of the last so many seconds.")
@_output_option
def list_(
    *,
    store: Path,
    limit: int,
    service: str | None,
    failed: bool,
    min_ms: float,
    since: float | None,
    output: str,
) -> None:
    """List traces, latest first."""
    wanted = TraceFilter(limit, service, failed, int(min_ms * 1e6), _ago(since))
    with reporting_errors(), reading(store) as spans:
        _echo((report.list_json if output == "json" else report.list_text)(spans.recent(wanted)))


@main.command(context_settings=CONTEXT_SETTINGS)
@_ids
@store_option
@_output_option
def show(*, trace_ids: Sequence[str], store: Path, output: str) -> None:
    """Show traces as trees, with offsets and durations."""
    with reporting_errors(), reading(store) as spans:
        for _, trace in _found(spans, trace_ids):
            _echo(report.trace_json(trace) if output == "json" else f"{report.trace_text(trace)}\n")


@main.command(context_settings=CONTEXT_SETTINGS)
@_ids
@store_option
@click.option(
    "--hops",
    required=True,
    callback=_names,
    metavar="NAME,NAME,…",
    help="The services that a call goes through, first hop first; in full, or without the namespace.",
)
@click.option("--gateway", metavar="NAME", help="The service of the gateway before them.")
@click.option("--requestor", metavar="NAME", help="The service under which the caller sends its own span.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86400),
    default=10.0,
    help="Seconds for spans to arrive; 0: judge what is there.",
)
@_output_option
def verify(
    *,
    trace_ids: Sequence[str],
    store: Path,
    hops: Sequence[str],
    gateway: str | None,
    requestor: str | None,
    timeout: float,
    output: str,
) -> None:
    """Judge whether traces are one tree over all hops, each with its sidecar; say why where not."""
    wanted = expected_chain(hops, gateway=gateway, requestor=requestor)
    good = True
    with reporting_errors(), reading(store) as spans:
        for verdict in judged(spans, trace_ids, wanted, timeout):
            good = good and verdict.comparison.ok
            _echo(report.verdict_json(verdict) if output == "json" else report.verdict_text(verdict))
    sys.exit(0 if good else 1)


@main.command(context_settings=CONTEXT_SETTINGS)
@store_option
@click.option("--since", type=click.FloatRange(0), help="Only spans of the last so many seconds.")
@_output_option
def topology(*, store: Path, since: float | None, output: str) -> None:
    """Show who calls whom, how often, with how many errors and how fast."""
    with reporting_errors(), reading(store) as spans:
        found = service_graph(spans.latest(_ago(since)))
        _echo((report.topology_json if output == "json" else report.topology_text)(found))


@main.command(context_settings=CONTEXT_SETTINGS)
@click.argument("trace_ids", metavar="[TRACE_ID]...", nargs=-1, callback=_trace_id)
@store_option
@_limit_option
@click.option(
    "--endpoint",
    envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
    show_envvar=True,
    required=True,
    help="Where to send: http://host:4317, https://host/path, …",
)
@click.option(
    "--protocol",
    envvar="OTEL_EXPORTER_OTLP_PROTOCOL",
    show_envvar=True,
    type=click.Choice(["grpc", "http/protobuf"]),
    default="grpc",
    help="How the endpoint wants OTLP.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="KEY=VALUE",
    help="A header to send, such as Authentication=…; again for more. Values are never printed.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=10.0, help="Seconds that a request may take."
)
def export(*, trace_ids: Sequence[str], store: Path, limit: int, **options: Any) -> None:
    """Send traces, those named or the latest, to another endpoint: a Jaeger, a cloud's tracing service."""
    with reporting_errors():
        quiet_grpc()
        with extra("mesh"):
            from hello_mesh.tracing.export import (
                ExportConfig,  # imports grpc, which must come after quiet_grpc
            )
            from hello_mesh.tracing.export import export as exported

        config = ExportConfig(**options)
        with reading(store) as stored:
            wanted = trace_ids or [each.trace_id for each in stored.recent(TraceFilter(limit))]
            spans = [span for _, trace in _found(stored, wanted) for span in trace]
        result = asyncio.run(exported(spans, config))
    click.echo(f"{config.place} took {result.spans} spans of {len(wanted)} traces")
    if result.rejected:
        click.echo(f"and rejected {result.rejected}: {result.reason or 'it does not say why'}", err=True)
        sys.exit(1)


def _found(store: Store, trace_ids: Sequence[str]) -> list[tuple[str, tuple[Span, ...]]]:
    """The spans of each trace; ends the command where one is not there."""
    traces = [(trace_id, store.trace(trace_id)) for trace_id in trace_ids]
    for trace_id, spans in traces:
        if not spans:
            click.echo(f"trace {trace_id} is not there", err=True)
    if not all(spans for _, spans in traces):
        sys.exit(1)
    return traces


def _ago(seconds: float | None) -> int:
    return 0 if seconds is None else max(0, time.time_ns() - int(seconds * 1e9))


def _echo(text: str) -> None:
    if text:
        click.echo(text)
