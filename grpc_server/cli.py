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
    Command,
    PortOption,
    Seconds,
    certificates,
    parsed_by,
    quiet_grpc,
    tls_options,
)
from hello_mesh.base.errors import EXIT_FAILED
from hello_mesh.base.listening import raise_descriptor_limit
from hello_mesh.net.address import grpc_target
from hello_mesh.propagation.headers import ExtraHeaders


@click.command(cls=Command, context_settings=CONTEXT_SETTINGS | {"auto_envvar_prefix": "GRPC_HELLO"})
@click.option(
    "--name",
    default=socket.gethostname,
    show_default="the host's name",
    show_envvar=True,
    help="Name of this hop in reports and logs.",
)
@click.option(
    "--host",
    default="[::]",
    show_envvar=True,
    help="Address to listen on; [::] is every address, IPv4 included.",
)
@click.option(
    "--port",
    cls=PortOption,
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_envvar=True,
    help="Port to listen on; 0 is any free one. The server prints it.",
)
@click.option(
    "--backend",
    show_envvar=True,
    help="Next hop: host, host:port or a gRPC target. Without it, this is the last hop.",
)
@click.option(
    "--backend-port",
    cls=PortOption,
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_envvar=True,
    help="Port of the next hop, if --backend has none.",
)
@tls_options
@click.option(
    "--forward-headers",
    default="",
    callback=parsed_by(ExtraHeaders.parse),
    show_envvar=True,
    metavar="NAMES",
    help="More headers to propagate, comma-separated; a final * makes a prefix: x-user-id,x-canary-*",
)
@click.option(
    "--forward/--no-forward",
    default=True,
    show_envvar=True,
    help="Propagate headers, or none at all: shows how an application without propagation breaks a trace.",
)
@click.option(
    "--grace",
    type=Seconds(0, 3600),
    default=ServerConfig.grace,
    show_envvar=True,
    help="Seconds that calls in flight have to finish after the first SIGTERM or SIGINT.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_envvar=True,
    help="Text lines, or JSON: one object per line. Both go to stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_envvar=True,
    help="Lowest level to log. Each call is a line of level INFO.",
)
@click.version_option(package_name="hello-servicemesh-grpc", allow_from_autoenv=False)
def main(
    *,
    name: str,
    host: str,
    port: int,
    backend: str | None,
    backend_port: int,
    secure: bool,
    cert_base_path: Path,
    forward_headers: ExtraHeaders,
    forward: bool,
    grace: float,
    log_format: log.Format,
    log_level: str,
) -> None:
    """Serve one hop of the chain: answer LandingService, or relay each call to the next hop.

    The first SIGTERM or SIGINT lets calls in flight finish, for up to --grace seconds; the second stops at
    once.

    \b
    Exit codes: 0 stopped by one signal; 1 stopped at once by a second one;
    2 wrong usage; 3 environment error (port in use, unreadable certificates).
    """
    config = ServerConfig(
        name=name,
        host=host,
        port=port,
        backend=grpc_target(backend, backend_port) if backend else None,
        certificates=certificates(secure, cert_base_path),
        forward=forward,
        extra_headers=forward_headers,
        grace=grace,
    )
    log.configure(config.name, log_format, log_level)
    raise_descriptor_limit()
    quiet_grpc()
    from grpc_server.server import serve  # imports grpc, which must come after quiet_grpc

    if not asyncio.run(serve(config, _report_port)):
        sys.exit(EXIT_FAILED)


def _report_port(port: int) -> None:
    click.echo(f"listening on port {port}")
