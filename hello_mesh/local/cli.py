"""Options → a topology → start it, show it, test it, stop it."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from hello_mesh.base.cli import CONTEXT_SETTINGS, Group, all_options, parsed_by
from hello_mesh.base.errors import EXIT_FAILED, RuntimeEnvironmentError, UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.local.background import start_in_background
from hello_mesh.local.check import CallPlan, Headers, check
from hello_mesh.local.components import config_path, installed_envoy, log_path, sidecar_name
from hello_mesh.local.logs import log_lines
from hello_mesh.local.mesh import Mesh, RunningMesh, running_mesh
from hello_mesh.local.processes import Program, exit_on_signals, tail
from hello_mesh.local.render import ready_text, status_text, summary
from hello_mesh.local.run_dir import RunDir
from hello_mesh.local.topology import (
    GATEWAY_PORT,
    LOOPBACK,
    MAX_HOPS,
    Topology,
    Tracer,
    hop_names,
    parse_fault,
    service_name,
)
from hello_mesh.tracing.options import store_option

_DEFAULT_HOPS = 3
_WATCH_SECONDS = 0.1


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """Run a mesh on this host: servers, an Envoy for each, a gateway, and a collector of spans.

    \b
    Exit codes: 0 OK; 1 a call or its trace is not as expected, a component exited, or no mesh is running;
    2 wrong usage; 3 environment error (port in use, unreadable file, no connection);
    128 + the number of the signal that stopped it.
    """
    exit_on_signals()


def _default_run_dir() -> Path:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "hello-grpc"
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "hello-grpc" / "run"
    return Path(tempfile.gettempdir()) / f"hello-grpc-{os.getuid()}"


_run_dir_option = click.option(
    "--run-dir",
    envvar="GRPC_HELLO_RUN_DIR",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    default=_default_run_dir,
    callback=lambda _context, _parameter, path: RunDir(path.absolute()),
    show_default="in XDG_RUNTIME_DIR, XDG_STATE_HOME or the temporary folder",
    help="Directory of the mesh: one mesh can run in each.",
)
_chain_options = all_options(
    click.option(
        "--hops", type=click.IntRange(1, MAX_HOPS), show_default=str(_DEFAULT_HOPS), help="Number of hops."
    ),
    click.option(
        "--drop-at",
        "no_forward_hop",
        callback=parsed_by(service_name),
        metavar="HOP",
        help="Let this hop propagate no headers: svc2, or grpc-server-svc2.",
    ),
    click.option(
        "--fault",
        "faults",
        multiple=True,
        callback=parsed_by(parse_fault),
        metavar="HOP=FAULT",
        help="Let the sidecar of a hop delay or fail calls; repeatable:"
        " svc3=delay:200ms@50%, svc3=abort:14@10% (a gRPC status).",
    ),
)
_environment_options = all_options(
    store_option,
    click.option(
        "--envoy",
        type=click.Path(path_type=Path),
        show_default="the one from the extra `mesh`",
        help="Path of the Envoy to use.",
    ),
)


@main.command(context_settings=CONTEXT_SETTINGS)
@_run_dir_option
@_chain_options
@click.option(
    "--headers",
    "tracer",
    type=click.Choice(get_args(Tracer)),
    default="w3c",
    help="Header family with which the sidecars continue a trace.",
)
@click.option(
    "--gateway-port",
    type=click.IntRange(0, 65535),
    default=GATEWAY_PORT,
    help="Port that the gateway listens on; 0 is any free one.",
)
@click.option("--host", default=LOOPBACK, help="IP address that the gateway listens on.")
@click.option("--access-log/--no-access-log", help="Let each Envoy log every call.")
@_environment_options
@click.option("--detach", is_flag=True, help="Return when the mesh is ready; it continues in the background.")
def up(
    *,
    run_dir: RunDir,
    gateway_port: int,
    host: str,
    access_log: bool,
    store: Path,
    envoy: Path | None,
    detach: bool,
    **chain: Any,
) -> None:
    """Start a mesh, and watch it until Ctrl-C or until a component exits."""
    topology = _changed(Topology(hop_names(_DEFAULT_HOPS)), **chain)
    topology = replace(topology, gateway_port=gateway_port, host=host, access_log=access_log)
    if detach:
        click.echo(ready_text(start_in_background(run_dir, topology, store.absolute(), envoy)))
        return
    started = time.monotonic()
    with (
        run_dir.lock() as lock,
        running_mesh(
            topology, run_dir.folder, store.absolute(), envoy or installed_envoy(), (lock,)
        ) as running,
    ):
        run_dir.write(running.mesh)
        click.echo(f"{ready_text(running.mesh)}\n  ready in   {time.monotonic() - started:.1f} s")
        exited = _watch(running)
        click.secho(f"stopping the mesh: {exited.exit_report()}", fg="red", err=True)
    sys.exit(EXIT_FAILED)


def _watch(running: RunningMesh) -> Program:
    """Wait until a component exits, and return it."""
    while (exited := running.first_exited()) is None:
        time.sleep(_WATCH_SECONDS)
    return exited


def _changed(topology: Topology, *, hops: int | None, **options: Any) -> Topology:
    """Return a topology with the options that the user gave."""
    options["hops"] = None if hops is None else hop_names(hops)
    return replace(topology, **{key: value for key, value in options.items() if value not in (None, ())})


@main.command("status", context_settings=CONTEXT_SETTINGS)
@_run_dir_option
def status_command(*, run_dir: RunDir) -> None:
    """Show each component of the running mesh, and whether it is ready."""
    mesh = run_dir.read()
    if mesh is None:
        click.echo(_not_running(run_dir), err=True)
        sys.exit(EXIT_FAILED)
    states = {component: component.is_ready() for component in mesh.components}
    click.echo(status_text(mesh, states))
    sys.exit(0 if all(states.values()) else EXIT_FAILED)


def _not_running(run_dir: RunDir) -> str:
    if run_dir.watcher() is not None:
        return f"the mesh in {run_dir.path} is starting or stopping: try again"
    text = f"no mesh is running in {run_dir.path}: start one with hello-grpc-mesh up"
    return f"{text}; the output of the last one:\n{tail(run_dir.output)}" if run_dir.output.exists() else text


@main.command(context_settings=CONTEXT_SETTINGS)
@_run_dir_option
def down(*, run_dir: RunDir) -> None:
    """Stop the mesh, and remove its files."""
    click.echo("mesh stopped" if run_dir.stop() else f"no mesh is running in {run_dir.path}")


@main.command("config", context_settings=CONTEXT_SETTINGS)
@click.argument("component", required=False)
@_run_dir_option
def config_command(*, component: str | None, run_dir: RunDir) -> None:
    """Print the configuration of an Envoy: of a hop's sidecar (svc1), or of the `gateway`.

    Without COMPONENT, print all of them as one JSON object.
    """
    mesh = _require_mesh(run_dir)
    names = [each.name for each in mesh.components]
    texts = {name: path.read_text() for name in names if (path := config_path(run_dir.folder, name)).exists()}
    if component is not None:
        chosen = _choose(list(texts), component, sidecar_name(service_name(component)))
        click.echo(texts[chosen], nl=False)
        return
    click.echo(json.dumps({name: json.loads(text) for name, text in texts.items()}, indent=2))


@main.command("logs", context_settings=CONTEXT_SETTINGS)
@click.argument("component", required=False)
@click.option("--follow", "-f", is_flag=True, help="Print new lines as they appear, until the mesh stops.")
@_run_dir_option
def logs_command(*, component: str | None, follow: bool, run_dir: RunDir) -> None:
    """Print the logs of all components of the running mesh, or of one."""
    names = [each.name for each in _require_mesh(run_dir).components]
    if component is not None:
        names = [_choose(names, component, service_name(component))]
    is_running = (lambda: run_dir.watcher() is not None) if follow else (lambda: False)
    for line in log_lines([(name, log_path(run_dir.folder, name)) for name in names], is_running):
        click.echo(line)


def _require_mesh(run_dir: RunDir) -> Mesh:
    mesh = run_dir.read()
    if mesh is None:
        raise RuntimeEnvironmentError(_not_running(run_dir))
    return mesh


def _choose(names: Sequence[str], *spellings: str) -> str:
    """Return the first spelling that is among `names`."""
    for name in spellings:
        if name in names:
            return name
    raise UsageError(f"unknown component {excerpt(spellings[0])}: use {', '.join(names)}")


@main.command("test", context_settings=CONTEXT_SETTINGS)
@_run_dir_option
@_chain_options
@click.option(
    "--headers",
    type=click.Choice(get_args(Headers)),
    show_default="w3c, or those of the running mesh",
    help="Header family that the client and the sidecars use; both: the client sends both families.",
)
@click.option("--repeat", type=click.IntRange(1, 100_000), default=1, help="Calls of each pattern.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, help="Calls in flight at once.")
@_environment_options
def test_command(
    *,
    run_dir: RunDir,
    headers: Headers | None,
    repeat: int,
    concurrency: int,
    store: Path,
    envoy: Path | None,
    **chain: Any,
) -> None:
    """Call all four patterns through a mesh, and verify each answer, hop report and trace.

    The running mesh is used if it matches --hops, --drop-at, --fault and --headers, as far as they are given;
    --store and --envoy then have no effect. Otherwise a mesh is started on free ports, and stopped
    afterwards. A call that --fault fails is OK if its trace is one tree down to the sidecar of that hop.
    """
    tracer = None if headers == "both" else headers
    with _mesh_for_test(run_dir, store, envoy, tracer=tracer, **chain) as (mesh, first_exited):
        click.secho(f"== {summary(mesh.topology)}", bold=True)
        passed = check(mesh, CallPlan(headers or mesh.topology.tracer, repeat, concurrency))
        if exited := first_exited():
            click.secho(f"FAILED: {exited.exit_report()}", fg="red")
            passed = False
    sys.exit(0 if passed else EXIT_FAILED)


@contextmanager
def _mesh_for_test(
    run_dir: RunDir, store: Path, envoy: Path | None, **chain: Any
) -> Iterator[tuple[Mesh, Callable[[], Program | None]]]:
    """Yield a mesh that fits the options, and a function that returns a component that exited."""
    with tempfile.TemporaryDirectory(prefix="hello-grpc-") as temporary:
        folder = Path(temporary)
        mesh = run_dir.read()
        if mesh is not None and _changed(mesh.topology, **chain) == mesh.topology:
            yield mesh, lambda: None
            return
        topology = replace(_changed(Topology(hop_names(_DEFAULT_HOPS)), **chain), gateway_port=0)
        with running_mesh(topology, folder, store.absolute(), envoy or installed_envoy()) as running:
            yield running.mesh, running.first_exited
