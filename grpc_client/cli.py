"""Options → Plan → show."""

import base64
import sys
from pathlib import Path
from typing import Any, get_args

import click

from grpc_client.plan import DEFAULT_TIMEOUT, RPC_METHODS, UNREPORTED, Plan, TraceHeaders, call_spec, deadline
from hello_mesh.base.cli import (
    CONTEXT_SETTINGS,
    DEFAULT_PORT,
    Command,
    PortOption,
    Seconds,
    certificates,
    comma_separated,
    output_option,
    parsed_by,
    quiet_grpc,
    tls_options,
)
from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.net.address import grpc_target
from hello_mesh.propagation.headers import check_header

_ALL = "all"
_METHODS = {method.command: (method,) for method in RPC_METHODS} | {_ALL: RPC_METHODS}

_HELP = f"""\
Call LandingService; show the responses, the path of each call, and whether all hops saw one trace.

\b
Patterns:
{"".join(f"  {method.command:<22}{method.help}{chr(10)}" for method in RPC_METHODS)}\
  {_ALL:<22}All four patterns, in this order.

\b
Exit codes:
  0        success
  1        a call is not as --expect-hops and --expect-sidecars require,
           or has fewer responses than it asked for
  2        wrong usage
  3        environment error (no connection, unreadable certificate)
  64 + N   a call failed with gRPC status N
  130      Ctrl-C

The first call that is not OK sets the exit code.
"""


def _parse_header(text: str) -> tuple[str, str | bytes]:
    key, colon, value = text.partition(":")
    key, value = key.strip().lower(), value.strip(" ")
    if not colon:
        raise UsageError(f"header '{excerpt(text)}' has no colon: use KEY:VALUE")
    try:
        decoded = base64.b64decode(value, validate=True) if key.endswith("-bin") else value
    except ValueError as error:
        raise UsageError(f"invalid base64 in the value of {excerpt(key)}: {error}") from error
    check_header(key, decoded)
    return key, decoded


def _parse_text(text: str) -> str:
    # An argument can hold any bytes, a protobuf string only UTF-8.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"invalid text '{excerpt(text)}': use UTF-8") from error
    return text


def _parse_hops(text: str) -> tuple[str, ...]:
    hops = comma_separated(text)
    if set(hops) == {UNREPORTED}:
        raise UsageError("no hop is named: name at least one that reports")
    return hops


@click.command(cls=Command, help=_HELP, context_settings=CONTEXT_SETTINGS, no_args_is_help=True)
@click.argument("pattern", type=click.Choice(list(_METHODS)), metavar="PATTERN")
@click.option(
    "--server",
    envvar="GRPC_SERVER",
    show_envvar=True,
    default="localhost",
    help="Where to call: a host, host:port, or a gRPC target.",
)
@click.option(
    "--port",
    cls=PortOption,
    envvar="GRPC_SERVER_PORT",
    show_envvar=True,
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    help="Port to call if --server has none.",
)
@tls_options
@click.option(
    "--data",
    callback=parsed_by(_parse_text),
    show_default="0 for `talk`, otherwise 0,1,2",
    help="Language indexes, comma-separated; request streams send each in its own message.",
)
@click.option(
    "--meta",
    callback=parsed_by(_parse_text),
    default="PYTHON",
    help="Value of `meta` in each request: the language of the client.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 1_000_000),
    help="Number of indexes to send, cycling through --data; `talk` always sends one.",
)
@click.option(
    "--interval", type=Seconds(0, 3600), default=0.0, help="Seconds between the messages of a request stream."
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=parsed_by(_parse_header),
    metavar="KEY:VALUE",
    help="Header to send; repeat for more. Values of keys that end in -bin are base64.",
)
@click.option(
    "--timeout",
    type=Seconds(0, 86400),
    show_default=f"{DEFAULT_TIMEOUT:g}, plus the sum of all intervals",
    help="Per-call deadline in seconds; 0 disables it.",
)
@click.option(
    "--trace-headers",
    type=click.Choice(get_args(TraceHeaders)),
    default="w3c",
    help="Headers in which each call starts a trace. A trace header given with --header wins.",
)
@click.option(
    "--repeat", type=click.IntRange(1, 10_000_000), default=1, help="How many times to make each call."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=1,
    help="Maximum number of calls at the same time.",
)
@click.option(
    "--expect-hops",
    callback=parsed_by(_parse_hops),
    metavar="NAME,NAME,…",
    help="Check each call: these hops in this order, complete responses, one trace. NAME|NAME accepts"
    " either; ? is a hop that does not report. Prints a result and, on failure, a hint for each check.",
)
@click.option(
    "--expect-sidecars",
    is_flag=True,
    help="With --expect-hops: also check for a new parent span at each hop that reports, as a sidecar in"
    " front of it makes one.",
)
@output_option
@click.option(
    "--connect-timeout",
    type=Seconds(0, 3600),
    show_default="do not wait",
    help="Seconds to wait for a connection before the first call.",
)
@click.version_option(package_name="hello-servicemesh-grpc")
def main(
    *,
    pattern: str,
    server: str,
    port: int,
    secure: bool,
    cert_base_path: Path,
    data: str | None,
    meta: str,
    count: int | None,
    interval: float,
    timeout: float | None,
    output: str,
    **settings: Any,
) -> None:
    if settings["expect_sidecars"] and settings["expect_hops"] is None:
        raise UsageError("--expect-sidecars checks nothing without --expect-hops: name the hops")
    quiet_grpc()
    from grpc_client.console import show  # imports grpc, which must come after quiet_grpc

    calls = tuple(call_spec(method, data, meta, count, interval) for method in _METHODS[pattern])
    plan = Plan(
        target=grpc_target(server, port),
        calls=calls,
        certificates=certificates(secure, cert_base_path),
        timeout=deadline(calls, timeout),
        **settings,
    )
    sys.exit(show(plan, as_json=output == "json"))
