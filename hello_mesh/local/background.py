"""A mesh in the background: a watcher process of its own, which outlives the command that started it."""

import subprocess
import sys
import time
from pathlib import Path

import click

from hello_mesh.local.files import file_errors
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.processes import WAIT_SECONDS, installed_command
from hello_mesh.local.run_dir import RunDir
from hello_mesh.local.topology import Topology


def start_in_background(run_dir: RunDir, topology: Topology, store: Path, envoy: Path | None) -> Mesh:
    """Start a mesh with a watcher of its own, wait until it is ready, and return it.

    If it does not become ready, print its output and exit with its exit code.
    """
    run_dir.check_free()
    command = [installed_command("hello-grpc-mesh"), "up", "--run-dir", str(run_dir.path)]
    command += ["--store", str(store), *_up_options(topology), *(["--envoy", str(envoy)] if envoy else [])]
    with file_errors(), run_dir.output.open("wb") as output:
        watcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while watcher.poll() is None:
            if run_dir.watcher() == watcher.pid and (mesh := run_dir.read()) is not None:
                return mesh
            time.sleep(WAIT_SECONDS)
    except BaseException:  # also a signal: the mesh was not reported, so it must not stay
        watcher.terminate()
        watcher.wait()
        raise
    click.echo(run_dir.output.read_text(errors="replace"), err=True, nl=False)
    sys.exit(watcher.returncode)


def _up_options(topology: Topology) -> list[str]:
    """Return the options of `up` that create this topology."""
    options = ["--hops", str(len(topology.hops)), "--headers", topology.tracer]
    options += ["--gateway-port", str(topology.gateway_port), "--host", topology.host]
    options += ["--access-log" if topology.access_log else "--no-access-log"]
    if topology.no_forward_hop is not None:
        options += ["--drop-at", topology.no_forward_hop]
    return options + [word for fault in topology.faults for word in ("--fault", str(fault))]
