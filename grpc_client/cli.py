"""Options → Plan → show."""

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from grpc_client.plan import PATTERNS, Pattern, Plan, Talk
from hello_mesh.base.cli import (
    CONTEXT_SETTINGS,
    DEFAULT_PORT,
    Seconds,
    certificates,
    quiet_grpc,
    reporting_errors,
    tls_options,
)
from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.net.address import grpc_target
from hello_mesh.propagation.headers import check_header

DEFAULT_TIMEOUT = 10.0


@click.group(context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """Call LandingService and see the way of each call: its hops, and whether they are one trace.

    Exit codes: 0 all went well; 1 a call was not as --expect-hops wants it; 2 wrong usage; 3 the machine
    does not allow it; 64 + the gRPC code of the first call that failed; 130 Ctrl-C.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # either may be closed from the start
        # A terminal that knows no Japanese gets escapes instead of an error.
        stream.reconfigure(errors="backslashreplace")


def _header(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    return tuple(_parse_header(value) for value in values)


def _parse_header(text: str) -> tuple[str, str | bytes]:
    key, colon, value = text.partition(":")
    key, value = key.strip().lower(), value.strip(" ")
    if not colon:
        raise click.BadParameter(f'"{excerpt(text)}" has no colon: write key:value')
    try:
        decoded = base64.b64decode(value, validate=True) if key.endswith("-bin") else value
        check_header(key, decoded)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(f"the value of {excerpt(key)} is no base64: {error}") from error
    return key, decoded


def _endpoint(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return value or None  # an empty variable is none


def _text(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:  # an argument need not be UTF-8, a string of protobuf must
        raise click.BadParameter(f'"{excerpt(str(value))}" is not UTF-8') from error
    return value


def _names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise click.BadParameter("name at least one hop")
    return names


# In the order of the help page.
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--server",
        envvar="GRPC_SERVER",
        show_envvar=True,
        default="localhost",
        help="Where to call: host, host:port or a gRPC target.",
    ),
    click.option(
        "--port",
        envvar="GRPC_SERVER_PORT",
        show_envvar=True,
        type=click.IntRange(1, 65535),
        default=DEFAULT_PORT,
        help="The port, where --server names none.",
    ),
    tls_options,
    click.option(
        "--data",
        callback=_text,
        help="Language indexes, comma-separated; streams send one in each message.",
    ),
    click.option(
        "--meta",
        callback=_text,
        default="PYTHON",
        help="The language that the client says it is written in.",
    ),
    click.option(
        "--count",
        type=click.IntRange(1, 1_000_000),
        help="How many indexes to ask for, going round those of --data; for `talk` always one.",
    ),
    click.option(
        "--interval",
        type=Seconds(0, 3600),
        default=0.0,
        help="Seconds between the messages that a stream sends.",
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        callback=_header,
        metavar="KEY:VALUE",
        help="A header to send; again for more. The value of a key that ends in -bin is base64.",
    ),
    click.option(
        "--timeout",
        type=Seconds(0, 86400),
        show_default=f"{DEFAULT_TIMEOUT:g}, and what --interval adds",
        help="Seconds that a call may take; 0: as long as it likes.",
    ),
    click.option(
        "--trace/--no-trace",
        default=True,
        help="Begin a trace of its own with each call, unless --header brings one.",
    ),
    click.option(
        "--trace-headers",
        type=click.Choice(["w3c", "b3", "both"]),
        default="w3c",
        help="In which headers: those that the mesh continues traces by.",
    ),
    click.option(
        "--spans-to",
        envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
        show_envvar=True,
        callback=_endpoint,
        metavar="URL",
        help="Send a span of each such call to this collector, in OTLP over gRPC: http://HOST:PORT",
    ),
    click.option(
        "--repeat", type=click.IntRange(1, 10_000_000), default=1, help="How often to make each call."
    ),
    click.option("--concurrency", type=click.IntRange(1, 10_000), default=1, help="How many calls at once."),
    click.option(
        "--expect-hops",
        callback=_names,
        metavar="NAME,NAME,…",
        help="Fail unless each call is answered rightly by exactly these hops in this order, on one trace;"
        " NAME|NAME where either will do. Says at the end what was checked, and what to do where it failed.",
    ),
    click.option("--expect-sidecars", is_flag=True, help="With --expect-hops: and a sidecar before each."),
    click.option(
        "--record",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write how each call went also to this file, one JSON object a line.",
    ),
    click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        help="For people, or one JSON object a line.",
    ),
    click.option(
        "--compression",
        type=click.Choice(["none", "gzip", "deflate"]),
        default="none",
        help="How messages are compressed.",
    ),
    click.option("--keepalive", type=Seconds(10, 86400), help="Seconds between keepalive pings."),
    click.option(
        "--connect-timeout",
        type=Seconds(0, 3600),
        show_default="the first call finds out",
        help="Seconds to wait for a connection before the first call; without one, end with exit code 3.",
    ),
    click.option("--wait-for-ready", is_flag=True, help="Wait for a server that is not there yet."),
    click.option(
        "--retries",
        type=click.IntRange(0, 4),
        default=0,
        help="Try a call that ended UNAVAILABLE again. A mesh retries too, and retries multiply.",
    ),
)


def _add_command(name: str, patterns: tuple[Pattern, ...], help_text: str) -> None:
    def callback(**options: Any) -> None:
        with reporting_errors():
            plan = _plan(patterns, **options)
            quiet_grpc()
            from grpc_client.console import show  # imports grpc, which must come after quiet_grpc
            from grpc_client.spans import parse_endpoint

            if plan.spans_to is not None:
                parse_endpoint(plan.spans_to)
            sys.exit(
                show(
                    plan,
                    as_json=options["output"] == "json",
                    expected=_expectation(options["expect_hops"], sidecars=options["expect_sidecars"]),
                    record=options["record"],
                )
            )

    command: Any = callback
    for option in reversed(_OPTIONS):
        command = option(command)
    main.command(name, help=help_text, context_settings=CONTEXT_SETTINGS)(command)


for _pattern in PATTERNS:
    _add_command(_pattern.command, (_pattern,), _pattern.help)
_add_command("all", PATTERNS, "All four patterns, one after the other.")


def _expectation(hops: tuple[str, ...] | None, *, sidecars: bool) -> Any:
    from grpc_client.expectation import Expectation

    return None if hops is None else Expectation(hops, sidecars)


def _plan(
    patterns: tuple[Pattern, ...],
    *,
    server: str,
    port: int,
    secure: bool,
    cert_base_path: Path,
    data: str | None,
    meta: str,
    count: int | None,
    interval: float,
    timeout: float | None,
    **rest: Any,
) -> Plan:
    talks = tuple(_talk(pattern, data, meta, count, interval) for pattern in patterns)
    if timeout is None:
        timeout = DEFAULT_TIMEOUT + max(talk.pauses for talk in talks)
    names = (
        "headers",
        "trace",
        "trace_headers",
        "spans_to",
        "repeat",
        "concurrency",
        "compression",
        "keepalive",
        "connect_timeout",
        "wait_for_ready",
        "retries",
    )
    return Plan(
        target=grpc_target(server, port),
        talks=talks,
        certificates=certificates(secure, cert_base_path),
        timeout=timeout or None,
        **{name: rest[name] for name in names},
    )


def _talk(pattern: Pattern, data: str | None, meta: str, count: int | None, interval: float) -> Talk:
    """What to say for a pattern. Data goes out as the user wrote it: a server's answer to nonsense is a
    thing to see."""
    data = pattern.data if data is None else data
    listed = data.split(",")
    if count is not None:
        listed = [listed[number % len(listed)] for number in range(count)]
    if pattern.streams_requests:
        messages = tuple(listed)
    elif pattern.streams_answers:
        messages = (data if count is None else ",".join(listed),)
    else:
        messages = (data,)
    return Talk(pattern, messages, meta, interval)
