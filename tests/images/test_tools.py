"""scripts/containers: it says what is missing for these tests, and installs nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts/containers"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers of Linux need Linux")


def run(*arguments: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Runs the script with `path` as PATH."""
    environment = os.environ | {"PATH": str(path)}
    command = [str(path / "sh"), str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def test_what_is_missing_is_named(tools: Path) -> None:
    done = run("--check", path=tools)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("containers: not installed: buildah podman ")
    assert line.endswith("- scripts/containers installs it on Debian and Ubuntu")


def test_without_a_way_to_install_the_packages_are_named(tools: Path) -> None:
    done = run(path=tools)
    assert done.returncode == 3
    assert done.stderr.startswith("containers: no apt-get here; install by other means: buildah podman ")


def test_an_unknown_argument_is_wrong_usage(tools: Path) -> None:
    done = run("nonsense", path=tools)
    assert (done.returncode, done.stderr) == (2, "usage: scripts/containers [--check]\n")
