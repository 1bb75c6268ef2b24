"""Build images with docker/build.sh and run them, in a storage of the tests, without a registry.

debootstrap creates the base image from the package mirror of this host.
"""

import os
import platform
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

BASE_IMAGE = "localhost/test-base:1"
MESH_IMAGE = "localhost/test-mesh:1"
"""Replaces the images of Envoy and Jaeger."""

_CA = "/etc/ssl/certs/ca-certificates.crt"

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""

# Independent of the user's podman and of systemd. Every host allows these limits.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{folder}/tmp"

[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Workshop:
    """The container tools, with a storage and networks that are removed after the tests."""

    folder: Path

    @property
    def network(self) -> str:
        """Return a unique network name: networks of one name share a DNS server."""
        return f"hello-test-{os.getpid()}"

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment variables with the configuration of the tools."""
        return {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
        }

    def root(self, *command: str | Path, timeout: float = 300, **variables: str) -> Done:
        """Run a command as root, outside of the repository."""
        environment = [f"{key}={value}" for key, value in (self.settings | variables).items()]
        # On Debian, only root has these folders on PATH.
        environment.append(f"PATH={os.environ['PATH']}:/usr/sbin:/sbin")
        return subprocess.run(
            [*_SUDO, "env", *environment, *command],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def podman(self, *arguments: str, timeout: float = 60) -> str:
        """Run podman, assert success, and return its output."""
        done = self.root("podman", *arguments, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, *options: str, base: str = BASE_IMAGE) -> Done:
        """Run docker/build.sh with buildah, on our base image."""
        # build.sh uses the first tool that answers: these two do not.
        silent = self.folder / "silent"
        silent.mkdir(exist_ok=True)
        for name in ("docker", "podman"):
            (silent / name).write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
            (silent / name).chmod(0o755)
        path = f"PATH={silent}:{os.environ['PATH']}:/usr/sbin:/sbin"
        command: list[str | Path] = ["env", path, "sh", ROOT / "docker/build.sh", *options, "--"]
        command += ["--build-arg", f"BASE_IMAGE={base}", *_package_index(), "--network", "host"]
        return self.root(*command)

    def clean_up(self) -> None:
        """Remove all containers, networks and files."""
        self.podman("rm", "--all", "--force", "--time", "0")
        self.podman("network", "prune", "--force")
        done = self.root("rm", "-rf", *self.folder.iterdir())
        assert done.returncode == 0, done.stderr


_SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]


def _package_index() -> list[str]:
    """Return build arguments with the pip settings of this host. The base image has its CA certificates."""
    variables = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
    settings = {name: os.environ[name] for name in variables if name in os.environ} | {"PIP_CERT": _CA}
    return [word for name, value in settings.items() for word in ("--build-arg", f"{name}={value}")]


def _missing_requirement() -> str | None:
    """Return why containers cannot run here, or None."""
    done = subprocess.run(
        [ROOT / "scripts/containers", "--check"], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        return done.stderr.strip()
    if _SUDO and subprocess.run([*_SUDO, "true"], check=False, capture_output=True).returncode != 0:
        return "not root: run as root, or with sudo without a password"
    return None


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Return the container tools. Without them, skip the test; in CI, fail it."""
    if sys.platform != "linux":
        pytest.skip("Linux containers need Linux")
    if (reason := _missing_requirement()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    created = Workshop(tmp_path_factory.mktemp("containers"))
    for name, text in (("storage.conf", _STORAGE), ("containers.conf", _CONTAINERS)):
        (created.folder / name).write_text(text.format(folder=created.folder), encoding="utf-8")
    yield created
    created.clean_up()


def _mirror() -> tuple[str, str, str]:
    """Return the release, the components and the URL of the package mirror of this host."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = ["apt-get", "indextargets", "Created-By: Packages"]
    command += ["--format", "$(RELEASE) $(REPO_URI) $(COMPONENT)"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sources = [line.split() for line in listed.splitlines()]
    address = next(uri for name, uri, _ in sources if name == release)
    components = {component for name, uri, component in sources if (name, uri) == (release, address)}
    return release, ",".join(sorted(components)), address


@pytest.fixture(scope="session")
def base_image(workshop: Workshop) -> str:
    """Create a base image with Python and nothing else."""
    release, components, address = _mirror()
    system = workshop.folder / "system"
    command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv"]
    done = workshop.root(*command, f"--components={components}", release, system, address)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    _copy_ca_certificates(workshop, system)
    script = f"tar --create --directory {system} . | podman import - {BASE_IMAGE} && rm -r {system}"
    done = workshop.root("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return BASE_IMAGE


def _copy_ca_certificates(workshop: Workshop, system: Path) -> None:
    """Copy the CA certificates of this host, which pip may need for the package index."""
    found = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    assert found is not None, "this host has no CA certificates"
    workshop.root("mkdir", "-p", f"{system}{Path(_CA).parent}")
    done = workshop.root("cp", "--dereference", found, f"{system}{_CA}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def image(workshop: Workshop, base_image: str) -> str:
    """Return the name of the image that docker/build.sh built."""
    done = workshop.build(base=base_image)
    assert done.returncode == 0, done.stderr
    return f"localhost/{done.stdout.strip()}"


@pytest.fixture(scope="session")
def mesh_image(workshop: Workshop, base_image: str) -> str:
    """Build an image with Envoy and the collector of the local mesh."""
    command: list[str | Path] = [
        "buildah",
        "build",
        "--file",
        ROOT / "tests/images/mesh.Dockerfile",
        "--network",
        "host",
    ]
    command += ["--build-arg", f"BASE_IMAGE={base_image}", *_package_index(), "--tag", MESH_IMAGE, ROOT]
    done = workshop.root(*command)
    assert done.returncode == 0, done.stderr
    return MESH_IMAGE


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder for PATH with the commands that the scripts need, and no container tool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (
        "sh",
        "bash",
        "basename",
        "cat",
        "dirname",
        "env",
        "id",
        "sed",
        "tr",
        "uname",
    ):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder
