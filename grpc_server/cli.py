"""Options and variables → ServerConfig → serve."""

import asyncio
import socket
import sys
from pathlib import Path

import click

from grpc_server.config import ServerConfig
from hello_mesh.base import log
from hello_mesh.base.cli import (
    CONTEXT_SETTINGS,
    DEFAULT_PORT,
    Seconds,
    certificates,
    quiet_grpc,
    reporting_errors,
    tls_options,
)
from hello_mesh.net.address import grpc_target
from hello_mesh.propagation.headers import ExtraHeaders


@click.command(context_settings=CONTEXT_SETTINGS)
@click.option(
    "--name",
    envvar="GRPC_HELLO_NAME",
    show_envvar=True,
    default=socket.gethostname,
    show_default="the host's name",
    help="This hop's name in reports and logs.",
)
@click.option(
    "--host",
    envvar="GRPC_HELLO_HOST",
    show_envvar=True,
    default="[::]",
    help="Address to listen on; [::] is every address, IPv4 included.",
)
@click.option(
    "--port",
    envvar="GRPC_HELLO_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    help="Port to listen on; 0: any free one, printed.",
)
@click.option(
    "--backend",
    envvar="GRPC_HELLO_BACKEND",
    show_envvar=True,
    help="The next hop: host, host:port or a gRPC target. Without it, this is the last hop.",
)
@click.option(
    "--backend-port",
    envvar="GRPC_HELLO_BACKEND_PORT",
    show_envvar=True,
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    help="The next hop's port, where --backend names none.",
)
@tls_options
@click.option(
    "--forward-headers",
    envvar="GRPC_HELLO_FORWARD_HEADERS",
    show_envvar=True,
    default="",
    help="More headers to forward, comma-separated; a * at the end makes a prefix: x-user-id,x-canary-*",
)
@click.option(
    "--forward/--no-forward",
    envvar="GRPC_HELLO_FORWARD",
    show_envvar=True,
    default=True,
    help="Forward headers, or none at all: to see what an application does to a trace that forgets it.",
)
@click.option(
    "--grace",
    envvar="GRPC_HELLO_GRACE",
    show_envvar=True,
    type=Seconds(0, 3600),
    default=ServerConfig.grace,
    help="Seconds for running calls to finish after the first SIGTERM or SIGINT.",
)
@click.option(
    "--max-results",
    envvar="GRPC_HELLO_MAX_RESULTS",
    show_envvar=True,
    type=click.IntRange(1),
    default=ServerConfig.max_results,
    help="Greetings that one call of TalkOneAnswerMore or TalkMoreAnswerOne may ask for.",
)
@click.option(
    "--log-format",
    envvar="GRPC_HELLO_LOG_FORMAT",
    show_envvar=True,
    type=click.Choice(["text", "json"]),
    default="text",
    help="Lines for people, or one JSON object a line. Both go to stderr.",
)
@click.option(
    "--log-level",
    envvar="GRPC_HELLO_LOG_LEVEL",
    show_envvar=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    help="The least important lines to show.",
)
@click.option(
    "--call-log/--no-call-log",
    envvar="GRPC_HELLO_CALL_LOG",
    show_envvar=True,
    default=True,
    help="A line for every call.",
)
@click.version_option(package_name="hello-servicemesh-grpc")
def main(
    *,
    name: str,
    host: str,
    port: int,
    backend: str | None,
    backend_port: int,
    secure: bool,
    cert_base_path: Path,
    forward_headers: str,
    forward: bool,
    grace: float,
    max_results: int,
    log_format: log.Format,
    log_level: str,
    call_log: bool,
) -> None:
    """A hop of the chain: answers LandingService, or relays each call to its next hop.

    The first SIGTERM or SIGINT lets running calls finish; the second ends at once.
    """
    with reporting_errors():
        config = ServerConfig(
            name=name,
            host=host,
            port=port,
            backend=grpc_target(backend, backend_port) if backend else None,
            certificates=certificates(secure, cert_base_path),
            forward=forward,
            extra_headers=ExtraHeaders.parse(forward_headers),
            grace=grace,
            max_results=max_results,
            call_log=call_log,
        )
        log.configure(config.name, log_format, log_level.upper())
        quiet_grpc()
        from grpc_server.server import serve  # imports grpc, which must come after quiet_grpc

        drained = asyncio.run(serve(config, _report_port))
    if not drained:
        sys.exit(1)


def _report_port(port: int) -> None:
    click.echo(f"listening on port {port}")
