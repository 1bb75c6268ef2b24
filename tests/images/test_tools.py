"""scripts/containers reports the missing packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts/containers"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux containers need Linux")


def run(*arguments: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """Run the script with `path` as PATH."""
    environment = os.environ | {"PATH": str(path)}
    command = [str(path / "sh"), str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def test_missing_packages_are_reported(tools: Path) -> None:
    done = run("--check", path=tools)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("containers: not installed: buildah podman")
    assert line.endswith(": run scripts/containers (Debian and Ubuntu)")


def test_without_apt_get_the_packages_are_reported(tools: Path) -> None:
    done = run(path=tools)
    assert done.returncode == 3
    assert done.stderr.startswith("containers: apt-get not found: install these packages: buildah podman")


def test_an_unknown_argument_is_wrong_usage(tools: Path) -> None:
    done = run("nonsense", path=tools)
    assert (done.returncode, done.stderr) == (2, "usage: scripts/containers [--check]\n")
