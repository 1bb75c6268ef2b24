"""The image: its content, and containers that run as in a cluster."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HOPS = ("svc1", "svc2", "svc3")

# Like the pods in kube/: a read-only root file system, and no capabilities.
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")

# The first test also builds the image.
pytestmark = pytest.mark.timeout(600)


def inspected(workshop: Any, image: str) -> dict[str, Any]:
    """Return the configuration of an image."""
    (found,) = json.loads(workshop.podman("image", "inspect", image))
    config: dict[str, Any] = found["Config"]
    return config


def python(workshop: Any, image: str, program: str) -> list[str]:
    """Run a Python program in a container, and return the lines that it prints."""
    command = ("run", "--rm", "--network=none", *HARDENED, "--entrypoint=python", image, "-c", program)
    lines: list[str] = workshop.podman(*command).splitlines()
    return lines


def test_the_image_is_described(workshop: Any, image: str) -> None:
    labels = inspected(workshop, image)["Labels"]
    prefix = "org.opencontainers.image."
    found = {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
    assert found["title"] == "hello-servicemesh-grpc"
    assert found["licenses"] == "Apache-2.0"
    assert found["description"]


def test_the_image_runs_the_server_as_an_unprivileged_user(workshop: Any, image: str) -> None:
    config = inspected(workshop, image)
    assert config["Entrypoint"] == ["hello-grpc-server"]
    assert config["User"] == "10001:10001"
    assert config["ExposedPorts"] == {"9996/tcp": {}}
    user = "import os, pwd; print(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name)"
    assert python(workshop, image, user) == ["10001 10001 hello"]


# Finds everything that installs, builds or tests.
LEFTOVERS = """
import os, re
packages = "(pip|ensurepip|setuptools|pkg_resources|_distutils_hack|pytest|hatchling)(-[0-9].*)?|.*[.]whl"
programs = "(pip|wheel|pytest|gcc|g[+][+]|cc|c[+][+]|clang|ld|as|make|cargo|go)[-0-9.]*"
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys")]
    for name in folders + files:
        is_program = os.path.basename(folder) in ("bin", "sbin") and re.fullmatch(programs, name)
        is_test = folder.startswith("/app") and name in ("test", "tests")
        if is_program or is_test or re.fullmatch(packages, name):
            print(os.path.join(folder, name))
"""


def test_the_image_has_nothing_that_installs_builds_or_tests(workshop: Any, image: str) -> None:
    assert python(workshop, image, LEFTOVERS) == []


def test_the_search_for_leftovers_finds_them_in_the_base_image(workshop: Any, base_image: str) -> None:
    command = ("run", "--rm", "--network=none", "--entrypoint=python3", base_image, "-c", LEFTOVERS)
    found = {Path(line).name.partition("-")[0] for line in workshop.podman(*command).splitlines()}
    assert {"ensurepip", "pip", "setuptools"} <= found


def test_the_image_has_byte_code_of_all_imports_of_a_hop(workshop: Any, image: str) -> None:
    program = """
import os, sys, grpc_server.cli, grpc_server.server
cached = {name: getattr(module, "__cached__", None) for name, module in sys.modules.items()}
print(len(cached) > 100, [name for name, path in cached.items() if path and not os.path.exists(path)])
"""
    assert python(workshop, image, program) == ["True []"]


def test_a_container_can_sleep_and_run_the_client(workshop: Any, image: str) -> None:
    command = ("run", "--rm", "--network=none", *HARDENED, "--entrypoint=sh", image, "-c")
    assert "--expect-hops" in workshop.podman(*command, "sleep 0.1 && hello-grpc-client --help")


@pytest.fixture
def hops(workshop: Any, image: str) -> Iterator[None]:
    """Run a chain of three containers."""
    workshop.podman("network", "create", workshop.network)
    for name, following in zip(HOPS, (*HOPS[1:], None), strict=True):
        settings = {"GRPC_HELLO_NAME": name} | ({"GRPC_HELLO_BACKEND": following} if following else {})
        variables = [f"--env={key}={value}" for key, value in settings.items()]
        options = ("--detach", f"--name={name}", f"--network={workshop.network}")
        workshop.podman("run", *options, *HARDENED, *variables, image)
    yield
    workshop.podman("rm", "--all", "--force", "--time", "0")
    workshop.podman("network", "rm", workshop.network)


@pytest.fixture
def caller(workshop: Any, image: str) -> tuple[str, ...]:
    """Return the arguments of `podman run` with which the client calls the first hop."""
    where = [f"--env=GRPC_SERVER={HOPS[0]}", f"--network={workshop.network}"]
    return (*where, *HARDENED, "--entrypoint=hello-grpc-client", image)


@pytest.mark.usefixtures("hops")
def test_a_chain_of_containers_answers_all_four_patterns(workshop: Any, caller: tuple[str, ...]) -> None:
    call = ("all", "--connect-timeout", "60", "--expect-hops", ",".join(HOPS), "--output", "json")
    output = workshop.podman("run", "--rm", *caller, *call)
    ended = [found for found in map(json.loads, output.splitlines()) if "verdict" in found]
    assert [found["verdict"]["kind"] for found in ended] == ["no-sidecar"] * 4
    assert [[hop["name"] for hop in found["hops"]] for found in ended] == [list(HOPS)] * 4


@pytest.mark.usefixtures("hops")
def test_a_stopped_hop_finishes_its_calls(workshop: Any, caller: tuple[str, ...]) -> None:
    call = ("talk-bidirectional", "--connect-timeout", "60", "--data", "0,1,2,3,4,5", "--interval", "0.5")
    workshop.podman("run", "--detach", "--name=caller", *caller, *call)
    deadline = time.monotonic() + 30
    while "Hello" not in workshop.podman("logs", "caller"):
        assert time.monotonic() < deadline, "no response after 30 s"
    started = time.monotonic()
    workshop.podman("stop", "--time", "20", "svc2")
    assert time.monotonic() - started < 10
    assert workshop.podman("wait", "svc2", "caller").split() == ["0", "0"]
    assert "안녕하세요" in workshop.podman("logs", "caller")


@pytest.mark.usefixtures("image")
def test_a_failed_build_is_reported_with_the_real_tool(workshop: Any) -> None:
    done = workshop.build("--tag", "broken", base="localhost/missing:1")
    assert (done.returncode, done.stdout) == (1, "")
    expected = "docker/build.sh: buildah cannot build hello-servicemesh-grpc:broken, see above"
    assert done.stderr.splitlines()[-1] == expected
