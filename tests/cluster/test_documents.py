"""The cluster blocks of the documents: run as they are written, in their order, against fake API servers.

Behind the address of the gateway is a real mesh. Only docker is a stand-in: tests/images builds the image.
"""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import BLOCKS, DOCUMENTS, ROOT, Block
from meshes import ADDRESS, Meshes, run_in_mesh
from planes import Planes
from script_runs import PORT, output, run, start, succeeds

CLUSTER_BLOCKS = [block for block in BLOCKS if block.tier == "cluster"]
DOCUMENTED_GATEWAY = "203.0.113.7"
FOLLOW_LOGS = "./apply.sh logs\n"
"""Runs until Ctrl-C."""


@pytest.fixture
def istio(one_plane: Planes) -> Planes:
    """Start a cluster with Istio, with a gateway that has port 9999."""
    one_plane.add_gateway(PORT)
    return one_plane


@pytest.fixture
def environment(asm: Planes, istio: Planes, mesh_at: Meshes, tmp_path: Path) -> dict[str, str]:
    """Apply the demo to ASM and to Istio, and return the variables of a user of both."""
    # test.sh sends both header families, and one document also sends B3 alone.
    mesh_at(tracer="b3")
    for plane in (asm.cluster, istio.cluster):
        plane.behaviour.load_balancer = {"ip": ADDRESS}
        plane.exec_with(run_in_mesh)
        plane.write_logs("grpc-server-deploy1", "INFO svc1: Talk")
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\n", encoding="ascii")
    docker.chmod(0o755)
    kubectl = {"KUBECONFIG": str(istio.cluster.kubeconfig)}
    succeeds(run("apply.sh", asm))
    succeeds(run("apply.sh", istio, target="istio", env=kubectl))
    path = f"{docker.parent}{os.pathsep}{asm.environment['PATH']}"
    return {**asm.environment, **kubectl, "PATH": path, "PASSWORD": "secret"}


@pytest.fixture
def terminal() -> Iterator[int]:
    """Return a terminal on which the user answers the first question with yes."""
    user, program = pty.openpty()
    os.write(user, b"y\n")
    yield program
    os.close(program)
    os.close(user)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if document in {block.document for block in CLUSTER_BLOCKS}],
    ids=lambda path: path.name,
)
def test_the_cluster_blocks_of_a_document_work_in_their_order(
    document: Path, asm: Planes, environment: dict[str, str], terminal: int
) -> None:
    for block in (block for block in CLUSTER_BLOCKS if block.document == document):
        if FOLLOW_LOGS in block.code:
            _follow_logs_until_ctrl_c(asm)
        _run(block, environment, terminal)


def _run(block: Block, environment: dict[str, str], terminal: int) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _without_waits(block.code)],
        cwd=ROOT,
        env=environment,
        check=False,
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == block.exit_code, f"{block}\n{done.stdout}{done.stderr}"


def _without_waits(code: str) -> str:
    return code.replace(DOCUMENTED_GATEWAY, ADDRESS).replace(FOLLOW_LOGS, "")


def _follow_logs_until_ctrl_c(planes: Planes) -> None:
    with start("apply.sh", planes, "logs") as running:
        assert output(running).readline() == "grpc-server-svc1 | INFO svc1: Talk\n"
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(30) == 128 + signal.SIGINT
