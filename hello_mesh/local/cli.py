"""Options → a topology → start it, look at it, end it, test it."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from hello_mesh.base.cli import CONTEXT_SETTINGS, reporting_errors
from hello_mesh.base.errors import RuntimeEnvironmentError, UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.local import logs as logs_
from hello_mesh.local import render as show
from hello_mesh.local.check import Calls, Headers, check
from hello_mesh.local.files import file_errors
from hello_mesh.local.mesh import (
    Mesh,
    RunningMesh,
    config_path,
    installed_envoy,
    log_path,
    running_mesh,
    sidecar_name,
)
from hello_mesh.local.processes import POLL_SECONDS, Program, installed, leave_on_signals, tail
from hello_mesh.local.run_dir import Place
from hello_mesh.local.topology import (
    GATEWAY_PORT,
    LOOPBACK,
    MOST_HOPS,
    Topology,
    Tracer,
    full_name,
    hop_names,
    parse_fault,
)
from hello_mesh.tracing.options import store_option

_DEFAULT_HOPS = 3
_WATCH_SECONDS = 0.1
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,40}")


@click.group(context_settings=CONTEXT_SETTINGS)
@click.version_option(package_name="hello-servicemesh-grpc")
def main() -> None:
    """A mesh on this machine: servers, an Envoy beside each, a gateway, a collector of spans.

    \b
    Exit codes: 0 all went well; 1 a call or its trace was wrong, a part of the mesh died, or it does not run;
    2 wrong usage; 3 the machine does not allow it; 128 + the number of the signal that ended it.
    """
    leave_on_signals()


def _run_dir() -> Path:
    folder = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_STATE_HOME")
    return (
        Path(folder) / "hello-grpc" if folder else Path(tempfile.gettempdir()) / f"hello-grpc-{os.getuid()}"
    )


def _place(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(f"{excerpt(value)!r} is no name: use letters, digits, '_', '.' and '-'")
    return value


def _hop(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else full_name(value)


def _faults(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    try:
        return tuple(map(parse_fault, values))
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order of the help page."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_place_options = _options(
    click.option("--name", default="default", callback=_place, help="Which of several meshes."),
    click.option(
        "--run-dir",
        envvar="GRPC_HELLO_RUN_DIR",
        show_envvar=True,
        type=click.Path(file_okay=False, path_type=Path),
        default=_run_dir,
        show_default="XDG_RUNTIME_DIR, XDG_STATE_HOME or a temporary folder",
        help="Where meshes keep their files while they run.",
    ),
)
_chain_options = _options(
    click.option(
        "--hops",
        type=click.IntRange(1, MOST_HOPS),
        show_default=str(_DEFAULT_HOPS),
        help="How many hops the chain has.",
    ),
    click.option(
        "--drop-at",
        callback=_hop,
        metavar="HOP",
        help="Let this hop forward no headers: svc2, or grpc-server-svc2.",
    ),
    click.option(
        "--fault",
        "faults",
        multiple=True,
        callback=_faults,
        metavar="HOP=FAULT",
        help="Let the sidecar of a hop delay or fail calls: svc3=delay:200ms@50%, svc3=abort:14@10%.",
    ),
    click.option(
        "--mtls/--no-mtls", default=None, show_default="mtls", help="Mutual TLS between the sidecars."
    ),
)
_machine_options = _options(
    store_option,
    click.option(
        "--envoy",
        type=click.Path(path_type=Path),
        show_default="the one installed with the extra `mesh`",
        help="The Envoy to use.",
    ),
)


@main.command(context_settings=CONTEXT_SETTINGS)
@_place_options
@_chain_options
@click.option(
    "--headers",
    type=click.Choice(get_args(Tracer)),
    default="w3c",
    help="By which headers the sidecars continue a trace.",
)
@click.option(
    "--gateway-port",
    type=click.IntRange(0, 65535),
    default=GATEWAY_PORT,
    help="Where to call; 0: any free one.",
)
@click.option("--host", default=LOOPBACK, help="The IP address that the gateway listens on.")
@click.option("--access-log/--no-access-log", help="Let each Envoy log every call.")
@_machine_options
@click.option("--detach", is_flag=True, help="Go on in the background when all is ready.")
def up(
    *,
    name: str,
    run_dir: Path,
    headers: Tracer,
    gateway_port: int,
    host: str,
    access_log: bool,
    store: Path,
    envoy: Path | None,
    detach: bool,
    **chain: Any,
) -> None:
    """Start a mesh and watch over it until Ctrl-C, or until a part of it dies."""
    with reporting_errors():
        place = Place(run_dir.absolute(), name)
        topology = _changed(Topology(hop_names(_DEFAULT_HOPS)), tracer=headers, **chain)
        topology = replace(topology, gateway_port=gateway_port, host=host, access_log=access_log)
        if detach:
            mesh = _detached(place, topology, store.absolute(), envoy)
            click.echo(show.ready(name, mesh))
            return
        started = time.monotonic()
        with (
            place.taken(),
            running_mesh(topology, place.folder, store.absolute(), envoy or installed_envoy()) as live,
        ):
            place.write(live.mesh)
            click.echo(f"{show.ready(name, live.mesh)}\n  ready in   {time.monotonic() - started:.1f} s")
            dead = _watched(live)
            click.secho(f"mesh {name} ends: {dead.obituary()}", fg="red", err=True)
    sys.exit(1)


def _watched(live: RunningMesh) -> Program:
    """Waits until a part dies, and returns it."""
    while (dead := live.dead()) is None:
        time.sleep(_WATCH_SECONDS)
    return dead


def _detached(place: Place, topology: Topology, store: Path, envoy: Path | None) -> Mesh:
    """Starts a mesh with a watcher of its own, and waits until it is ready."""
    place.check_free()
    command = [installed("hello-grpc-mesh"), "up", "--name", place.name, "--run-dir", str(place.base)]
    command += ["--store", str(store), *_as_options(topology), *(["--envoy", str(envoy)] if envoy else [])]
    with file_errors(), place.output.open("wb") as output:
        watcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while watcher.poll() is None:
            if place.watcher() == watcher.pid and (mesh := place.read()) is not None:
                return mesh
            time.sleep(POLL_SECONDS)
    except BaseException:  # whatever it is, also a signal: nobody is told of the mesh, so it must not stay
        watcher.terminate()
        watcher.wait()
        raise
    click.echo(place.output.read_text(errors="replace"), err=True, nl=False)
    sys.exit(watcher.returncode)


def _as_options(topology: Topology) -> list[str]:
    """The options of `up` that make this topology."""
    found = ["--hops", str(len(topology.hops)), "--headers", topology.tracer]
    found += ["--gateway-port", str(topology.gateway_port), "--host", topology.host]
    found += ["--mtls" if topology.mtls else "--no-mtls"]
    found += ["--access-log" if topology.access_log else "--no-access-log"]
    found += ["--drop-at", topology.drop_at] if topology.drop_at is not None else []
    return found + [word for fault in topology.faults for word in ("--fault", str(fault))]


def _changed(
    topology: Topology,
    *,
    hops: int | None,
    drop_at: str | None,
    faults: tuple[Any, ...],
    mtls: bool | None,
    tracer: Tracer | None,
) -> Topology:
    """A topology with what was asked for, and otherwise as it is."""
    asked: dict[str, Any] = {
        "hops": hop_names(hops) if hops is not None else None,
        "drop_at": drop_at,
        "faults": faults or None,
        "mtls": mtls,
        "tracer": tracer,
    }
    return replace(topology, **{key: value for key, value in asked.items() if value is not None})


@main.command(context_settings=CONTEXT_SETTINGS)
@_place_options
def status(*, name: str, run_dir: Path) -> None:
    """Show each part of a mesh that runs, and whether it is ready."""
    with reporting_errors():
        place = Place(run_dir.absolute(), name)
        mesh = place.read()
        if mesh is None:
            click.echo(_absent(place), err=True)
            sys.exit(1)
        states = {part: part.is_ready() for part in mesh.parts}
    click.echo(show.status(name, mesh, states))
    sys.exit(0 if all(states.values()) else 1)


def _absent(place: Place) -> str:
    if place.watcher() is not None:
        return f"mesh {place.name} is starting, or ending"
    text = f"mesh {place.name} does not run"
    return f"{text}; when it last did, it said:\n{tail(place.output)}" if place.output.exists() else text


@main.command(context_settings=CONTEXT_SETTINGS)
@_place_options
def down(*, name: str, run_dir: Path) -> None:
    """End a mesh, all of it and nothing else."""
    with reporting_errors():
        ended = Place(run_dir.absolute(), name).down()
    click.echo(f"mesh {name} has ended" if ended else f"mesh {name} does not run")


@main.command(context_settings=CONTEXT_SETTINGS)
@click.argument("part", required=False)
@_place_options
def config(*, part: str | None, name: str, run_dir: Path) -> None:
    """Print what an Envoy of a mesh that runs was given: that of a hop (svc1), or of the `gateway`.

    Without PART, those of all, as one JSON object.
    """
    with reporting_errors():
        place, mesh = _present(name, run_dir)
        envoys = [each.name for each in mesh.parts if each.admin is not None]
        texts = {each: config_path(place.folder, each).read_text(encoding="utf-8") for each in envoys}
        if part is not None:
            click.echo(texts[_one_of(envoys, part, sidecar_name(full_name(part)))], nl=False)
            return
    click.echo(json.dumps({each: json.loads(text) for each, text in texts.items()}, indent=2))


@main.command(context_settings=CONTEXT_SETTINGS)
@click.argument("part", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until the mesh ends.")
@_place_options
def logs(*, part: str | None, follow: bool, name: str, run_dir: Path) -> None:
    """Print what the parts of a mesh that runs have logged, or one of them."""
    with reporting_errors():
        place, mesh = _present(name, run_dir)
        names = [each.name for each in mesh.parts]
        if part is not None:
            names = [_one_of(names, part, full_name(part))]
        goes_on = (lambda: place.watcher() is not None) if follow else (lambda: False)
        for line in logs_.lines([(each, log_path(place.folder, each)) for each in names], goes_on):
            click.echo(line)


def _present(name: str, run_dir: Path) -> tuple[Place, Mesh]:
    place = Place(run_dir.absolute(), name)
    mesh = place.read()
    if mesh is None:
        raise RuntimeEnvironmentError(f"{_absent(place)}: start it with hello-grpc-mesh up")
    return place, mesh


def _one_of(names: Sequence[str], *spellings: str) -> str:
    """The name among `names` that somebody means."""
    for name in spellings:
        if name in names:
            return name
    raise UsageError(f"no part is named {excerpt(spellings[0])}: use {', '.join(names)}")


@main.command(context_settings=CONTEXT_SETTINGS)
@_place_options
@_chain_options
@click.option(
    "--headers",
    type=click.Choice(get_args(Headers)),
    show_default="w3c, or those of the mesh that runs",
    help="By which headers sidecars continue the trace that the client begins; both: one after the other.",
)
@click.option("--repeat", type=click.IntRange(1, 100_000), default=1, help="How often to call each pattern.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, help="How many calls at once.")
@_machine_options
def test(
    *,
    name: str,
    run_dir: Path,
    headers: Headers | None,
    repeat: int,
    concurrency: int,
    store: Path,
    envoy: Path | None,
    **chain: Any,
) -> None:
    """Call all four patterns through a mesh; judge each answer, each hop report and each whole trace.

    The mesh that runs is used where it is as the options want it; otherwise one is started on free ports, and
    ended again. A call that an `abort` of --fault fails is right if its trace is one tree down to that hop.
    """
    with reporting_errors():
        place = Place(run_dir.absolute(), name)
        passed = True
        for tracer in get_args(Tracer) if headers == "both" else (headers,):
            with _mesh_for_test(place, store, envoy, tracer=tracer, **chain) as (mesh, dead):
                click.secho(f"== {show.summary(mesh.topology)}", bold=True)
                calls = Calls(headers or mesh.topology.tracer, repeat, concurrency)
                passed = check(mesh, calls) and passed
                if died := dead():
                    click.secho(f"FAILED: {died.obituary()}", fg="red")
                    passed = False
    sys.exit(0 if passed else 1)


@contextmanager
def _mesh_for_test(
    place: Place, store: Path, envoy: Path | None, **chain: Any
) -> Iterator[tuple[Mesh, Callable[[], Program | None]]]:
    """Yield the mesh for the test, and a function that returns a component that exited."""
    with tempfile.TemporaryDirectory(prefix="hello-grpc-") as temporary:
        folder = Path(temporary)
        mesh = place.read()
        if mesh is not None and _changed(mesh.topology, **chain) == mesh.topology:
            yield mesh, lambda: None
            return
        topology = replace(_changed(Topology(hop_names(_DEFAULT_HOPS)), **chain), gateway_port=0)
        with running_mesh(topology, folder, store.absolute(), envoy or installed_envoy()) as live:
            yield live.mesh, live.dead
